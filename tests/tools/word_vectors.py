"""An encoder in memory that reads words: texts that share words are near, and nothing has to be loaded."""

from __future__ import annotations

import re
import zlib
from functools import cache

import numpy as np

DIMENSION = 96


class WordVectors:
    """The mean of a random direction a word (stem of five letters), at unit length; a refusal's words count like any other."""

    card, identity = None, "word-vectors"

    def encode(self, texts, progress=None):
        rows = [self._vector(text) for text in texts]
        return np.asarray(rows, np.float32).reshape(len(texts), DIMENSION)

    def _vector(self, text):
        words = re.findall(r"[a-z]+", text.lower()) or ["nothing"]
        whole = sum(direction(word[:5]) for word in words)
        return whole / np.linalg.norm(whole)


@cache
def direction(stem):
    return np.random.default_rng(zlib.crc32(stem.encode())).normal(size=DIMENSION)
