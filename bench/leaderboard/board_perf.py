"""`bench perf board`: how long a board of many runs takes, from folders of runs to the written file, examples and page."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bench import journal, provenance, rankings, registry, scoring, statistics
from bench.contracts import Dataset, Examples, Ints, Ranking, Task
from bench.identity import digest, prompts_digest, targets_digest
from bench.leaderboard.update import Options, update
from bench.progress import SilentProgress
from bench.results import MetricValue, Result, write_result
from bench.rng import named_generator
from bench.runs import JOURNAL, RANKINGS, RESULT, RUNS, SCORES

AIM_S = 10.0
DATASET, SEEDS, DEPTH = "mini", (0, 1, 2), 20
# A synthetic run's intervals come from few resamples: they are read, not tested, and a board of them is quicker to make.
REPLICATES = 20


@dataclass(frozen=True)
class Question:
    """A task in its settings with its examples; the runs of a seed share them."""

    name: str
    task: Task
    seed: int
    examples: Examples


def run(*, seconds: float = 30.0, rounds: int = 1, full: bool = False, runs: int = 1_000) -> dict[str, Any]:
    """Seconds to build a board of synthetic runs on the embedded dataset.

    Args:
        seconds: no further round begins after so long.
        rounds: how often it is built; the first has no examples yet, which later ones find.
        full: without examples and page as well, to see what they take.
        runs: how many, over three tasks, both protocols, three conditions and three seeds.

    Returns:
        `first_s` and `again_s` (the median of later rounds, absent for one), `rows`, `groups`; `aim_s` is 10.
    """
    with tempfile.TemporaryDirectory(prefix="bench-perf-") as folder:
        out = Path(folder)
        write_runs(out, runs)
        taken, began = [], time.monotonic()
        for turn in range(max(1, rounds)):
            if turn and time.monotonic() - began > seconds:
                break
            start, cpu = time.perf_counter(), time.process_time()
            done = update(Options(out, pages=not full), SilentProgress())
            taken.append((time.perf_counter() - start, time.process_time() - cpu))
    later = [wall for wall, _ in taken[1:]]
    return {
        "rows": len(done.board.rows),
        "groups": len(done.board.groups),
        "first_s": taken[0][0],
        "first_cpu_s": taken[0][1],
        **({"again_s": float(np.median(later))} if later else {}),
        "aim_s": AIM_S,
    }


def write_runs(out: Path, runs: int) -> None:
    """Write folders of finished runs whose rankings and scores are real and whose models are made up.

    Args:
        out: folder of results.
        runs: how many.
    """
    dataset = scoring.load_dataset(DATASET, None, SilentProgress())
    questions = list(_questions(dataset))
    draws = named_generator(0, "synthetic runs")
    origin = provenance.collect()
    for number in range(runs):
        question = questions[number % len(questions)]
        _write_run(out, question, number // len(questions), dataset, origin, draws)


def _questions(dataset: Dataset) -> Iterator[Question]:
    settings: list[tuple[str, dict[str, Any]]] = [("seq", {})]
    settings += [
        (task, {"protocol": protocol, "prompt_kind": kind, "windows": dataset.card.windows})
        for task, protocol, kind in product(("pos", "neg"), ("paper", "strict"), ("genre", "genres", "tag"))
    ]
    for (name, values), seed in product(settings, SEEDS):
        entry = registry.get("tasks", name)
        task = entry(entry.Settings.parse(name, values))
        yield Question(name, task, seed, scoring.build_examples(task, dataset, seed, None))


def _write_run(
    out: Path, question: Question, number: int, dataset: Dataset, origin: dict[str, Any], draws: np.random.Generator
) -> None:
    examples, task = question.examples, question.task
    settings = {"task": task.settings.model_dump(mode="json"), "model": {"strength": number}}  # type: ignore[attr-defined]
    identity = digest([question.name, question.seed, settings])
    name = f"{question.name}-synthetic-{DATASET}-{identity[:10]}"
    about = {
        "run": name,
        "task": question.name,
        "task_version": task.card.version,
        "model": "synthetic",
        "model_version": 1,
        "dataset": DATASET,
        "protocol": getattr(task.settings, "protocol", "paper"),  # type: ignore[attr-defined]
        "condition": getattr(task, "condition", "none"),
        "information": "prompt",
        "encoder": None,
        "llm": None,
        "seed": question.seed,
        "limit": None,
        "examples": len(examples),
        "settings": settings,
        "dataset_fingerprint": dataset.fingerprint,
        "targets_digest": targets_digest(examples),
        "prompts_digest": prompts_digest(examples.requests.prompts),
    }
    folder = out / RUNS / name
    folder.mkdir(parents=True)
    items = _ranked(examples, number, len(dataset.catalogue), draws)
    ranking = Ranking(items, np.tile(-np.arange(DEPTH, dtype=np.float32), (len(items), 1)))
    rankings.write_part(folder / RANKINGS, 0, ranking, examples)
    scores, failed = task.score(ranking, examples), np.zeros(len(examples), bool)
    rankings.write_scores(folder / SCORES, scores, failed, examples)
    users, windows = examples.requests.users, examples.targets.window
    summary = statistics.summarise(scores, users, windows, failed, question.seed, REPLICATES)
    metrics = {key: MetricValue.of(estimate) for key, estimate in summary.headline.items()}
    per_window = {
        str(n): {key: MetricValue.of(estimate) for key, estimate in row.items()}
        for n, row in summary.per_window.items()
    }
    values: dict[str, Any] = {**about, "source": "measured", "metrics": metrics, "per_window": per_window}
    write_result(folder / RESULT, Result(**values, health={}, provenance=origin))  # type: ignore[arg-type]
    with journal.open_for(folder / JOURNAL, identity) as writer:
        writer.add("start", journal_version=1, identity=identity, depth=DEPTH, about=about, provenance=origin)
        writer.add("fitted", key=None, device="cpu", fit_seconds=1.0, training_seconds=1.0, parameters=number)
        writer.add("batch", start=0, stop=len(examples), part="", seconds=1.0, counts={})
        writer.add("end", run=name)


def _ranked(examples: Examples, number: int, n_items: int, draws: np.random.Generator) -> Ints:
    """Rankings that find the first target the more often the larger the number, and hold chance items elsewhere."""
    rows = len(examples)
    start = draws.integers(0, n_items, (rows, 1))
    items = ((start + np.arange(DEPTH)) % n_items).astype(np.int32)
    targets = examples.targets.items
    found = draws.random(rows) < 0.1 + 0.8 * number / (number + 20)
    items[found, draws.integers(0, DEPTH, rows)[found]] = targets.values[targets.offsets[:-1]][found]
    return items
