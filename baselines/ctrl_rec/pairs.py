"""Which items are judged under a request: 5 nearest by text, 5 that the base model gives somebody, 10 at random."""

from __future__ import annotations

import numpy as np

from bench.contracts import NO_ITEM, Dataset, Floats, Ints, Recommender, Requests
from bench.rng import named_generator

NEAREST, FROM_BASE, AT_RANDOM = 5, 5, 10
# People whose lists the base model's items come from; requests share them.
PEOPLE = 1024


def propose(near: Floats, lists: Ints, seed: int, start: int = 0) -> Ints:
    """The items of each request, all different, int32 [N, 20] (fewer columns where the catalogue is smaller).

    Args:
        near: similarity of each request with each item, float32 [N, V].
        lists: what the base model gives the people, int32 [P, k], NO_ITEM where a place is empty.
        seed: of the draws.
        start: number of the first request among all of them: the draws of a request are its own.
    """
    n_items = near.shape[1]
    width = min(NEAREST + FROM_BASE + AT_RANDOM, n_items)
    found = np.empty((len(near), width), np.int32)
    for row, similarity in enumerate(near):
        rng = named_generator(seed, "ctrl_rec", f"pairs {start + row}")
        best = np.argsort(-similarity, kind="stable")[:NEAREST]
        given = lists[rng.integers(len(lists))]
        given = given[(given != NO_ITEM) & ~np.isin(given, best)][:FROM_BASE]
        chosen = np.concatenate([best, given])
        others = np.setdiff1d(np.arange(n_items), chosen)
        drawn = rng.choice(others, min(width - min(len(chosen), width), len(others)), replace=False)
        found[row] = np.concatenate([chosen, drawn])[:width]
    return found


def people_lists(base: Recommender, dataset: Dataset, seed: int) -> Ints:
    """What a base model gives people after their train slice, int32 [P, 10]."""
    events = dataset.train_events()
    able = np.flatnonzero(events.lengths > 0)
    rng = named_generator(seed, "ctrl_rec", "people")
    users = np.sort(rng.permutation(able)[:PEOPLE])
    return base.rank(Requests(users.astype(np.int32), events.take(users)), NEAREST + FROM_BASE).items
