"""Paired comparison of runs that answered the same questions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from bench import statistics
from bench.contracts import Scores
from bench.errors import InputError, unknown_name
from bench.rankings import read_scores
from bench.results import Result, read_result
from bench.runs import RESULT, SCORES

if TYPE_CHECKING:
    import pandas as pd


class Row(BaseModel):
    """One run against the baseline on one metric: `difference` is run minus baseline, with its 95 % interval.

    `p` is that of the paired sign-flip test by user, `p_holm` the same after Holm's correction over all rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str
    model: str
    condition: str
    metric: str
    baseline_value: float | None
    value: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    n: int


class Comparison(BaseModel):
    """The baseline and a row for every other run and metric."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1
    baseline: str
    baseline_model: str
    baseline_condition: str
    task: str
    dataset: str
    protocol: str
    correction: str = "holm"
    rows: list[Row]

    def to_pandas(self) -> pd.DataFrame:
        """A row for every run and metric."""
        from bench.notebook import comparison_frame

        return comparison_frame(self)

    def _repr_html_(self) -> str:
        from bench.notebook import comparison_html

        return comparison_html(self)


def compare_runs(folders: list[Path], baseline: Path, metrics: list[str] | None = None) -> Comparison:
    """Compare every run with the baseline.

    Args:
        folders: folders of the runs, the baseline among them or not.
        baseline: folder of the run that the others are measured against.
        metrics: metrics to compare; all that the task gives when None. Holm's correction is over what is compared.

    Raises:
        InputError: fewer than two runs, runs on different examples, or an unknown metric.
    """
    others = [folder for folder in dict.fromkeys(folders) if folder.resolve() != baseline.resolve()]
    if not others:
        raise InputError("a comparison needs at least two different runs.")
    base = read_result(baseline / RESULT)
    base_scores, users, windows = _scores(baseline, metrics, base)
    rows: list[dict[str, Any]] = []
    for folder in others:
        result = read_result(folder / RESULT)
        _refuse_unlike(base, result)
        scores, _, _ = _scores(folder, metrics, result)
        for found in statistics.compare(scores, base_scores, users, windows, base.seed):
            rows.append(_row(found, base, result))
    for row, corrected in zip(rows, statistics.holm([_nan(row["p"]) for row in rows]), strict=True):
        row["p_holm"] = _null(corrected)
    return Comparison(
        baseline=base.run,
        baseline_model=base.model,
        baseline_condition=base.condition,
        task=base.task,
        dataset=base.dataset,
        protocol=base.protocol,
        rows=[Row(**row) for row in rows],
    )


def _scores(folder: Path, metrics: list[str] | None, result: Result) -> tuple[Scores, Any, Any]:
    scores, users, windows, failed = read_scores(folder / SCORES)
    for name in metrics or []:
        if name not in scores.columns:
            raise unknown_name(f"metric of run {result.run}", name, scores.columns)
    chosen = {name: scores.columns[name] for name in metrics or scores.columns}
    return statistics.with_failures(Scores(chosen), np.asarray(failed, bool)), users, windows


def _refuse_unlike(base: Result, other: Result) -> None:
    judges = [(result.judge or {}).get("identity") for result in (base, other)]
    if judges[0] != judges[1]:
        raise InputError(
            f"runs {base.run} and {other.run} were not scored by the same judge (same version, settings, language model and "
            "prompts): compare judgements of one judge."
        )
    if other.targets_digest != base.targets_digest or other.dataset_fingerprint != base.dataset_fingerprint:
        differing = [
            f"{key} {getattr(base, key)} and {getattr(other, key)}"
            for key in ("task", "dataset", "protocol", "seed", "limit", "examples")
            if getattr(base, key) != getattr(other, key)
        ]
        reason = f" ({'; '.join(differing)})" if differing else ""
        raise InputError(
            f"runs {base.run} and {other.run} were asked different questions{reason}: compare like with like."
        )


def _row(found: statistics.Difference, base: Result, result: Result) -> dict[str, Any]:
    own, ours = result.metrics.get(found.metric), base.metrics.get(found.metric)
    return {
        "run": result.run,
        "model": result.model,
        "condition": result.condition,
        "metric": found.metric,
        "baseline_value": ours.value if ours else None,
        "value": own.value if own else None,
        "difference": _null(found.value),
        "low": _null(found.low),
        "high": _null(found.high),
        "p": _null(found.p) if found.n else None,
        "p_holm": None,
        "n": found.n,
    }


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _nan(value: float | None) -> float:
    return math.nan if value is None else value
