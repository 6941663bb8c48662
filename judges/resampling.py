"""Intervals of any statistic by a bootstrap over users: examples of one user are not independent."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bench.contracts import Ints, Longs, Ragged
from bench.results import MetricValue
from bench.rng import named_generator
from bench.statistics import LEVEL, Estimate

Column = npt.NDArray[np.float64]
REPLICATES = 1000
# Sets of resampled rows that are kept at a time: 5 MB each for 600 lists.
KEPT = 8


class Resampler:
    """Rows of resampled users; the same users get the same draws, whatever is measured.

    Args:
        users: the user of every row, int32 [B].
        seed: seed of the draws.
        replicates: number of resamples.
    """

    def __init__(self, users: Ints, seed: int, replicates: int = REPLICATES) -> None:
        self._users, self._seed, self._replicates = np.asarray(users), seed, replicates
        self._drawn: dict[bytes, list[Longs]] = {}

    def figure(self, statistic: Callable[[Longs], float], applies: npt.NDArray[np.bool_] | None = None) -> MetricValue:
        """The statistic of all rows with its 95 % percentile interval.

        Args:
            statistic: takes rows (with repeats) and gives a number, NaN where it says nothing.
            applies: bool [B], rows that count; the others are told as `failed`. All when None.
        """
        rows = np.arange(len(self._users)) if applies is None else np.flatnonzero(applies)
        failed = len(self._users) - len(rows)
        if not len(rows):
            return MetricValue.of(Estimate(math.nan, math.nan, math.nan, 0, failed))
        drawn = self._draws(rows, statistic)
        known = drawn[~np.isnan(drawn)]
        tail = 50 * (1 - LEVEL)
        low, high = np.percentile(known, [tail, 100 - tail]) if len(known) else (math.nan, math.nan)
        return MetricValue.of(Estimate(statistic(rows), float(low), float(high), len(rows), failed))

    def resamples(self, rows: Longs) -> list[Longs]:
        """The given rows, resampled by user."""
        # Most figures of an audit are over the same rows.
        key = rows.tobytes()
        if key not in self._drawn:
            if len(self._drawn) >= KEPT:
                self._drawn.clear()
            self._drawn[key] = self._resampled(rows)
        return self._drawn[key]

    def _resampled(self, rows: Longs) -> list[Longs]:
        order = rows[np.argsort(self._users[rows], kind="stable")]
        counts = np.unique(self._users[order], return_counts=True)[1]
        by_user = Ragged(np.concatenate([[0], counts.cumsum()]).astype(np.int64), order.astype(np.int32))
        generator = named_generator(self._seed, "judge-audit")
        drawn = generator.integers(0, len(counts), (self._replicates, len(counts)))
        return [by_user.take(users).values.astype(np.int64) for users in drawn]

    def _draws(self, rows: Longs, statistic: Callable[[Longs], float]) -> Column:
        return np.array([statistic(drawn) for drawn in self.resamples(rows)], np.float64)
