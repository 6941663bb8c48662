"""What finished runs say about a row: values with intervals over users, the spread over seeds, and scores for paired tests."""

from __future__ import annotations

import statistics as plain
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench import statistics
from bench.contracts import Ints, Scores
from bench.rankings import read_scores
from bench.reproduce.published import Window
from bench.results import MetricValue, Result
from bench.runs import SCORES, Run

Floats64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Value:
    """A metric over the seeds: mean, 95 % interval over users, and the standard deviation over seeds (None for one)."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    failed: int
    sd: float | None
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Stored:
    """The per-example scores of a row over its seeds, seed after seed: metrics float64 [B], users and windows int32 [B].

    `digests` tell by seed what was asked: two rows may be compared where they agree.
    """

    columns: dict[str, Floats64]
    users: Ints
    windows: Ints
    seeds: tuple[int, ...]
    digests: dict[int, str]
    lengths: tuple[int, ...]

    def only(self, seeds: tuple[int, ...]) -> Stored:
        """The scores of some of the seeds."""
        if seeds == self.seeds:
            return self
        ends = np.cumsum(self.lengths)
        kept = np.concatenate(
            [
                np.arange(ends[place] - self.lengths[place], ends[place])
                for place, seed in enumerate(self.seeds)
                if seed in seeds
            ]
        )
        return Stored(
            {name: column[kept] for name, column in self.columns.items()},
            self.users[kept],
            self.windows[kept],
            tuple(seed for seed in self.seeds if seed in seeds),
            {seed: digest for seed, digest in self.digests.items() if seed in seeds},
            tuple(length for seed, length in zip(self.seeds, self.lengths, strict=True) if seed in seeds),
        )

    def headline(self, metric: str) -> float:
        """Mean over windows of the means over examples; NaN where the metric applies to none."""
        means = []
        for window in np.unique(self.windows):
            values = self.columns[metric][self.windows == window]
            values = values[~np.isnan(values)]
            means += [float(values.mean())] if len(values) else []
        return float(np.mean(means)) if means else float("nan")


def values(runs: Mapping[int, Run], window: Window, metric: str, pooled: statistics.Summary | None) -> Value | None:
    """A metric of a row, None where its runs do not have it.

    Args:
        runs: the row's finished runs by seed.
        window: N, or "mean".
        metric: such as "ndcg@10".
        pooled: the summary of the scores of all seeds together (`pool`), needed where there are several.
    """
    each = [one for run in runs.values() if (one := _metrics(run.result, window).get(metric)) is not None]
    if not each or len(each) < len(runs):
        return None
    seeds = tuple(runs)
    if len(each) == 1 or pooled is None:
        only = each[0]
        return Value(only.value, only.low, only.high, only.n, only.failed, None, seeds[:1])
    over = pooled.headline if window == "mean" else pooled.per_window.get(int(window), {})
    if metric not in over:
        return None
    whole = MetricValue.of(over[metric])
    own = [one.value for one in each if one.value is not None]
    spread = plain.stdev(own) if len(own) > 1 else None
    return Value(whole.value, whole.low, whole.high, whole.n, sum(one.failed for one in each), spread, seeds)


def pool(runs: Mapping[int, Run]) -> statistics.Summary | None:
    """The scores of all seeds together, resampled by user; None for a single seed, whose result has its own intervals."""
    if len(runs) < 2:
        return None
    stored = read(runs)
    nobody = np.zeros(len(stored.users), bool)
    return statistics.summarise(Scores(stored.columns), stored.users, stored.windows, nobody, min(runs))


def read(runs: Mapping[int, Run]) -> Stored:
    """The per-example scores of a row's runs, failures filled in with the worst value."""
    parts: list[tuple[dict[str, Floats64], Ints, Ints]] = []
    for run in runs.values():
        scores, users, windows, failed = read_scores(run.directory / SCORES)
        filled = statistics.with_failures(scores, np.asarray(failed, bool))
        parts.append(
            ({name: np.asarray(column, np.float64) for name, column in filled.columns.items()}, users, windows)
        )
    names = [name for name in parts[0][0] if all(name in columns for columns, _, _ in parts)]
    return Stored(
        {name: np.concatenate([columns[name] for columns, _, _ in parts]) for name in names},
        np.concatenate([users for _, users, _ in parts]),
        np.concatenate([windows for _, _, windows in parts]),
        tuple(runs),
        {seed: f"{run.result.dataset_fingerprint}/{run.result.targets_digest}" for seed, run in runs.items()},
        tuple(len(users) for _, users, _ in parts),
    )


def _metrics(result: Result, window: Window) -> Mapping[str, MetricValue]:
    return result.metrics if window == "mean" else result.per_window.get(str(window), {})
