"""Lists whose place is known before anybody judges them: what a judge that can be trusted must tell apart.

They are put against the requests of a reference run: `oracle` are the unseen items whose tags are nearest to the request, `random` and
`popularity` what their names say; `mismatched` are the reference's own lists, put against other users' requests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bench.contracts import Dataset, Floats, Ints, Lists, Longs, Requests
from bench.encoding_cache import CachedEncoder
from bench.ranking import top_k
from bench.rng import named_generator
from judges.tags import tag_vectors

BLOCK = 256
ORACLE, RANDOM, POPULARITY, MISMATCHED = "oracle", "random", "popularity", "mismatched"


def oracle(dataset: Dataset, lists: Lists, encoder: CachedEncoder) -> Lists:
    """The unseen items with the tag nearest to the request, by the cosine of a sentence encoder."""
    vectors, first = tag_vectors(dataset.catalogue, encoder)
    words = encoder.encode(list(lists.requests.prompts or ()))
    return _ranked(lists, lambda rows: np.maximum.reduceat(words[rows] @ vectors.T, first, axis=1))


def random(dataset: Dataset, lists: Lists, seed: int) -> Lists:
    """Unseen items, drawn uniformly."""
    generator, size = named_generator(seed, "judge-audit", RANDOM), len(dataset.catalogue)
    return _ranked(lists, lambda rows: generator.random((len(rows), size), np.float32))


def popularity(dataset: Dataset, lists: Lists) -> Lists:
    """The unseen items with the most train events."""
    counts = np.bincount(dataset.train_events().values, minlength=len(dataset.catalogue)).astype(np.float32)
    return _ranked(lists, lambda rows: np.repeat(counts[None], len(rows), axis=0))


def mismatched(lists: Lists) -> Lists:
    """The same users and lists under requests of others: example b gets the words of one half the examples further on."""
    size = len(lists)
    prompts = lists.requests.prompts or ()
    return replace(
        lists, requests=replace(lists.requests, prompts=tuple(prompts[_other(lists.requests, b)] for b in range(size)))
    )


def reversed_lists(lists: Lists) -> Lists:
    """Every list from its last item to its first."""
    return replace(lists, items=_reordered(lists.items, lambda size: np.arange(size)[::-1]))


def shuffled_lists(lists: Lists, seed: int) -> Lists:
    """Every list in an order drawn by the seed."""
    generator = named_generator(seed, "judge-audit", "shuffled")
    return replace(lists, items=_reordered(lists.items, generator.permutation))


def _other(requests: Requests, row: int) -> int:
    """The next row, from half of all on, of another user with other words; the row itself where there is none."""
    size, users, prompts = len(requests), requests.users, requests.prompts or ()
    for step in range(size):
        other = (row + size // 2 + step) % size
        if users[other] != users[row] and prompts[other] != prompts[row]:
            return other
    return row


def _ranked(lists: Lists, score: Callable[[Longs], Floats]) -> Lists:
    parts = []
    for start in range(0, len(lists), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(lists)))
        history = lists.requests.history.take(rows)
        parts.append(top_k(score(rows), history, lists.items.shape[1]).items)
    return replace(lists, items=np.concatenate(parts) if parts else lists.items)


def _reordered(items: Ints, order: Callable[[int], Longs]) -> Ints:
    made = items.copy()
    for row in made:
        filled = int((row >= 0).sum())
        row[:filled] = row[:filled][order(filled)]
    return made
