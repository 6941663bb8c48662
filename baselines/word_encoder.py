"""A bag of words as a sentence encoder: a control that knows the letters of a prompt and no meaning.

Every word has a fixed random direction (a random projection of the bag of words: Achlioptas 2003, "Database-friendly random
projections"). What a model gains over it with a sentence encoder is what that encoder knows of meaning; what it loses is what
that encoder blurs: "no horror" and "something scary" share nothing here, and two genres of one kind are never taken for each other.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import ClassVar

import numpy as np

from bench.cards import EncoderCard
from bench.contracts import Bools, Floats, Progress
from bench.text_batches import clean, padded_states

DIMENSION = 384
_WORD = re.compile(r"[^\W_]+")


@lru_cache(maxsize=100_000)
def _direction(word: str) -> Floats:
    """The unit vector of a word, float32 [384]: the same on every machine, nearly at right angles to any other word's."""
    bits = np.unpackbits(np.frombuffer(hashlib.blake2b(word.encode(), digest_size=DIMENSION // 8).digest(), np.uint8))
    vector: Floats = ((2.0 * bits - 1.0) / DIMENSION**0.5).astype(np.float32)
    vector.setflags(write=False)
    return vector


def _directions(text: str) -> Floats:
    """Those of a text's words in lower case, float32 [words, 384]."""
    # A text without a word is the empty word, so that every vector has a length.
    return np.stack([_direction(word) for word in _WORD.findall(clean(text).lower()) or [""]])


class BagOfWords:
    """Sums of random directions, one a word, at unit length. Needs no weights, no package and no network."""

    card: ClassVar[EncoderCard] = EncoderCard(
        name="bag-of-words",
        summary="Random projection of the bag of words to 384 dimensions: a control without any knowledge of meaning.",
        citation="https://doi.org/10.1016/S0022-0000(03)00025-4",
        licence="Apache-2.0",
        dimension=DIMENSION,
    )
    identity: str = "bag-of-words@1"

    def encode(self, texts: list[str], progress: Progress | None = None) -> Floats:
        """Unit-length vectors, float32 [len(texts), 384], of the words in lower case, each as often as it stands there."""
        out = np.empty((len(texts), DIMENSION), np.float32)
        for row, text in enumerate(texts):
            out[row] = _directions(text).sum(0)
        return out / np.linalg.norm(out, axis=1, keepdims=True).clip(1e-9)

    def encode_tokens(self, texts: list[str]) -> tuple[Floats, Bools]:
        """The directions of the words of each text, float32 [n, T, 384], and which places are words, bool [n, T]."""
        return padded_states([_directions(text) for text in texts], DIMENSION)
