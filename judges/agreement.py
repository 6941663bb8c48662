"""Do raters agree? Krippendorff's alpha (ordinal), Cohen's kappa with quadratic weights, Spearman's correlation, and leniency.

Scores are rounded to the ten grades of the scale for alpha and kappa. The coefficients are those of `krippendorff`, scikit-learn
and scipy.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from bench.contracts import Longs
from bench.errors import InputError
from judges.resampling import Column, Resampler

GRADES = range(1, 11)
# The coefficients take milliseconds each, and an audit has hundreds of them.
REPLICATES = 300


def alpha(ratings: Column) -> float:
    """Krippendorff's alpha for ordinal data; NaN where it is not defined (one value throughout, or nothing rated twice).

    Args:
        ratings: float64 [raters, lists], NaN where a rater gave none.

    Raises:
        InputError: the package `krippendorff` is not installed.
    """
    try:
        import krippendorff
    except ImportError:
        raise missing_package("krippendorff") from None
    grades = np.round(ratings)
    paired = grades[:, (~np.isnan(grades)).sum(0) > 1]
    if len(np.unique(paired[~np.isnan(paired)])) < 2:
        return math.nan
    return float(krippendorff.alpha(paired, value_domain=list(GRADES), level_of_measurement="ordinal"))


def weighted_kappa(one: Column, other: Column) -> float:
    """Cohen's kappa with quadratic weights of two raters' scores of the same lists; NaN where it is not defined."""
    from sklearn.metrics import cohen_kappa_score

    grades = np.round(one).astype(int), np.round(other).astype(int)
    if len(np.union1d(*grades)) < 2:
        return math.nan
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(cohen_kappa_score(*grades, weights="quadratic", labels=list(GRADES)))


def spearman(one: Column, other: Column) -> float:
    """Spearman's rank correlation; NaN where a rater gave one score throughout."""
    from scipy.stats import spearmanr

    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return math.nan
    return float(spearmanr(one, other).statistic)


def between(one: Column, other: Column, resampler: Resampler) -> dict[str, Any]:
    """Agreement of two raters on the lists that both scored.

    Returns:
        `alpha`, `kappa`, `spearman`, and `leniency`, the mean of `one` minus `other`, each with its interval.
    """
    both = ~np.isnan(one) & ~np.isnan(other)
    pair = np.stack([one, other])
    return {
        "alpha": resampler.figure(lambda rows: alpha(pair[:, rows]), both).model_dump(),
        "kappa": resampler.figure(lambda rows: weighted_kappa(one[rows], other[rows]), both).model_dump(),
        "spearman": resampler.figure(lambda rows: spearman(one[rows], other[rows]), both).model_dump(),
        "leniency": resampler.figure(lambda rows: float((one[rows] - other[rows]).mean()), both).model_dump(),
    }


def among(ratings: Column, resampler: Resampler) -> dict[str, Any]:
    """Krippendorff's alpha of all raters of a kind; `ratings` float64 [raters, B]."""
    several = (~np.isnan(ratings)).sum(0) > 1

    def statistic(rows: Longs) -> float:
        return alpha(ratings[:, rows])

    return resampler.figure(statistic, several).model_dump()


def missing_package(name: str) -> InputError:
    """The error for a package that only audits need."""
    return InputError(f"bench judge audit needs the package {name!r}: pip install 'promptrec-bench[audit]'.")
