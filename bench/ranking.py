"""From scores to rankings, with seen items masked, and the same mask laid over every ranking that a model returns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.contracts import NO_ITEM, Bools, Floats, Ragged, Ranking, Requests

# Up to so many cells a mask over the catalogue is the fastest way to look items up; larger ones are not made.
MASK_CELLS = 1 << 27


def seen_mask(history: Ragged, n_items: int) -> Bools:
    """Items of each history, bool [B, n_items]."""
    mask = np.zeros((len(history), n_items), bool)
    mask[np.repeat(np.arange(len(history)), history.lengths), history.values] = True
    return mask


def top_k(scores: Floats, history: Ragged, k: int, extras: dict[str, npt.NDArray[np.generic]] | None = None) -> Ranking:
    """The k highest-scoring unseen items of each row.

    Args:
        scores: float32 [B, V]; -inf bars an item. Changed in place: seen items become -inf.
        history: seen items, a row an example.
        k: places; where fewer items are left, the rest hold NO_ITEM.
        extras: passed on to the ranking.

    Ties are broken by item index, so that the same scores give the same ranking everywhere.
    """
    rows, n_items = scores.shape
    k_kept = min(k, n_items)
    scores[np.repeat(np.arange(rows), history.lengths), history.values] = -np.inf
    cut = np.partition(scores, n_items - k_kept, axis=1)[:, n_items - k_kept] if k_kept < n_items else scores.min(1)
    # Candidates are all items at or above the k-th score; ties at the cut may add a few, and the stable sort settles them.
    at_row, item = np.nonzero(scores >= cut[:, None])
    value = scores[at_row, item]
    order = np.lexsort((item, -value, at_row))
    at_row, item, value = at_row[order], item[order], value[order]
    starts = np.searchsorted(at_row, np.arange(rows))
    place = np.arange(len(at_row)) - starts[at_row]
    inside = (place < k) & (value > -np.inf)
    items = np.full((rows, k), NO_ITEM, np.int32)
    best = np.full((rows, k), -np.inf, np.float32)
    items[at_row[inside], place[inside]] = item[inside]
    best[at_row[inside], place[inside]] = value[inside]
    return Ranking(items, best, extras=dict(extras or {}))


def _seen(items: npt.NDArray[np.int64], history: Ragged, n_items: int) -> Bools:
    """Which of the items, [B, k], are in the row's history."""
    row = np.arange(len(items))
    if len(items) * n_items <= MASK_CELLS:
        return seen_mask(history, n_items)[row[:, None], items]
    return np.isin(row[:, None] * n_items + items, np.repeat(row, history.lengths) * n_items + history.values)


def clean(ranking: Ranking, requests: Requests, n_items: int, k: int) -> tuple[Ranking, dict[str, int]]:
    """The ranking without seen, repeated and unknown items, closed up, cut to k places; and how many of each there were.

    Every ranking passes through here, whatever the model did by itself: a model that returns seen items loses the places.

    Returns:
        The ranking [B, k] and the counts `seen`, `duplicate`, `out_of_catalogue`, `short` (examples with empty places).
    """
    items = ranking.items.astype(np.int64)
    given = items != NO_ITEM
    unknown = given & ((items < 0) | (items >= n_items))
    safe = np.where(given & ~unknown, items, 0)
    seen = given & ~unknown & _seen(safe, requests.history, n_items)
    cells = np.arange(len(items))[:, None] * (n_items + 1) + np.where(given & ~unknown, items, n_items)
    first = np.zeros(items.shape, bool)
    first.flat[np.unique(cells, return_index=True)[1]] = True
    duplicate = given & ~unknown & ~first
    good = given & ~unknown & ~seen & ~duplicate
    order = np.argsort(~good, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(good, order, 1)
    out_items = np.full((len(items), k), NO_ITEM, np.int32)
    out_scores = np.full((len(items), k), -np.inf, np.float32)
    width = order.shape[1]
    out_items[:, :width] = np.where(kept, np.take_along_axis(items, order, 1), NO_ITEM)
    out_scores[:, :width] = np.where(kept, np.take_along_axis(ranking.scores, order, 1), -np.inf)
    counts = {
        "seen": int(seen.sum()),
        "duplicate": int(duplicate.sum()),
        "out_of_catalogue": int(unknown.sum()),
        "short": int((out_items == NO_ITEM).any(1).sum()),
    }
    return Ranking(out_items, out_scores, ranking.failed, ranking.extras), counts
