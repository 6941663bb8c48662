"""Batches of histories by indexing: no prefix is copied, every transition is a target once an epoch, padding is a few percent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.contracts import Longs, Ragged


@dataclass(frozen=True)
class Windows:
    """Slices `start:stop` (int64 [n]) of one flat event array; each is a piece of one user's history (`user` int64 [n])."""

    user: Longs
    start: Longs
    stop: Longs

    def take(self, rows: Longs) -> Windows:
        """The given windows, in the given order."""
        return Windows(self.user[rows], self.start[rows], self.stop[rows])


def cut_windows(events: Ragged, length: int, rng: np.random.Generator) -> Windows:
    """Cut every history into windows of at most `length` + 1 events that overlap by one.

    Each event but the first of a user is a target exactly once. A history that does not fit is cut at a random phase, new
    in every epoch, so that over time every event is seen with long and with short context.
    """
    starts, n = events.offsets[:-1], events.lengths
    phase = np.where(n > length + 1, rng.integers(0, length, len(n)), 0)
    # Window j of a user covers events (j - 1) * length + phase .. j * length + phase, clipped to the history.
    first = np.where(phase > 0, phase - length, 0)
    count = np.where(n > 1, -(-(n - 1 - first) // length), 0)
    user = np.repeat(np.arange(len(n)), count)
    index = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
    begin = first[user] + index * length
    stop = np.minimum(begin + length + 1, n[user])
    return Windows(user, starts[user] + np.maximum(begin, 0), starts[user] + stop)


def bucket(lengths: npt.NDArray[np.integer], batch: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Shuffle, group rows of like length, and yield batches of about batch x longest slots in random order.

    Short rows come in larger batches, so that a step does about the same work whatever the length.
    """
    order = rng.permutation(len(lengths))
    order = order[np.argsort(lengths[order] // 4, kind="stable")]
    slots, most = batch * int(lengths.max(initial=1)), 4 * batch
    groups, at = [], 0
    while at < len(order):
        longest = np.maximum.accumulate(lengths[order[at : at + most]])
        take = max(1, int((np.arange(1, len(longest) + 1) * longest <= slots).sum()))
        groups.append(order[at : at + take])
        at += take
    for index in rng.permutation(len(groups)):
        yield groups[index]


def padded(
    values: npt.NDArray[np.int32], start: Longs, stop: Longs
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Left-aligned slices, int64 [n, longest], and where they are real, bool; padding repeats an arbitrary item."""
    lengths = stop - start
    at = np.arange(int(lengths.max(initial=0)))
    real = at < lengths[:, None]
    return values[np.where(real, start[:, None] + at, start[:, None])].astype(np.int64), real
