"""How the systems of a group are tested against each other: on the same examples where their scores are here, else by intervals."""

from __future__ import annotations

import statistics as plain
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import statistics
from bench.leaderboard.entries import Entry
from bench.leaderboard.rows import Test
from bench.rankings import read_metric
from bench.runs import SCORES
from bench.statistics import Difference, Estimate, Paired

# Sums in another order differ in the last bits; a board built elsewhere from the same runs should be the same.
DIGITS = 6
# Apart enough that no window of one seed has the label of another's.
SPACING = 1 << 20

Systems = dict[str, list[Entry]]


@dataclass(frozen=True)
class Contest:
    """The systems of a group that can be tested against each other.

    Two that both have a place in `columns` (of `paired`, which is None for fewer than two) are compared on the same examples,
    any other two by their `estimates`.
    """

    names: list[str]
    columns: dict[str, int]
    paired: Paired | None
    estimates: dict[str, Estimate]

    def against(self, other: str | None, metric: str) -> dict[str, Test]:
        """Every other system tested against one, with Holm's correction over these tests."""
        if other not in self.names:
            return {}
        rivals = [name for name in self.names if name != other]
        found = [self.difference(name, other, metric) for name in rivals]
        corrected = statistics.holm([each.p for each in found])
        return {
            name: Test(
                other=other,
                difference=round(each.value, DIGITS),
                low=round(each.low, DIGITS),
                high=round(each.high, DIGITS),
                p=round(each.p, DIGITS),
                p_holm=round(p, DIGITS),
            )
            for name, each, p in zip(rivals, found, corrected, strict=True)
        }

    def difference(self, one: str, other: str, metric: str) -> Difference:
        """One system minus the other."""
        if self.paired is not None and {one, other} <= self.columns.keys():
            return self.paired.difference(self.columns[one], self.columns[other], metric)
        return statistics.unpaired_difference(metric, self.estimates[one], self.estimates[other])

    def ranks(self) -> dict[str, int]:
        """Ranks with ties (`bench.statistics.tie_ranks`)."""
        values = [self._value(name) for name in self.names]
        ranks = statistics.tie_ranks(values, lambda one, other: self._p_value(self.names[one], self.names[other]))
        return dict(zip(self.names, ranks, strict=True))

    def _value(self, name: str) -> float:
        if self.paired is not None and name in self.columns:
            return float(self.paired.observed[self.columns[name]])
        return self.estimates[name].value

    def _p_value(self, one: str, other: str) -> float:
        if self.paired is not None and {one, other} <= self.columns.keys():
            # Without the interval, which costs more than the test.
            return self.paired.p_value(self.columns[one], self.columns[other])
        return statistics.unpaired_difference("", self.estimates[one], self.estimates[other]).p


def make_contest(systems: Systems, metric: str) -> Contest:
    """Read the scores and pair them up; systems without scores, or with those of other questions, join with their intervals.

    Args:
        systems: entries of every system, one a seed.
        metric: what is tested.
    """
    names, paired = _pair_up(systems, metric)
    known = {name: _estimate(entries, metric) for name, entries in systems.items()}
    estimates = {name: estimate for name, estimate in known.items() if estimate is not None}
    # Who is paired and has no interval could not be set against those that have nothing else.
    others = estimates.keys() - set(names) if estimates.keys() >= set(names) else set()
    return Contest(sorted([*names, *others]), {name: at for at, name in enumerate(names)}, paired, estimates)


def _estimate(entries: Sequence[Entry], metric: str) -> Estimate | None:
    """Mean over the seeds of the value and of half the interval, as if all seeds erred alike; None where no seed has both."""
    metrics = [entry.row.metrics[metric] for entry in entries if metric in entry.row.metrics]
    known = [
        (each.value, (each.high - each.low) / 2, each.n or 0, each.failed or 0)
        for each in metrics
        if each.value is not None and each.low is not None and each.high is not None
    ]
    if not known:
        return None
    values, halves, counts, failed = zip(*known, strict=True)
    value, half = plain.fmean(values), plain.fmean(halves)
    return Estimate(value, value - half, value + half, sum(counts), sum(failed))


def _pair_up(systems: Systems, metric: str) -> tuple[list[str], Paired | None]:
    """The systems with scores of the same questions, and these paired up; None where there are fewer than two."""
    folders = {
        name: {int(entry.row.seed or 0): entry.folder for entry in entries if entry.folder}
        for name, entries in systems.items()
    }
    common = _common_seeds(list(folders.values()))
    able = {name: [seeds[seed] for seed in common] for name, seeds in folders.items() if seeds.keys() >= set(common)}
    read = {name: [read_metric(folder / SCORES, metric) for folder in able[name]] for name in sorted(able) if common}
    # Judges may have seen samples of their own: the questions that most systems have are those that are compared.
    asked = {
        name: b"".join(users.tobytes() + windows.tobytes() for _, users, windows in parts)
        for name, parts in read.items()
    }
    usual = Counter(asked.values()).most_common(1)
    names = [name for name in read if asked[name] == usual[0][0]]
    if len(names) < 2:
        return names, None
    values = np.stack([np.concatenate([column for column, _, _ in read[name]]) for name in names], 1)
    users = np.concatenate([users for _, users, _ in read[names[0]]])
    labels = np.concatenate([place * SPACING + windows for place, (_, _, windows) in enumerate(read[names[0]])])
    return names, statistics.pair_up(values, users, labels.astype(np.int32), min(common))


def _common_seeds(systems: Sequence[dict[int, Path]]) -> list[int]:
    """The seeds of the system with the most that all others that share one with it have; its first one where there is none."""
    most: set[int] = set(max((seeds.keys() for seeds in systems), key=len, default=()))
    sharing = [seeds.keys() for seeds in systems if seeds.keys() & most]
    return sorted(most.intersection(*sharing)) or sorted(most)[:1]
