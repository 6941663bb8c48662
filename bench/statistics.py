"""Averages, intervals and tests over users.

A metric's headline is, over the windows, the mean of its means over the examples of each window. NaN means that a metric
does not apply to an example. A failed request counts with the worst value of the metric and is counted beside.

The user is the unit of resampling, since examples of one user (its windows, its rolling positions) are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.contracts import ASPECTS, Bools, Ints, Scores
from bench.rng import named_generator

Columns = npt.NDArray[np.float64]

REPLICATES = 2000
FLIPS = 10_000
LEVEL = 0.95
# An interval of this level reaches so many standard errors of a normal distribution to either side.
Z = 1.959963984540054
# Two systems are told apart where a paired test, after Holm's correction, has a smaller p value.
ALPHA = 0.05
# Cells of one block of resampling: 2 million float64 are 16 MB.
BLOCK_CELLS = 2_000_000
# Up to this many users every pattern of signs is tried, so the p value is exact.
EXACT_USERS = 13


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval; all three NaN where nothing applies. `n` examples count, `failed` of them had no answer."""

    value: float
    low: float
    high: float
    n: int
    failed: int


@dataclass(frozen=True)
class Summary:
    """Estimates of every metric: over all windows, and of each window (none in a task without windows)."""

    headline: dict[str, Estimate]
    per_window: dict[int, dict[str, Estimate]]


@dataclass(frozen=True)
class Difference:
    """A difference of the headline with its 95 % interval and p value: of the sign-flip test where it is paired."""

    metric: str
    value: float
    low: float
    high: float
    p: float
    n: int


@dataclass(frozen=True)
class _Totals:
    """Sums and counts by user, window and metric, float64 [U, W, M]."""

    sums: Columns
    counts: Columns

    def headline(self) -> Columns:
        """Mean over windows of the means over examples, [M]."""
        return _mean_of_windows(self.windows())

    def windows(self) -> Columns:
        """Mean of every window, [W, M]."""
        return _ratio(self.sums.sum(0), self.counts.sum(0))


@dataclass(frozen=True)
class Paired:
    """Systems on the same questions, ready for a paired test between any two of them.

    Every system has one column: `observed` [S] is its headline, `resampled` [R, S] the headline of every resample of
    users, `contributions` [U, S] what each user adds to it and `flipped` [F, S] their sums under random signs. All systems
    see the same resamples and the same signs, so a difference of columns is what `compare` finds for the pair.
    """

    observed: Columns
    resampled: Columns
    contributions: Columns
    flipped: Columns
    n: int

    def difference(self, one: int, other: int, metric: str) -> Difference:
        """Column `one` minus column `other`."""
        low, high = _interval((self.resampled[:, one] - self.resampled[:, other])[:, None])
        value = float(self.observed[one] - self.observed[other])
        return Difference(metric, value, float(low[0]), float(high[0]), self.p_value(one, other), self.n)

    def p_value(self, one: int, other: int) -> float:
        """That of `sign_flip_test` for the two columns."""
        apart = self.contributions[:, one] - self.contributions[:, other]
        bar = abs(apart.sum()) - 1e-9 * max(float(np.abs(apart).sum()), 1e-300)
        extreme = int((np.abs(self.flipped[:, one] - self.flipped[:, other]) >= bar).sum())
        patterns = len(self.flipped)
        return extreme / patterns if len(apart) <= EXACT_USERS else (extreme + 1) / (patterns + 1)


def worst_value(metric: str) -> float:
    """What a failed request scores: 0, or for what is better small (violations) its worst: share 1, rank 1.

    The lowest score that a judge can give is 1 as well.
    """
    return 1.0 if metric.startswith(("violation@", "first_violation")) or metric in ASPECTS else 0.0


def with_failures(scores: Scores, failed: Bools) -> Scores:
    """Scores in which failed requests have the worst value wherever the metric applies."""
    return Scores(
        {
            name: np.where(failed & ~np.isnan(values), worst_value(name), values)
            for name, values in scores.columns.items()
        }
    )


def summarise(
    scores: Scores, users: Ints, windows: Ints, failed: Bools, seed: int, replicates: int = REPLICATES
) -> Summary:
    """Means and 95 % percentile intervals of every metric by a bootstrap over users.

    Args:
        scores: metrics of B examples, as the task gave them.
        users: int32 [B].
        windows: int32 [B]; 0 throughout in a task without windows.
        failed: bool [B].
        seed: seed of the bootstrap; equal users get equal draws, whatever the model.
        replicates: number of resamples.
    """
    names = list(scores.columns)
    filled = with_failures(scores, failed)
    values = np.stack([filled.columns[name] for name in names], 1) if names else np.empty((len(users), 0))
    totals, labels = _totals(values, users, windows)
    resampled = _bootstrap(totals, seed, replicates)
    overall = _mean_of_windows(resampled, axis=1)
    applies = ~np.isnan(values)
    headline = _estimates(names, totals.headline(), overall, applies, failed)
    per_window = {
        int(label): _estimates(
            names, totals.windows()[row], resampled[:, row], applies[windows == label], failed[windows == label]
        )
        for row, label in enumerate(labels)
        if label != 0
    }
    return Summary(headline, per_window)


def compare(
    scores: Scores, baseline: Scores, users: Ints, windows: Ints, seed: int, replicates: int = REPLICATES
) -> list[Difference]:
    """Paired differences `scores - baseline` of the metrics that both have, on the same B examples.

    Both must have failures filled in already (`with_failures`). Examples where either does not apply are left out.
    """
    names = [name for name in scores.columns if name in baseline.columns]
    if not names:
        return []
    values = np.stack([scores.columns[name] - baseline.columns[name] for name in names], 1)
    totals, _ = _totals(values, users, windows)
    low, high = _interval(_mean_of_windows(_bootstrap(totals, seed, replicates), axis=1))
    observed, p = totals.headline(), sign_flip_test(_contributions(totals), seed)
    n = (~np.isnan(values)).sum(0)
    return [
        Difference(name, float(observed[i]), float(low[i]), float(high[i]), float(p[i]), int(n[i]))
        for i, name in enumerate(names)
    ]


def pair_up(values: Columns, users: Ints, windows: Ints, seed: int, replicates: int = REPLICATES) -> Paired:
    """Make S systems comparable with each other.

    Args:
        values: one metric of B examples, float64 [B, S], failures filled in. An example to which the metric does not apply
            (NaN) in some system is left out of all.
        users: int32 [B].
        windows: int32 [B]; where several seeds are put together, every window of every seed has a label of its own, so
            that the headline is the mean over seeds and windows and a user is drawn or flipped in all of them at once.
        seed: seed of resamples and signs.
        replicates: number of resamples.
    """
    applies = np.asarray(~np.isnan(values).any(axis=1))
    totals, _ = _totals(np.where(applies[:, None], values, np.nan), users, windows)
    contributions = _contributions(totals)
    flipped = [signs @ contributions for signs in _sign_patterns(len(contributions), seed, FLIPS)]
    resampled = _mean_of_windows(_bootstrap(totals, seed, replicates), axis=1)
    return Paired(totals.headline(), resampled, contributions, np.concatenate(flipped), int(applies.sum()))


def unpaired_difference(metric: str, one: Estimate, other: Estimate) -> Difference:
    """Difference `one - other` where scores by example of one of them are not at hand: by their 95 % intervals alone.

    Half an interval is `Z` standard errors, p is that of the two-sided normal test. Systems on the same users are positively
    correlated as a rule, which this leaves out: it tells fewer of them apart than the paired test. Without any spread p is 1
    for equal values and 0 for others.
    """
    value = one.value - other.value
    error = math.hypot((one.high - one.low) / (2 * Z), (other.high - other.low) / (2 * Z))
    # Means of other sums differ in the last bits and are equal all the same.
    equal = math.isclose(one.value, other.value, rel_tol=1e-12, abs_tol=1e-12)
    p = 1.0 if equal else math.erfc(abs(value) / error / math.sqrt(2)) if error else 0.0
    return Difference(metric, value, value - Z * error, value + Z * error, p, min(one.n, other.n))


def tie_ranks(values: Sequence[float], p_value: Callable[[int, int], float], alpha: float = ALPHA) -> list[int]:
    """Ranks in which systems that noise cannot tell from the best share its place.

    The system with the largest value opens rank 1. Every other is tested against it, with Holm's correction over these
    tests; those with a corrected p of `alpha` or more share the rank. Of the systems left the largest opens the next rank,
    whose number is one more than the systems placed before it, and so on. A shared rank says "not told apart from its
    best" and nothing of two others in it; equal values keep the given order.

    Args:
        values: headline of every system.
        p_value: test of two systems by their positions.
        alpha: level of the tests.

    Returns:
        The rank of every system, in the given order.
    """
    ranks = [0] * len(values)
    left = sorted(range(len(values)), key=lambda system: -values[system])
    while left:
        best, *others = left
        corrected = holm([p_value(other, best) for other in others])
        shared = {best, *(other for other, p in zip(others, corrected, strict=True) if p >= alpha)}
        place = len(values) - len(left) + 1
        for system in shared:
            ranks[system] = place
        left = [system for system in left if system not in shared]
    return ranks


def sign_flip_test(contributions: Columns, seed: int, flips: int = FLIPS) -> Columns:
    """Two-sided p value of the paired randomisation test: under the null, each user's difference may have either sign.

    Args:
        contributions: float64 [U, M], what each user adds to each statistic.
        seed: seed of the signs.
        flips: random sign patterns; with at most 13 users all patterns are tried instead.

    Returns:
        p values [M]: the share of patterns at least as extreme; random patterns count the observed one among them.
    """
    users, metrics = contributions.shape
    observed = np.abs(contributions.sum(0))
    # Sums in another order differ in the last bits; patterns that tie with the observed one must count as such.
    bar = observed - 1e-9 * np.maximum(np.abs(contributions).sum(0), 1e-300)
    extreme: Columns = np.zeros(metrics)
    total = 0
    for signs in _sign_patterns(users, seed, flips):
        extreme = extreme + (np.abs(signs @ contributions) >= bar).sum(0)
        total += len(signs)
    exact = users <= EXACT_USERS
    share: Columns = extreme / total if exact else (extreme + 1) / (total + 1)
    return share


def wilson(count: int, n: int, z: float = Z) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate of `count` in `n`; (0, 1) where n is 0."""
    if n == 0:
        return 0.0, 1.0
    rate, scale = count / n, 1 + z * z / n
    middle = (rate + z * z / (2 * n)) / scale
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / scale
    return max(0.0, middle - half), min(1.0, middle + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the given order (Holm 1979); NaN stays NaN and is not counted."""
    order = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for step, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - step)))
        adjusted[place] = largest
    return adjusted


def _totals(values: Columns, users: Ints, windows: Ints) -> tuple[_Totals, Ints]:
    """Add up by user and window; also the windows' labels, ascending [W]."""
    _, user_row = np.unique(users, return_inverse=True)
    labels, window_row = np.unique(windows, return_inverse=True)
    n_users, n_windows = int(user_row.max(initial=-1)) + 1, len(labels)
    cell = user_row * n_windows + window_row
    applies = ~np.isnan(values)
    shape = (n_users, n_windows, values.shape[1])

    def add_up(columns: Columns) -> Columns:
        size = n_users * n_windows
        added = np.empty((size, columns.shape[1]))
        for i in range(columns.shape[1]):
            added[:, i] = np.bincount(cell, weights=columns[:, i], minlength=size)
        return added.reshape(shape)

    return _Totals(add_up(np.where(applies, values, 0.0)), add_up(applies.astype(np.float64))), labels


def _bootstrap(totals: _Totals, seed: int, replicates: int) -> Columns:
    """Window means of every resample of users, [R, W, M]: two products of the matrix of multinomial counts."""
    n_users, n_windows, n_metrics = totals.sums.shape
    means = np.full((replicates, n_windows, n_metrics), np.nan)
    if n_users == 0:
        return means
    stacked = np.concatenate([totals.sums.reshape(n_users, -1), totals.counts.reshape(n_users, -1)], 1)
    generator = named_generator(seed, "bootstrap")
    block = max(1, BLOCK_CELLS // n_users)
    for start in range(0, replicates, block):
        rows = min(block, replicates - start)
        # Counting uniform draws gives multinomial counts, several times faster than a binomial draw for each cell.
        drawn = generator.integers(0, n_users, (rows, n_users)) + np.arange(rows)[:, None] * n_users
        times = np.bincount(drawn.ravel(), minlength=rows * n_users).reshape(rows, n_users).astype(np.float64)
        sums, counts = np.split(times @ stacked, 2, axis=1)
        means[start : start + rows] = _ratio(sums, counts).reshape(rows, n_windows, n_metrics)
    return means


def _contributions(totals: _Totals) -> Columns:
    """What each user adds to the headline, [U, M]; the columns' sums are the headline."""
    counts = totals.counts.sum(0)
    live = np.maximum((counts > 0).sum(0), 1)
    contributions: Columns = (totals.sums / np.maximum(counts, 1.0)).sum(1) / live
    return contributions


def _sign_patterns(users: int, seed: int, flips: int) -> Iterator[Columns]:
    if users <= EXACT_USERS:
        yield 1.0 - 2.0 * ((np.arange(2**users)[:, None] >> np.arange(users)) & 1).astype(np.float64)
        return
    generator = named_generator(seed, "sign-flips")
    block = max(1, BLOCK_CELLS // users)
    for start in range(0, flips, block):
        rows = min(block, flips - start)
        bits = np.unpackbits(np.frombuffer(generator.bytes((rows * users + 7) // 8), np.uint8), count=rows * users)
        yield 1.0 - 2.0 * bits.reshape(rows, users).astype(np.float64)


def _estimates(
    names: list[str], values: Columns, resampled: Columns, applies: Bools, failed: Bools
) -> dict[str, Estimate]:
    low, high = _interval(resampled)
    n, lost = applies.sum(0), (applies & failed[:, None]).sum(0)
    return {
        name: Estimate(float(values[i]), float(low[i]), float(high[i]), int(n[i]), int(lost[i]))
        for i, name in enumerate(names)
    }


def _interval(resampled: Columns) -> tuple[Columns, Columns]:
    """Percentile interval of every column of [R, M]; replicates in which a metric never applied are left out."""
    tail = 50 * (1 - LEVEL)
    low = np.full(resampled.shape[1], np.nan)
    high = low.copy()
    for i, column in enumerate(resampled.T):
        known = column[~np.isnan(column)]
        if len(known):
            low[i], high[i] = np.percentile(known, [tail, 100 - tail])
    return low, high


def _ratio(sums: Columns, counts: Columns) -> Columns:
    ratio: Columns = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return ratio


def _mean_of_windows(means: Columns, axis: int = 0) -> Columns:
    """Mean over windows that have examples, NaN where none has."""
    known = ~np.isnan(means)
    return _ratio(np.where(known, means, 0.0).sum(axis), known.sum(axis).astype(np.float64))
