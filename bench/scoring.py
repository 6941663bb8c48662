"""From saved rankings to a result: task scores, averages, intervals, the router's accuracy. Needs no model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench import footprint, journal, language, rankings, registry, statistics
from bench.contracts import Bools, Dataset, Examples, Intent, Ints, Longs, Progress, Ranking, Scores, Task
from bench.errors import CheckError, InputError, unknown_name
from bench.identity import targets_digest
from bench.locks import file_lock
from bench.results import Health, MetricValue, Result, RouterReport, Share, write_result
from bench.rng import uniform_draws
from bench.runs import JOURNAL, RANKINGS, RESULT, SCORES, Run

# Lies in a folder of data in a public dataset's layout that somebody generated.
MADE_UP = "GENERATED.json"


def build_examples(task: Task, dataset: Dataset, seed: int, limit: int | None) -> Examples:
    """All test examples, or those of `limit` users drawn by the seed: the same users for every task and model.

    Raises:
        InputError: nothing is left to ask.
    """
    examples = task.examples(dataset, split="test", seed=seed)
    if limit is not None:
        examples = examples.take(rows_of_users(examples.requests.users, len(dataset.user_ids), seed, limit))
    if not len(examples):
        raise InputError(
            f"task {task.card.name!r} has no example on dataset {dataset.name!r}: no user has enough events."
        )
    return examples


def rows_of_users(users: Ints, n_users: int, seed: int, limit: int) -> Longs:
    """Rows of `limit` of the users in `users` int32 [B], drawn by the seed, int64; a smaller limit takes some of the same users."""
    present = np.unique(users)
    draws = uniform_draws(seed, "limit", n_users)
    chosen = present[np.argsort(draws[present], kind="stable")[:limit]]
    return np.flatnonzero(np.isin(users, chosen))


def load_dataset(name: str, data_dir: Path | None, progress: Progress) -> Dataset:
    """Load a registered dataset from a folder, or from where it lies by default; NAME@SPLIT is one of its other splits, and
    NAME@VARIANT another way of reading it (NAME@VARIANT+SPLIT is both).

    Raises:
        InputError: an unknown dataset, split or variant, or its files are missing or malformed.
    """
    entry = registry.get("datasets", name)()
    if data_dir is not None and (data_dir / MADE_UP).is_file():
        progress.note(f"{data_dir} holds made-up data (`bench data generate`): results say nothing about {name}")
    loaded: Dataset = entry.load(data_dir, progress, **chosen(entry, name))
    return loaded


def folder_for(name: str, data_dir: Path | None) -> Path | None:
    """The folder that a command over several datasets hands to one of them: none where that one reads no files."""
    return data_dir if registry.get("datasets", name).card.reads_files else None


def chosen(entry: Any, name: str) -> dict[str, str]:
    """What the part of a dataset's name behind the @ means: keywords of its `load`.

    Raises:
        InputError: a word that is neither a split nor a variant of the dataset, or two words of one kind.
    """
    text = registry.split_name(name)[1]
    offered = {"split": getattr(entry, "splits", ()), **getattr(entry, "variants", {})}
    keyword_of = {word: keyword for keyword, words in offered.items() for word in words}
    found: dict[str, str] = {}
    for word in () if text is None else text.split("+"):
        if word not in keyword_of:
            kind = "split or variant" if len(offered) > 1 else "split"
            raise unknown_name(f"{kind} of {entry.card.name}", word, keyword_of)
        if keyword_of[word] in found:
            raise InputError(
                f"{name!r}: {found[keyword_of[word]]!r} and {word!r} exclude each other; name one of them."
            )
        found[keyword_of[word]] = word
    return found


@dataclass(frozen=True)
class Evaluation:
    """What saved rankings are worth: the result, and the scores and failures of every example behind it."""

    result: Result
    scores: Scores
    failed: Bools


@dataclass(frozen=True)
class Asked:
    """What a finished run was asked: its journal, and the task, dataset and examples built again."""

    history: journal.Journal
    task: Task
    dataset: Dataset
    examples: Examples

    @property
    def about(self) -> dict[str, Any]:
        """What the journal's start record says of the run."""
        about: dict[str, Any] = (self.history.start or {})["about"]
        return about


def finish(directory: Path, task: Task, examples: Examples, history: journal.Journal) -> Result:
    """Score the merged rankings of a run and write `scores.parquet` and `metrics.json`.

    Args:
        directory: the run's folder.
        task: the task, with the run's settings.
        examples: the run's examples.
        history: the run's journal, with all batches in it.
    """
    found = evaluate(directory, task, examples, history)
    rankings.write_scores(directory / SCORES, found.scores, found.failed, examples)
    write_result(directory / RESULT, found.result)
    return found.result


def evaluate(directory: Path, task: Task, examples: Examples, history: journal.Journal) -> Evaluation:
    """Score the merged rankings of a run; writes nothing. Arguments as `finish`.

    Raises:
        InputError: the rankings are missing or not readable.
        CheckError: they are not those of the examples.
    """
    start = history.start or {}
    about: dict[str, Any] = start["about"]
    ranking = rankings.read_rankings(directory / RANKINGS, start["depth"])
    if len(ranking.items) != len(examples):
        raise CheckError(
            f"{directory / RANKINGS} holds {len(ranking.items)} examples, not {len(examples)}: run again with --refit."
        )
    failed = ranking.failed if ranking.failed is not None else np.zeros(len(examples), bool)
    scores = within(task.score(ranking, examples), start.get("max_k"))
    users, windows = examples.requests.users, examples.targets.window
    summary = statistics.summarise(scores, users, windows, failed, about["seed"])
    fitted: dict[str, Any] = next((record for record in reversed(history.records) if record["record"] == "fitted"), {})
    result = Result(
        **about,
        source="measured",
        metrics={name: MetricValue.of(estimate) for name, estimate in summary.headline.items()},
        per_window={
            str(window): {name: MetricValue.of(estimate) for name, estimate in row.items()}
            for window, row in summary.per_window.items()
        },
        health=_health(history),
        router=router_report(ranking, examples.targets.intent),
        answers=language.answers_report(ranking),
        provenance=start["provenance"] | {"checkpoint": {key: fitted.get(key) for key in ("key", "device", "gpu")}},
        cost=language.cost_report(ranking, history),
        timing=_timing(history, fitted, len(examples)) | language.latencies(language.process_reports(history)),
        parameters=fitted.get("parameters"),
    )
    return Evaluation(result, scores, np.asarray(failed, bool))


def rescore(directory: Path, data_dir: Path | None, progress: Progress) -> Run:
    """Compute the metrics of a finished run again from its saved rankings, without its model.

    Args:
        directory: the run's folder.
        data_dir: where the dataset lies, where that is not the default place.
        progress: told what is loaded.

    Raises:
        InputError: the run is not finished, or the dataset or the task is not what it was then.
        CheckError: the run is being written by another process.
    """
    with file_lock(directory / "run.lock", busy=f"another process is writing the run in {directory}"):
        asked = reopen(directory, data_dir, progress)
        return Run(directory, finish(directory, asked.task, asked.examples, asked.history))


def reopen(directory: Path, data_dir: Path | None, progress: Progress, dataset: Dataset | None = None) -> Asked:
    """Pose the questions of a finished run again.

    Args:
        directory: the run's folder.
        data_dir: where the dataset lies, where that is not the default place.
        progress: told what is loaded.
        dataset: the run's dataset, where it is loaded already.

    Raises:
        InputError: the run is not finished, or the dataset or the task is not what it was then.
        CheckError: its journal is damaged.
    """
    history = journal.read(directory / JOURNAL)
    if history.start is None or history.end is None:
        raise InputError(f"the run in {directory} is not finished: give its `bench run` command again.")
    about = history.start["about"]
    task_class = registry.get("tasks", about["task"])
    if task_class.card.version != about["task_version"]:
        raise InputError(
            f"task {about['task']!r} has version {task_class.card.version}, the run in {directory} was made with "
            f"{about['task_version']}: run it again."
        )
    task = task_class(task_class.Settings.parse(f"task {about['task']}", about["settings"]["task"]))
    if dataset is None:
        dataset = load_dataset(about["dataset"], data_dir, progress)
    if dataset.fingerprint != about["dataset_fingerprint"]:
        raise InputError(
            f"dataset {dataset.name!r} has fingerprint {dataset.fingerprint[:12]}, the run in {directory} was made on "
            f"{about['dataset_fingerprint'][:12]}: name the folder of the same data with --data-dir."
        )
    examples = build_examples(task, dataset, about["seed"], about["limit"])
    if targets_digest(examples) != about["targets_digest"]:
        raise InputError(f"task {about['task']!r} asks other questions than when {directory} was made: run it again.")
    return Asked(history, task, dataset, examples)


def visible(examples: Examples, information: str) -> Examples:
    """Examples in which the requests show a model just what its card says it is told.

    `none`: history alone; `prompt`: history and words; `oracle`: the truth behind the words as well.
    """
    requests = replace(
        examples.requests,
        prompts=None if information == "none" else examples.requests.prompts,
        intent=examples.targets.intent if information == "oracle" else None,
    )
    return Examples(requests, examples.targets)


def within(scores: Scores, max_k: int | None) -> Scores:
    """The metrics that a ranking of at most `max_k` places can be held to: `recall@20` says nothing of a list of ten."""
    if max_k is None:
        return scores
    depth = {name: name.rpartition("@")[2] for name in scores.columns}
    kept = {name for name, k in depth.items() if not k.isdigit() or int(k) <= max_k}
    return Scores({name: values for name, values in scores.columns.items() if name in kept})


def router_report(ranking: Ranking, intent: Intent) -> RouterReport | None:
    """Accuracy of the polarity that a model reports, against the truth; None where it reports none or none was asked."""
    said, asked = ranking.extras.get("polarity"), intent.polarity != 0
    if said is None or not asked.any():
        return None
    right = np.asarray(said == intent.polarity)
    sides = {"positive": intent.polarity > 0, "negative": intent.polarity < 0}
    by_polarity = {
        name: Share(accuracy=float(right[side].mean()), n=int(side.sum())) for name, side in sides.items() if side.any()
    }
    return RouterReport.model_validate(
        {"accuracy": float(right[asked].mean()), "n": int(asked.sum()), "by_polarity": by_polarity}
    )


def _health(history: journal.Journal) -> Health:
    counts = [record["counts"] for record in history.batches]
    return Health(**{name: sum(count.get(name, 0) for count in counts) for name in Health.model_fields})


def _timing(history: journal.Journal, fitted: dict[str, Any], n: int) -> dict[str, float]:
    seconds = sum(record["seconds"] for record in history.batches)
    timing = {"rank_seconds": round(seconds, 3), "examples_per_second": round(n / max(seconds, 1e-9), 1)}
    kept = ("fit_seconds", "training_seconds", "request_p50_s", "request_p95_s", "requests_timed")
    own = {name: fitted[name] for name in kept if fitted.get(name) is not None}
    return timing | footprint.batch_latency(history.batches) | own
