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
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import scoring
from bench.atomic import atomic_write
from bench.cards import DatasetCard
from bench.contracts import NO_ITEM, Catalogue, Dataset, Examples, Intent, Ranking, Task
from bench.errors import CheckError, InputError
from bench.identity import digest
from bench.leaderboard.rows import EXAMPLES, Row
from bench.progress import SilentProgress
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


@dataclass(frozen=True)
class Asked:
    """Rows of one dataset with the folders of their runs, and where the dataset lies."""

    dataset: str
    data_dir: Path | None
    rows: list[tuple[Row, Path]]


@dataclass(frozen=True)
class Written:
    """The file of every row that has one (its path relative to the page's folder), and in lines why others have none."""

    files: dict[str, str]
    without: list[str]


def write_examples(folder: Path, asked: Asked) -> Written:
    """Write the examples of rows, one file each: the same requests for every system that was asked them.

    A file that is newer than its run's rankings is left as it is. Rows that were asked the same questions come best one after
    the other.

    Args:
        folder: the page's folder.
        asked: the rows.
    """
    names = {row.id: f"{EXAMPLES}/{re.sub(r'[^A-Za-z0-9_.+-]', '-', row.id)}.json" for row, _ in asked.rows}
    missing = [(row, run) for row, run in asked.rows if not _newer(folder / names[row.id], run / RANKINGS)]
    if not missing:
        return Written(names, [])
    try:
        dataset = _dataset(asked.dataset, asked.data_dir)
    except (InputError, CheckError) as error:
        lost = {row.id for row, _ in missing}
        return Written({name: path for name, path in names.items() if name not in lost}, [f"{asked.dataset}: {error}"])
    writer, without = ExampleWriter(folder, dataset), []
    for row, run in missing:
        try:
            writer.write(row, run, names[row.id])
        except (InputError, CheckError) as error:
            without.append(f"{row.id}: {error}")
            del names[row.id]
    return Written(names, without)


@cache
def _dataset(name: str, data_dir: Path | None) -> Dataset:
    """Loaded once in a process."""
    return scoring.load_dataset(name, data_dir, SilentProgress())


class ExampleWriter:
    """Writes examples; keeps the questions of the row before."""

    def __init__(self, folder: Path, dataset: Dataset) -> None:
        self.folder, self.dataset = folder, dataset
        self._shown: Shown | None = None

    def write(self, row: Row, run: Path, name: str) -> None:
        """Write the examples of a row.

        Args:
            row: the row of the run.
            run: the run's folder.
            name: the file's path relative to the page's folder.

        Raises:
            InputError: the run, its task or its dataset is not what it was.
            CheckError: its journal is damaged.
        """
        dataset = self.dataset
        shown = self._questions(row, run)
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
        atomic_write(self.folder / name, text, durable=False)

    def _questions(self, row: Row, run: Path) -> Shown:
        key = digest([row.task, row.task_version, row.settings.get("task"), row.dataset, row.targets_digest, row.seed])
        if self._shown is None or key != self._shown.key:
            found = scoring.reopen(run, None, SilentProgress(), self.dataset)
            draws = uniform_draws(row.seed or 0, "leaderboard/examples", len(found.examples))
            picked = np.sort(np.argsort(draws)[:SHOWN])
            examples = found.examples.take(picked)
            requests = [_request(place, examples, self.dataset.catalogue) for place in range(len(picked))]
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
