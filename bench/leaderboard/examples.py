"""The examples behind a row: a few requests with history, ranked list and what was hidden, as JSON beside the board.

What may stand there hangs on the dataset's licence. Histories are data: a page that is put on the web with them redistributes
the dataset, titles or not, so by default examples are written for datasets under an open licence alone (`OPEN`; `mini` is
one). `bench leaderboard build --examples NAME` writes them for another one, with titles, for a board that stays private; such
files are marked `private`, the page says so, and `bench publish` refuses them.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import scoring
from bench.atomic import atomic_write
from bench.cards import DatasetCard
from bench.contracts import NO_ITEM, Catalogue, Dataset, Examples, Intent, Progress, Ranking, Task
from bench.errors import CheckError
from bench.identity import digest
from bench.leaderboard.rows import EXAMPLES, Row
from bench.rankings import read_rankings
from bench.rng import uniform_draws
from bench.runs import RANKINGS

SCHEMA_VERSION = 1
SHOWN, HISTORY, PLACES = 6, 10, 10
# SPDX names of licences under which data may be passed on.
OPEN = frozenset(
    (
        "Apache-2.0",
        "MIT",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC0-1.0",
        "CC-BY-4.0",
        "CC-BY-SA-4.0",
        "ODC-By-1.0",
        "ODbL-1.0",
    )
)


def may_be_passed_on(card: object) -> bool:
    """Whether the card is that of a dataset whose licence allows to publish parts of it."""
    return isinstance(card, DatasetCard) and card.licence in OPEN


@dataclass(frozen=True)
class Shown:
    """The requests that are shown of one set of questions, and what is the same of them for every system."""

    key: str
    task: Task
    depth: int
    total: int
    picked: npt.NDArray[np.int64]
    examples: Examples
    requests: list[dict[str, Any]]


class ExampleWriter:
    """Writes the examples of rows, one file each; rows that were asked the same questions come best one after the other."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.folder, self.progress = folder, progress
        self._shown: Shown | None = None

    def write(self, row: Row, run: Path, dataset: Dataset) -> str:
        """Write the examples of a row: the same requests for every system that was asked them.

        A file that is newer than the run's rankings is left as it is.

        Args:
            row: the row of the run.
            run: the run's folder.
            dataset: the run's dataset, already loaded.

        Returns:
            The file's path relative to the page's folder.

        Raises:
            InputError: the run, its task or its dataset is not what it was.
            CheckError: its journal is damaged.
        """
        name = f"{EXAMPLES}/{re.sub(r'[^A-Za-z0-9_.+-]', '-', row.id)}.json"
        path = self.folder / name
        if _newer(path, run / RANKINGS):
            return name
        shown = self._questions(row, run, dataset)
        ranking = read_rankings(run / RANKINGS, shown.depth, shown.picked)
        if len(ranking.items) != len(shown.picked):
            raise CheckError(f"{run / RANKINGS} holds too few examples: run again with --refit.")
        scores = shown.task.score(ranking, shown.examples).columns
        content = {
            "schema_version": SCHEMA_VERSION,
            "row": row.id,
            "dataset": row.dataset,
            "private": not may_be_passed_on(dataset.card),
            "note": f"{len(shown.picked)} of {shown.total} requests, drawn by the seed; the same for every system.",
            "examples": [
                _answered(place, asked, shown.examples, ranking, scores, dataset.catalogue)
                for place, asked in enumerate(shown.requests)
            ],
        }
        text = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
        atomic_write(path, text, durable=False)
        return name

    def _questions(self, row: Row, run: Path, dataset: Dataset) -> Shown:
        key = digest([row.task, row.task_version, row.settings.get("task"), row.dataset, row.targets_digest, row.seed])
        if self._shown is None or key != self._shown.key:
            found = scoring.reopen(run, None, self.progress, dataset)
            draws = uniform_draws(row.seed or 0, "leaderboard/examples", len(found.examples))
            picked = np.sort(np.argsort(draws)[:SHOWN])
            examples = found.examples.take(picked)
            requests = [_request(place, examples, dataset.catalogue) for place in range(len(picked))]
            depth = (found.history.start or {})["depth"]
            self._shown = Shown(key, found.task, depth, len(found.examples), picked, examples, requests)
        return self._shown


def _newer(path: Path, source: Path) -> bool:
    state = path.stat() if path.is_file() else None
    return state is not None and state.st_size > 0 and state.st_mtime_ns >= source.stat().st_mtime_ns


def _request(place: int, examples: Examples, catalogue: Catalogue) -> dict[str, Any]:
    """What a model saw of an example, and what was hidden from it."""
    requests, targets = examples.requests, examples.targets
    history = requests.history[place]
    return {
        "user": int(requests.users[place]),
        "window": int(targets.window[place]),
        "prompt": None if requests.prompts is None else requests.prompts[place],
        "polarity": int(targets.intent.polarity[place]),
        "history_length": len(history),
        "history": [_item(item, catalogue) for item in history[-HISTORY:].tolist()],
        "hidden": {
            "targets": [_item(item, catalogue) for item in targets.items[place].tolist()],
            "rule": _rule_name(int(targets.intent.rule[place]), targets.intent, catalogue),
        },
    }


def _answered(
    place: int,
    asked: dict[str, Any],
    examples: Examples,
    ranking: Ranking,
    scores: dict[str, npt.NDArray[np.float64]],
    catalogue: Catalogue,
) -> dict[str, Any]:
    """The example with a system's answer to it."""
    targets, intent = asked["hidden"]["targets"], examples.targets.intent
    wanted, rule = {target["item"] for target in targets}, int(intent.rule[place])
    listed = [item for item in ranking.items[place].tolist() if item != NO_ITEM]
    rank_of = {item: rank for rank, item in enumerate(listed, 1)}
    allowed = intent.allowed[rule, listed[:PLACES]].tolist() if rule >= 0 else [None] * PLACES
    values = {name: float(column[place]) for name, column in scores.items()}
    return asked | {
        "routed": _extra(ranking, "polarity", place, int),
        "confidence": _extra(ranking, "confidence", place, float),
        "failed": bool(ranking.failed is not None and ranking.failed[place]),
        "ranking": [
            _item(item, catalogue) | {"score": _number(score), "target": item in wanted, "complies": complies}
            for item, score, complies in zip(listed[:PLACES], ranking.scores[place].tolist(), allowed, strict=False)
        ],
        "hidden": asked["hidden"] | {"targets": [target | {"rank": rank_of.get(target["item"])} for target in targets]},
        "metrics": {name: round(value, 6) for name, value in values.items() if not math.isnan(value)},
    }


def _item(item: int, catalogue: Catalogue) -> dict[str, Any]:
    names = [catalogue.label_names[label] for label in catalogue.labels[item]]
    return {"item": item, "title": catalogue.titles[item], "labels": names}


def _rule_name(rule: int, intent: Intent, catalogue: Catalogue) -> str | None:
    """The label that a rule wants or bars, None where it is no single label's."""
    if rule < 0:
        return None
    has = catalogue.label_matrix()
    same = [(has == intent.allowed[rule][:, None]).all(0), (has != intent.allowed[rule][:, None]).all(0)]
    labels = np.flatnonzero(same[0] | same[1])
    return catalogue.label_names[labels[0]] if len(labels) else None


def _extra(ranking: Ranking, name: str, place: int, kind: type[Any]) -> Any:
    column = ranking.extras.get(name)
    if column is None or np.ndim(column) != 1:
        return None
    value = _number(column[place])
    return None if value is None else kind(value)


def _number(value: Any) -> float | None:
    number = float(value)
    return round(number, 6) if math.isfinite(number) else None
