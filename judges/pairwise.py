"""List against list: every pair is shown in both orders, ties count half, and a Bradley-Terry model ranks the systems.

Bradley & Terry 1952: P(i beats j) = e^s_i / (e^s_i + e^s_j). Strengths come from `choix` (iterative Luce spectral ranking) with a
little regularisation, so that a system that never loses has a strength as well; their mean is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.contracts import Ints, Longs
from judges.agreement import missing_package
from judges.resampling import Column, Resampler

REGULARISATION = 0.01


@dataclass(frozen=True)
class Pairing:
    """Which systems meet on which list: int32 [C] each, `row` of the examples, `one` and `other` of the systems."""

    row: Ints
    one: Ints
    other: Ints

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class Choices:
    """What a judge preferred, float64 [C]: +1 `one`, -1 `other`, 0 neither, NaN no verdict.

    In `shown_first` system `one` stood first, in `shown_second` it stood second.
    """

    pairing: Pairing
    shown_first: Column
    shown_second: Column


def rotation(n_systems: int, n_rows: int, each: int) -> Pairing:
    """For every example `each` of the pairs of systems, in rotation, so that all pairs meet equally often."""
    pairs = list(combinations(range(n_systems), 2))
    each = min(each, len(pairs))
    met = [(row, *pairs[(row * each + place) % len(pairs)]) for row in range(n_rows) for place in range(each)]
    columns = np.array(met, np.int32).reshape(-1, 3)
    return Pairing(columns[:, 0], columns[:, 1], columns[:, 2])


def tally(choices: Choices, n_systems: int, rows: Longs | None = None) -> npt.NDArray[np.float64]:
    """Wins, float64 [S, S]: how often the row's system beat the column's, a tie being half a win for both."""
    wins = np.zeros((n_systems, n_systems))
    one, other = choices.pairing.one, choices.pairing.other
    for said in (choices.shown_first, choices.shown_second):
        chosen = np.flatnonzero(~np.isnan(said)) if rows is None else rows[~np.isnan(said[rows])]
        np.add.at(wins, (one[chosen], other[chosen]), (1 + said[chosen]) / 2)
        np.add.at(wins, (other[chosen], one[chosen]), (1 - said[chosen]) / 2)
    return wins


def strengths(wins: npt.NDArray[np.float64]) -> Column:
    """Bradley-Terry strengths (logarithms, their mean 0), float64 [S].

    Raises:
        InputError: the package `choix` is not installed.
    """
    try:
        import choix
    except ImportError:
        raise missing_package("choix") from None
    found: Column = choix.ilsr_pairwise_dense(wins, alpha=REGULARISATION)
    return found - found.mean()


def ranking(choices: Choices, names: Sequence[str], scores: Column, resampler: Resampler) -> dict[str, Any]:
    """The Bradley-Terry ranking beside the pointwise one.

    Args:
        choices: the comparisons.
        names: of the S systems.
        scores: pointwise overall scores, float64 [S, B], NaN where there is none.
        resampler: over the users of the comparisons (one row a comparison).

    Returns:
        `systems`: strength with its interval and mean pointwise score of each, strongest first; `order_agrees`, `tau` (Kendall's
        between strengths and mean scores); `swapped`: pairs that the two put the other way round.
    """
    from scipy.stats import kendalltau

    given = ~(np.isnan(choices.shown_first) & np.isnan(choices.shown_second))
    rows = np.flatnonzero(given)
    if not len(rows):
        return {"comparisons": 0}
    strong = strengths(tally(choices, len(names)))
    drawn = np.array([strengths(tally(choices, len(names), each)) for each in resampler.resamples(rows)])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    means = np.array([math.nan if np.isnan(row).all() else float(np.nanmean(row)) for row in scores])
    order = np.argsort(-strong, kind="stable")
    swapped = [
        sorted((names[a], names[b]))
        for a, b in combinations(range(len(names)), 2)
        if (strong[a] - strong[b]) * (means[a] - means[b]) < 0
    ]
    tau = float(kendalltau(strong, means).statistic) if len(names) > 1 and not np.isnan(means).any() else math.nan
    return {
        "comparisons": len(rows),
        "systems": [
            {
                "system": names[at],
                "strength": {"value": float(strong[at]), "low": float(low[at]), "high": float(high[at])},
                "pointwise": None if math.isnan(means[at]) else float(means[at]),
            }
            for at in order
        ],
        "tau": None if math.isnan(tau) else tau,
        "order_agrees": not swapped,
        "swapped": swapped,
    }


def position(choices: Choices, resampler: Resampler) -> dict[str, Any]:
    """What the order in which two lists stand does.

    Returns:
        `first`: how often the list shown first is preferred, of the preferences that are no ties (0.5: no bias); `same`: share of
        the pairs on which both orders give one verdict; `ties`: share of verdicts that are ties; each with its interval.
    """
    first, second = choices.shown_first, choices.shown_second
    both = ~np.isnan(first) & ~np.isnan(second)

    def leading(rows: Longs) -> float:
        said = np.concatenate([first[rows], -second[rows]])
        decided = said[said != 0]
        return float((decided > 0).mean()) if len(decided) else math.nan

    return {
        "first": resampler.figure(leading, both).model_dump(),
        "same": resampler.figure(lambda rows: float((first[rows] == second[rows]).mean()), both).model_dump(),
        "ties": resampler.figure(
            lambda rows: float((np.concatenate([first[rows], second[rows]]) == 0).mean()), both
        ).model_dump(),
    }
