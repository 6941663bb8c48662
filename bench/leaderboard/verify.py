"""Is a number what its rankings say? Every figure of a run computed again, without a model and without writing anything.

What cannot be found out: whether rankings that were handed in came from the model that they name. They were not made from
the answers as long as whoever made them kept to the contract; `bench run` with the row's settings is the test.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench import journal, registry, scoring, statistics
from bench.contracts import NO_ITEM, Dataset, Ints, Progress, Ragged
from bench.errors import CheckError, InputError
from bench.identity import prompts_digest
from bench.leaderboard.entries import JUDGEMENTS
from bench.rankings import read_rankings, read_scores
from bench.results import MetricValue, Result, read_result
from bench.runs import JOURNAL, RANKINGS, RESULT, SCORES
from bench.store import sha256_of

# Products of matrices differ in the last bits between machines; an interval is a quantile of such sums.
TOLERANCE = 1e-6
# Cells of one block of users and items: 16 MB.
TABLE_CELLS = 1 << 24
# Of a result these come from the rankings and must be found again; time and price were measured once, and the journal has them.
RECOMPUTED, ONCE = ("health", "router", "answers"), ("timing", "cost")


@dataclass
class Data:
    """Datasets, each loaded once for as many runs as are checked."""

    data_dir: Path | None
    progress: Progress
    loaded: dict[str, Dataset] = field(default_factory=dict)

    def get(self, name: str) -> Dataset:
        """A dataset.

        Raises:
            InputError: it is unknown, or its files are not where they should be.
        """
        if name not in self.loaded:
            self.loaded[name] = scoring.load_dataset(name, scoring.folder_for(name, self.data_dir), self.progress)
        return self.loaded[name]


def verify_run(folder: Path, data: Data) -> list[str]:
    """What is wrong with a run, a line each; nothing where every number is what its rankings say.

    Raises:
        InputError: it is not finished or not readable, or its dataset is not at hand.
    """
    try:
        history = journal.read(folder / JOURNAL)
    except CheckError as error:
        return [str(error)]
    if history.start is None or history.end is None:
        raise InputError(f"{folder} is not finished: give its `bench run` command again.")
    result = read_result(folder / RESULT)
    problems = list(_identity_problems(history, result))
    dataset = data.get(result.dataset)
    try:
        found = scoring.reopen(folder, None, data.progress, dataset)
    except InputError as error:
        return [*problems, str(error)]
    problems += _condition_problems(found, result)
    try:
        wrong = list(_ranking_problems(folder, found))
        if wrong:
            # Rankings that no harness has let through may be of no shape that can be scored.
            return [*problems, *wrong]
        evaluation = scoring.evaluate(folder, found.task, found.examples, history)
    except (InputError, CheckError) as error:
        return [*problems, str(error)]
    problems += metric_problems(evaluation.result, result)
    problems += [
        f"{name} is not what the rankings say"
        for name in RECOMPUTED
        if getattr(evaluation.result, name) != getattr(result, name)
    ]
    problems += _journal_problems(evaluation.result, result)
    problems += _score_problems(folder, evaluation)
    for judged in sorted((folder / JUDGEMENTS).glob(f"*/{RESULT}")):
        problems += [f"{JUDGEMENTS}/{judged.parent.name}: {line}" for line in judgement_problems(judged.parent, result)]
    return problems


def judgement_problems(folder: Path, run: Result) -> Iterator[str]:
    """What is wrong with a judgement: it must be of this run, and its averages those of its scores."""
    result = read_result(folder / RESULT)
    if result.judge is None:
        yield "says of no judge"
    if result.limit is not None:
        yield f"was limited to {result.limit} users"
    same = ("run", "task", "task_version", "model", "dataset", "dataset_fingerprint", "targets_digest", "prompts_digest", "protocol", "condition", "seed")  # fmt: skip
    for key in same:
        if getattr(result, key) != getattr(run, key):
            yield f"{key} is {getattr(result, key)!r}, of the run it is {getattr(run, key)!r}"
    scores, users, windows, failed = read_scores(folder / SCORES)
    summary = statistics.summarise(scores, users, windows, np.asarray(failed, bool), result.seed)
    again = {name: MetricValue.of(estimate) for name, estimate in summary.headline.items()}
    yield from metric_problems(result.model_copy(update={"metrics": again}), result)


def metric_problems(again: Result, stored: Result) -> Iterator[str]:
    """Every figure of the stored result that is another when computed again."""
    yield from _differing("metrics", again.metrics, stored.metrics)
    if again.per_window.keys() != stored.per_window.keys():
        yield f"windows are {sorted(stored.per_window)}, computed again {sorted(again.per_window)}"
    for window in again.per_window.keys() & stored.per_window.keys():
        yield from _differing(f"N={window}", again.per_window[window], stored.per_window[window])


def _differing(where: str, again: dict[str, MetricValue], stored: dict[str, MetricValue]) -> Iterator[str]:
    for name in sorted(again.keys() | stored.keys()):
        if name not in again or name not in stored:
            yield f"{where}: {name} is {'missing' if name in again else 'no metric of the task'}"
            continue
        for key, value in stored[name].model_dump().items():
            right = getattr(again[name], key)
            if not _equal(value, right):
                yield f"{where}: {name} {key} is {value}, computed again {right}"


def _equal(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _identity_problems(history: journal.Journal, result: Result) -> Iterator[str]:
    """The journal's start record says who the run is; nothing of it may have been changed afterwards."""
    start = history.start or {}
    about: dict[str, Any] = start["about"]
    stored = result.model_dump(mode="json")
    for key, value in about.items():
        if stored.get(key) != value:
            yield f"{key} is {stored.get(key)!r}, the journal says {value!r}"
    if not result.run.endswith(str(start["identity"])[:10]):
        yield f"run {result.run} is not named after its identity {str(start['identity'])[:10]}"
    if result.limit is not None:
        yield f"was limited to {result.limit} users: a board holds whole runs only"
    if result.source != "measured":
        yield f"source is {result.source!r}; of a run it is 'measured'"


def _condition_problems(found: scoring.Asked, result: Result) -> Iterator[str]:
    """Protocol and condition must be those of the task's settings, prompts and questions those of the dataset."""
    task = found.task
    protocol = getattr(getattr(task, "settings", None), "protocol", result.protocol)
    if protocol != result.protocol:
        yield f"protocol is {result.protocol!r}, the task's settings say {protocol!r}"
    condition = str(getattr(task, "condition", "free" if task.card.prompted else "none"))
    told = "oracle" if condition != "none" and result.information == "oracle" else condition
    if told != result.condition:
        yield f"condition is {result.condition!r}, the task's settings and what the model is told say {told!r}"
    if prompts_digest(found.examples.requests.prompts) != result.prompts_digest:
        yield "the prompts are not those of this task and dataset"
    if result.model in registry.names("models"):
        card = registry.get("models", result.model).card
        if card.version == result.model_version and card.information != result.information:
            yield f"information is {result.information!r}, the card of {result.model} says {card.information!r}"


def _ranking_problems(folder: Path, found: scoring.Asked) -> Iterator[str]:
    """Rankings hold what the harness lets through: unseen items of the catalogue, each once, for these users."""
    # Runs made before journals kept it have none.
    kept = (found.history.end or {}).get("rankings_sha256")
    if kept is not None and sha256_of(folder / RANKINGS) != kept:
        yield f"{RANKINGS} is not the file that the run wrote (another SHA-256 than the journal's)"
    ranking = read_rankings(folder / RANKINGS, (found.history.start or {})["depth"])
    _, users, windows, _ = read_scores(folder / SCORES)
    requests = found.examples.requests
    if len(ranking.items) != len(requests):
        yield f"{RANKINGS} holds {len(ranking.items)} examples, not {len(requests)}"
        return
    if not np.array_equal(users, requests.users) or not np.array_equal(windows, found.examples.targets.window):
        yield f"{SCORES} is of other users or windows"
    items = ranking.items
    outside = (items != NO_ITEM) & ((items < 0) | (items >= len(found.dataset.catalogue)))
    if outside.any():
        yield f"{int(outside.sum())} places of the rankings hold no item of the catalogue"
        return
    ordered = np.sort(items, 1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_ITEM)
    if twice.any():
        yield f"{int(twice.sum())} places of the rankings repeat an item"
    seen = _seen_places(items, requests.history, len(found.dataset.catalogue))
    if seen:
        yield f"{seen} places of the rankings hold an item that the user has seen"


def _seen_places(items: Ints, history: Ragged, n_items: int) -> int:
    """How many places hold an item of the example's history, block by block of examples in a table of seen items."""
    found, block = 0, max(1, TABLE_CELLS // n_items)
    for start in range(0, len(items), block):
        rows = np.arange(start, min(start + block, len(items)))
        known = history.take(rows)
        seen = np.zeros((len(rows), n_items), bool)
        seen[np.repeat(np.arange(len(rows)), known.lengths), known.values] = True
        here = items[rows]
        found += int((seen[np.arange(len(rows))[:, None], np.maximum(here, 0)] & (here != NO_ITEM)).sum())
    return found


def _journal_problems(again: Result, stored: Result) -> Iterator[str]:
    """Time, price and size are those that the journal gives. An older result may lack some; none may say another."""
    for name in ONCE:
        right = getattr(again, name)
        for key, value in getattr(stored, name).items():
            known = right.get(key)
            close = isinstance(value, float) and isinstance(known, int | float) and _equal(value, known)
            if value != known and not close:
                yield f"{name}: {key} is {value!r}, by the journal it is {known!r}"
    if stored.parameters is not None and stored.parameters != again.parameters:
        yield f"parameters are {stored.parameters}, by the journal {again.parameters}"


def _score_problems(folder: Path, evaluation: scoring.Evaluation) -> Iterator[str]:
    stored, _, _, failed = read_scores(folder / SCORES)
    if not np.array_equal(np.asarray(failed, bool), evaluation.failed):
        yield f"{SCORES}: failures are not those of the rankings"
    if stored.columns.keys() != evaluation.scores.columns.keys():
        yield f"{SCORES} has the metrics {sorted(stored.columns)}, computed again {sorted(evaluation.scores.columns)}"
    for name in stored.columns.keys() & evaluation.scores.columns.keys():
        one, other = stored.columns[name], evaluation.scores.columns[name]
        if one.shape != other.shape or not np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
            yield f"{SCORES}: {name} of some example is not what the rankings say"
