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
class Panel:
    """Systems whose scores of the same questions are here, paired up; `columns` tells where in `paired` each stands."""

    columns: dict[str, int]
    paired: Paired


@dataclass(frozen=True)
class Contest:
    """The systems of a group that can be tested against each other.

    Two that stand in one of the `panels` are compared on the same examples, in the first that has both: panels are of most
    seeds first. Any other two are compared by their `estimates`.
    """

    names: list[str]
    panels: list[Panel]
    estimates: dict[str, Estimate]

    def is_paired(self, name: str) -> bool:
        """Whether the system is compared with some other on the same examples."""
        return any(name in panel.columns for panel in self.panels)

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
        panel = self._panel(one, other)
        if panel is not None:
            return panel.paired.difference(panel.columns[one], panel.columns[other], metric)
        return statistics.unpaired_difference(metric, self.estimates[one], self.estimates[other])

    def ranks(self) -> dict[str, int]:
        """Ranks with ties (`bench.statistics.tie_ranks`)."""
        values = [self._value(name) for name in self.names]
        ranks = statistics.tie_ranks(values, lambda one, other: self._p_value(self.names[one], self.names[other]))
        return dict(zip(self.names, ranks, strict=True))

    def _panel(self, one: str, other: str) -> Panel | None:
        return next((panel for panel in self.panels if {one, other} <= panel.columns.keys()), None)

    def _value(self, name: str) -> float:
        panel = next((panel for panel in self.panels if name in panel.columns), None)
        return self.estimates[name].value if panel is None else float(panel.paired.observed[panel.columns[name]])

    def _p_value(self, one: str, other: str) -> float:
        panel = self._panel(one, other)
        if panel is not None:
            # Without the interval, which costs more than the test.
            return panel.paired.p_value(panel.columns[one], panel.columns[other])
        return statistics.unpaired_difference("", self.estimates[one], self.estimates[other]).p


def make_contest(systems: Systems, metric: str) -> Contest:
    """Read the scores and pair them up; systems without scores, or with those of other questions, join with their intervals.

    Args:
        systems: entries of every system, one a seed.
        metric: what is tested.
    """
    panels = _panels(systems, metric)
    known = {name: _estimate(entries, metric) for name, entries in systems.items()}
    estimates = {name: estimate for name, estimate in known.items() if estimate is not None}
    paired = {name for panel in panels for name in panel.columns}
    # Who is paired and has no interval could not be set against those that have nothing else.
    names = (
        paired | estimates.keys()
        if estimates.keys() >= paired
        else max((panel.columns.keys() for panel in panels), key=len)
    )
    return Contest(sorted(names), panels, estimates)


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


def _panels(systems: Systems, metric: str) -> list[Panel]:
    """A panel for every set of seeds that two systems share, largest sets first, so that all that two have in common counts."""
    folders = {
        name: {int(entry.row.seed or 0): entry.folder for entry in entries if entry.folder}
        for name, entries in systems.items()
    }
    kinds = {frozenset(seeds) for seeds in folders.values()}
    shared = {one & other for one in kinds for other in kinds} - {frozenset()}
    found = [
        _panel_of(folders, sorted(seeds), metric)
        for seeds in sorted(shared, key=lambda each: (-len(each), sorted(each)))
    ]
    # Whose scores are the only ones has nobody to be paired with and wants nothing for it.
    least = 1 if sum(map(bool, folders.values())) == 1 else 2
    return [panel for panel in found if len(panel.columns) >= least]


def _panel_of(folders: dict[str, dict[int, Path]], common: list[int], metric: str) -> Panel:
    """The systems with scores of these seeds that were asked the same."""
    able = {name: [seeds[seed] for seed in common] for name, seeds in folders.items() if seeds.keys() >= set(common)}
    read = {name: [read_metric(folder / SCORES, metric) for folder in able[name]] for name in sorted(able)}
    # Judges may have seen samples of their own: the questions that most systems have are those that are compared.
    asked = {
        name: b"".join(users.tobytes() + windows.tobytes() for _, users, windows in parts)
        for name, parts in read.items()
    }
    usual = Counter(asked.values()).most_common(1)
    names = [name for name in read if asked[name] == usual[0][0]]
    values = np.stack([np.concatenate([column for column, _, _ in read[name]]) for name in names], 1)
    users = np.concatenate([users for _, users, _ in read[names[0]]])
    labels = np.concatenate([place * SPACING + windows for place, (_, _, windows) in enumerate(read[names[0]])])
    paired = statistics.pair_up(values, users, labels.astype(np.int32), min(common))
    return Panel({name: at for at, name in enumerate(names)}, paired)
