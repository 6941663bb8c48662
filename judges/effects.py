"""What a change does to a judge's scores, on the same lists: differences and effect sizes with intervals, and self-consistency.

Cohen's d here is the mean of the paired differences over the root mean square of the two standard deviations (d_av, Lakens 2013).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.contracts import Bools, Longs
from judges.agreement import alpha
from judges.resampling import Column, Resampler


def mean_of(values: Column, resampler: Resampler) -> dict[str, Any]:
    """Mean score with its interval; lists without a verdict are left out and counted as `failed`."""
    return resampler.figure(lambda rows: float(values[rows].mean()), ~np.isnan(values)).model_dump()


def paired(one: Column, other: Column, resampler: Resampler) -> dict[str, Any]:
    """`one` minus `other` on the same B lists.

    Returns:
        `difference` (mean) and `d` (effect size), each with its interval; `shares` of the lists on which `one` is `higher`, `equal`
        or `lower`.
    """
    apart = one - other
    both = ~np.isnan(apart)

    def cohens_d(rows: Longs) -> float:
        spread = (
            math.sqrt((float(one[rows].var(ddof=1)) + float(other[rows].var(ddof=1))) / 2) if len(rows) > 1 else 0.0
        )
        return float(apart[rows].mean()) / spread if spread > 0 else math.nan

    return {
        "difference": resampler.figure(lambda rows: float(apart[rows].mean()), both).model_dump(),
        "d": resampler.figure(cohens_d, both).model_dump(),
        "shares": {
            "higher": _share(apart[both] > 0),
            "equal": _share(apart[both] == 0),
            "lower": _share(apart[both] < 0),
        },
    }


def sensitivity(one: Column, other: Column, noise: Column | None, resampler: Resampler) -> dict[str, Any]:
    """`paired`, and how far scores move either way: the mean absolute difference.

    Args:
        one: scores of the lists as they are, float64 [B].
        other: scores of the same lists, presented otherwise.
        noise: scores of the lists as they are, judged once more; `beyond_repeats` is what remains of the mean absolute
            difference when that of a mere repeat is taken off. None where nothing was judged twice.
        resampler: over the users of the lists.
    """
    moved = np.abs(one - other)
    found = paired(one, other, resampler)
    found["moved"] = resampler.figure(lambda rows: float(moved[rows].mean()), ~np.isnan(moved)).model_dump()
    if noise is not None:
        beyond = moved - np.abs(one - noise)
        found["beyond_repeats"] = resampler.figure(
            lambda rows: float(beyond[rows].mean()), ~np.isnan(beyond)
        ).model_dump()
    return found


def consistency(repeats: Sequence[Column], resampler: Resampler) -> dict[str, Any]:
    """How much a judge agrees with itself.

    Args:
        repeats: scores of the same B lists, float64 [B] each, judged independently; at least two.
        resampler: over the users of the lists.

    Returns:
        `sd`: standard deviation of one judgement around the list's own mean, pooled over lists; `same`: share of pairs of
        judgements of a list that are equal; `alpha`: Krippendorff's, ordinal, with the repeats as raters.
    """
    table = np.stack(repeats)
    complete = np.asarray(~np.isnan(table).any(axis=0))

    def spread(rows: Longs) -> float:
        return math.sqrt(float(table[:, rows].var(axis=0, ddof=1).mean()))

    def same(rows: Longs) -> float:
        part = table[:, rows]
        pairs = [part[a] == part[b] for a in range(len(part)) for b in range(a)]
        return float(np.mean(pairs))

    return {
        "judgements": len(repeats),
        "sd": resampler.figure(spread, complete).model_dump(),
        "same": resampler.figure(same, complete).model_dump(),
        "alpha": resampler.figure(lambda rows: alpha(table[:, rows]), complete).model_dump(),
    }


def _share(which: Bools) -> float | None:
    return float(which.mean()) if len(which) else None
