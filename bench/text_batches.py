"""Batches of texts for an encoder: every distinct text once, like lengths together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from bench.contracts import Bools, Floats, Progress

BATCH = 64


def clean(text: str) -> str:
    """The text with what is no character replaced by a question mark."""
    # Half of a surrogate pair is no character and tokenizers refuse it.
    return text.encode("utf-8", "replace").decode()


def encoded_batches(
    texts: list[str], encode: Callable[[list[str]], Floats], progress: Progress | None
) -> Iterator[tuple[list[int], Floats]]:
    """Encode distinct texts in batches of like length: rows of `texts`, and their vectors."""
    rows_of: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        rows_of.setdefault(text, []).append(row)
    # Like lengths share a batch because padding costs as much time as words do.
    distinct = sorted(rows_of, key=len, reverse=True)
    advance = progress.track("encoding texts", len(distinct)) if progress is not None and distinct else None
    for start in range(0, len(distinct), BATCH):
        batch = distinct[start : start + BATCH]
        vectors = np.asarray(encode([clean(text) for text in batch]), np.float32)
        counts = [len(rows_of[text]) for text in batch]
        yield [row for text in batch for row in rows_of[text]], np.repeat(vectors, counts, axis=0)
        if advance is not None:
            advance(len(batch))


def padded_states(rows: list[Floats], width: int) -> tuple[Floats, Bools]:
    """Token states of n texts, each float32 [its tokens, width], as float32 [n, T, width] with bool [n, T], which places are tokens."""
    longest = max(map(len, rows), default=0)
    states, real = np.zeros((len(rows), longest, width), np.float32), np.zeros((len(rows), longest), bool)
    for place, row in enumerate(rows):
        states[place, : len(row)], real[place, : len(row)] = row, True
    return states, real
