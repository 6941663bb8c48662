"""Where queries stand in a user's history, and the closest future events that comply with something."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bench.contracts import Bools, Dataset, Ints, Longs, Ragged

Positions = Literal["first", "rolling"]


@dataclass(frozen=True)
class Queries:
    """Q queries: `user` int64 [Q] asks after `cut` events (int64 [Q]); the future is the slice up to `end` (exclusive)."""

    user: Longs
    cut: Longs
    end: Longs

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: npt.NDArray[np.integer] | Bools) -> Queries:
        """The given queries."""
        return Queries(self.user[rows], self.cut[rows], self.end[rows])


def queries(dataset: Dataset, split: str, positions: Positions) -> Queries:
    """Queries of a split, users in order, at least one future event each.

    Args:
        dataset: with test events.
        split: "valid" (history is train) or "test" (history is train and validation).
        positions: "first" asks once a user, at the start of the split; "rolling" before every event of it.
    """
    if split not in ("valid", "test"):
        raise ValueError(f"split is 'valid' or 'test', not {split!r}")
    start, end = (
        (dataset.train_end, dataset.valid_end) if split == "valid" else (dataset.valid_end, dataset.events.lengths)
    )
    user = np.flatnonzero((end > start) & (start > 0))
    if positions == "first":
        return Queries(user, start[user], end[user])
    count = (end - start)[user]
    owner = np.repeat(user, count)
    inside = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
    return Queries(owner, start[owner] + inside, end[owner])


def histories(dataset: Dataset, asked: Queries) -> Ragged:
    """The events before each query, oldest first."""
    return _slices(dataset, asked.user, np.zeros_like(asked.cut), asked.cut)


def futures(dataset: Dataset, asked: Queries) -> Ragged:
    """The events from each query to the end of its split."""
    return _slices(dataset, asked.user, asked.cut, asked.end)


def _slices(dataset: Dataset, user: Longs, start: Longs, stop: Longs) -> Ragged:
    lengths = stop - start
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    inside = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    return Ragged(offsets, dataset.events.values[np.repeat(dataset.events.offsets[user] + start, lengths) + inside])


def event_index(dataset: Dataset, asked: Queries) -> Longs:
    """A number for every query that no other choice of queries changes: the index of its first future event, int64 [Q].

    Draws are indexed by it, so that a user's targets are the same whoever else is evaluated.
    """
    return dataset.events.offsets[asked.user] + asked.cut


def closest(future: Ragged, comply: Bools, n: int) -> tuple[Bools, Bools]:
    """The closest `n` compliant events of every future.

    Args:
        future: Q rows.
        comply: bool, one value an event of `future.values`.
        n: how many.

    Returns:
        Which queries have `n` of them, bool [Q]; and which events are among the first `n`, bool like `comply`.
    """
    seen = np.concatenate([[0], comply.cumsum()])
    before = seen[:-1] - np.repeat(seen[future.offsets[:-1]], future.lengths)
    enough = seen[future.offsets[1:]] - seen[future.offsets[:-1]] >= n
    return enough, comply & (before < n)


def last_items(history: Ragged) -> Ints:
    """v_t, the last item of every history, int32 [Q]."""
    return history.values[history.offsets[1:] - 1]
