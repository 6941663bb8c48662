"""Ranking metrics of every example, vectorised over the batch. Averages and intervals are made in `bench.statistics`.

Notation: B examples, k cut-off, `items` int32 [B, K] with K >= k and NO_ITEM in empty places, relevance is binary.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.contracts import NO_ITEM, Bools, Intent, Ints, Ragged

Column = npt.NDArray[np.float64]


def hits(items: Ints, targets: Ragged) -> Bools:
    """Which places hold a target, bool [B, K]. A target counts once, at its first place."""
    rows, places = items.shape
    width = int(max(items.max(initial=0), targets.values.max(initial=0))) + 2
    owner = np.repeat(np.arange(rows, dtype=np.int64), targets.lengths)
    wanted = np.sort(owner * width + targets.values)
    cells = np.arange(rows, dtype=np.int64)[:, None] * width + np.where(items == NO_ITEM, width - 1, items)
    found = np.zeros((rows, places), bool)
    if len(wanted):
        near = np.searchsorted(wanted, cells)
        found = (wanted[np.minimum(near, len(wanted) - 1)] == cells) & (items != NO_ITEM)
    first = np.zeros_like(found)
    _, where = np.unique(cells, return_index=True)
    first.flat[where] = True
    return found & first


def recall(hit: Bools, n_targets: npt.NDArray[np.integer], k: int) -> Column:
    """Recall@k = targets among the first k places / number of targets, float64 [B]."""
    return hit[:, :k].sum(1) / np.maximum(n_targets, 1)


def ndcg(hit: Bools, n_targets: npt.NDArray[np.integer], k: int) -> Column:
    """NDCG@k with binary gain and discount 1 / log2(place + 1), normalised by the best order of min(targets, k), float64 [B]."""
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[np.inf], discount.cumsum()])
    gained = hit[:, :k] @ discount[: hit[:, :k].shape[1]]
    best = ideal[np.minimum(n_targets, k)]
    return np.asarray(gained / best, np.float64)


def complies(items: Ints, intent: Intent) -> Bools:
    """Which places hold an item that the example's rule allows, bool [B, K]; False in empty places."""
    allowed = intent.allowed[np.maximum(intent.rule, 0)[:, None], np.maximum(items, 0)]
    return allowed & (items != NO_ITEM) & (intent.rule >= 0)[:, None]


def compliance(comply: Bools, k: int) -> Column:
    """Compliance@k = share of the k places with a compliant item; an empty place does not comply, float64 [B]."""
    return comply[:, :k].sum(1) / k


def violation(items: Ints, comply: Bools, k: int) -> Column:
    """Violation@k = share of the k places with an item that breaks the rule; an empty place breaks nothing, float64 [B]."""
    return ((items[:, :k] != NO_ITEM) & ~comply[:, :k]).sum(1) / k


def first_violation(items: Ints, comply: Bools) -> Column:
    """Place (1 is the top) of the first item that breaks the rule, K + 1 where none does, float64 [B]."""
    broken = (items != NO_ITEM) & ~comply
    return np.where(broken.any(1), broken.argmax(1) + 1.0, items.shape[1] + 1.0)
