"""Verdicts on disk: `RUN/judgements/JUDGEMENT/` with every verdict as a JSON line, the scores by example and the judged result.

The verdicts are an append-only journal (`bench.journal`), so a killed pass goes on where it stopped. `scores.parquet` and
`metrics.json` have the form of a run's own, so `bench compare` takes the folder of a judgement as well.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from bench import provenance, rankings, statistics
from bench.contracts import ASPECTS, Examples, Scores, Verdict
from bench.errors import InputError
from bench.identity import digest
from bench.language import SUMS
from bench.llm.contracts import Failure
from bench.llm.core import KEPT_FAILURES
from bench.results import MetricValue, Result, UsedLLM, read_result, write_result
from bench.runs import JUDGEMENTS, RESULT, RUNS, SCORES, same_examples

# The recommender gave no list, so there was nothing to judge: the worst score, as everywhere in the harness.
NO_LIST = "no_list"
# Failures that may heal: what failed so is asked again when the command is given again.
HEALING = {failure.value for failure in Failure} - {failure.value for failure in KEPT_FAILURES if failure is not None}


class JudgeReport(BaseModel):
    """Who judged, and what became of the verdicts: the field `judge` of a judged result.

    `identity` is a digest of all that changes a verdict (card version, settings, language model, prompt templates): results are
    comparable where it is the same, and never between an LLM and what is none. Verdicts that no score could be read from are
    counted in `failures` by reason and left out of the means; `worst_case` are the means with each of them counted as 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: int
    is_llm: bool
    identity: str
    judgement: str
    settings: dict[str, Any]
    parts: dict[str, Any] = {}
    llm: UsedLLM | None = None
    verdicts: int
    failures: dict[str, int] = {}
    repaired: int = 0
    worst_case: dict[str, MetricValue]
    cost: dict[str, Any] = {}
    provenance: dict[str, Any] = {}


@dataclass(frozen=True)
class Judged:
    """A finished judgement: its folder and the judged result."""

    directory: Path
    result: Result

    @property
    def report(self) -> JudgeReport:
        """Who judged."""
        return JudgeReport.model_validate(self.result.judge)


def judgement_name(judge: str, llm: str | None, identity: str, limit: int | None) -> str:
    """Name of a judgement's folder: the judge, its language model, and a digest of all that changes a verdict."""
    readable = [judge] + ([] if llm is None else [re.sub(r"[^A-Za-z0-9._]+", "-", llm).strip("-.")])
    return "-".join([*readable, digest({"judge": identity, "limit": limit})[:10]])


def row_of(example: int, examples: Examples, verdict: Verdict) -> dict[str, Any]:
    """A verdict as one flat line; what is empty is left out, but never a score."""
    given: dict[str, float | None] = dict.fromkeys(ASPECTS) if verdict.scores is None else dict(verdict.scores)
    row: dict[str, Any] = {
        "example": example,
        "user": int(examples.requests.users[example]),
        "window": int(examples.targets.window[example]),
        **given,
        "reasons": verdict.reasons,
        "text": verdict.text,
        "failure": verdict.failure,
        "repaired": verdict.repaired,
        "cost": verdict.cost,
    }
    return {name: value for name, value in row.items() if name in ASPECTS or value not in ("", None, False, {})}


def kept(records: Iterable[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The newest verdict of every example."""
    return {record["example"]: record for record in records if record["record"] == "verdict"}


def is_final(row: dict[str, Any]) -> bool:
    """Whether asking again would bring nothing new."""
    return row.get("failure") not in HEALING


def scores_of(rows: list[dict[str, Any]]) -> tuple[Scores, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Columns of the scores, float64 [n], NaN where there is none; and failed bool [n], where there was no list.

    A failed example has some score, which every average replaces by the worst (`bench.statistics.with_failures`).
    """
    failed = np.array([row.get("failure") == NO_LIST for row in rows], bool)

    def column(aspect: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        values = np.array([math.nan if row[aspect] is None else row[aspect] for row in rows], np.float64)
        return np.where(failed, 1.0, values)

    return Scores({aspect: column(aspect) for aspect in ASPECTS}), failed


def finish(
    directory: Path, run: Path, examples: Examples, rows: list[dict[str, Any]], who: dict[str, Any], limit: int | None
) -> Judged:
    """Average the verdicts and write `scores.parquet` and `metrics.json`.

    Args:
        directory: the judgement's folder.
        run: the run's folder.
        examples: the judged examples.
        rows: their verdicts, in the same order.
        who: the fields of `JudgeReport` that are known before any verdict.
        limit: number of users, None for those of the run.
    """
    base = read_result(run / RESULT)
    scores, failed = scores_of(rows)
    users, windows = examples.requests.users, examples.targets.window
    summary = statistics.summarise(scores, users, windows, failed, base.seed)
    filled = Scores({name: np.where(np.isnan(column), 1.0, column) for name, column in scores.columns.items()})
    worst = statistics.summarise(filled, users, windows, failed, base.seed)
    rankings.write_scores(directory / SCORES, scores, failed, examples)
    failures = Counter(str(row["failure"]) for row in rows if row.get("failure"))
    report = JudgeReport(
        **who,
        verdicts=int((~np.isnan(scores.columns[ASPECTS[0]]) & ~failed).sum()),
        failures=dict(sorted(failures.items())),
        repaired=sum(bool(row.get("repaired")) for row in rows),
        worst_case=_values(worst.headline),
        cost=cost_of([row.get("cost", {}) for row in rows]),
        provenance=provenance.collect(),
    )
    result = base.model_copy(
        update={
            "examples": len(rows),
            "limit": base.limit if limit is None else limit,
            "metrics": _values(summary.headline),
            "per_window": {str(window): _values(row) for window, row in summary.per_window.items()},
            "judge": report.model_dump(mode="json"),
        }
    )
    write_result(directory / RESULT, result)
    return Judged(directory, result)


def cost_of(costs: list[dict[str, float | None]]) -> dict[str, Any]:
    """Calls, tokens and price of verdicts (cached ones at what they once cost); None where any part is unknown."""
    asked = [cost for cost in costs if cost.get("calls")]
    if not asked:
        return {}
    total: dict[str, Any] = {"calls": sum(int(cost["calls"] or 0) for cost in asked)}
    for name in SUMS:
        parts = [cost.get(name) for cost in asked]
        known = [part for part in parts if part is not None]
        total[name] = None if len(known) < len(parts) else round(sum(known), 8) if name == "price" else int(sum(known))
    return total


def beside(out: Path, judged: Judged) -> list[Judged]:
    """Judgements of other runs on the same examples by the same judge; unreadable ones are left out."""
    report, found = judged.report, []
    for path in sorted((out / RUNS).glob(f"*/{JUDGEMENTS}/{report.judgement}/{RESULT}")):
        try:
            other = Judged(path.parent, read_result(path))
        except InputError:
            continue
        same = (
            same_examples(judged.result, other.result) and (other.result.judge or {}).get("identity") == report.identity
        )
        if same and other.result.run != judged.result.run:
            found.append(other)
    return found


def judgements(run: Path) -> Iterator[Judged]:
    """Finished judgements of a run."""
    for path in sorted((run / JUDGEMENTS).glob(f"*/{RESULT}")):
        yield Judged(path.parent, read_result(path))


def _values(estimates: dict[str, statistics.Estimate]) -> dict[str, MetricValue]:
    return {name: MetricValue.of(estimate) for name, estimate in estimates.items()}
