"""Runs on disk: `OUT/runs/RUN/` with the journal, the rankings, the scores and the result; and the ones beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import journal
from bench.errors import InputError, unknown_name
from bench.results import MetricValue, Result, read_result

if TYPE_CHECKING:
    import pandas as pd

    from bench.comparison import Comparison

RUNS, MODELS = "runs", "models"
JOURNAL, RANKINGS, SCORES, RESULT, PARTS = (
    "journal.jsonl",
    "rankings.parquet",
    "scores.parquet",
    "metrics.json",
    "parts",
)
# Below a run's folder: a folder for each judge's scores (`bench.judging_store`).
JUDGEMENTS, VERDICTS = "judgements", "verdicts.jsonl"


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its result."""

    directory: Path
    result: Result

    @property
    def metrics(self) -> dict[str, MetricValue]:
        """The headline metrics."""
        return self.result.metrics

    def to_pandas(self) -> pd.DataFrame:
        """A row for every metric and window ("mean" is the headline): value, low, high, n, failed."""
        from bench.notebook import result_frame

        return result_frame(self.result)

    def compare(self, *others: Run, metrics: list[str] | None = None) -> Comparison:
        """The others against this run as the baseline, paired on the same examples, with Holm's correction.

        Args:
            others: runs that were asked the same questions.
            metrics: which metrics; all when None.

        Raises:
            InputError: other questions, no other run, or an unknown metric.
        """
        from bench.comparison import compare_runs

        return compare_runs([other.directory for other in others], self.directory, metrics)

    def _repr_html_(self) -> str:
        from bench.notebook import result_html

        return result_html(self.result)


def finished(directory: Path, identity: str | None = None) -> Run | None:
    """The run in a folder, None unless its journal has an end record (and is of the identity, where one is given).

    Raises:
        InputError: the run is finished but its result is not readable.
        CheckError: the journal is damaged.
    """
    history = journal.read(directory / JOURNAL)
    if history.end is None or history.start is None or not (directory / RESULT).is_file():
        return None
    if identity is not None and history.start["identity"] != identity:
        return None
    return Run(directory, read_result(directory / RESULT))


def find(reference: str, out: Path) -> Path:
    """The folder of a run given by its path, its id, or the beginning of its id where that is unique; or that of a judgement.

    Raises:
        InputError: there is no such run, or several.
    """
    path = Path(reference)
    if path.name == RESULT:
        path = path.parent
    if (path / JOURNAL).is_file() or (path / VERDICTS).is_file():
        return path
    known = [folder.name for folder in folders(out)]
    if reference in known:
        return out / RUNS / reference
    begins = [name for name in known if name.startswith(reference)]
    if len(begins) == 1:
        return out / RUNS / begins[0]
    if begins:
        raise InputError(f"{reference!r} is the beginning of {len(begins)} runs: {', '.join(begins)}. Give more of it.")
    raise unknown_name(f"run in {out / RUNS}", reference, known)


def beside(out: Path, result: Result) -> list[Result]:
    """Other results on exactly the same examples: what a number has to be read against. Unreadable ones are left out."""
    others = []
    for folder in folders(out):
        if folder.name == result.run or not (folder / RESULT).is_file():
            continue
        try:
            other = read_result(folder / RESULT)
        except InputError:
            continue
        if same_examples(result, other):
            others.append(other)
    return others


def same_examples(one: Result, other: Result) -> bool:
    """Whether two results answer the same questions under the same protocol."""
    keys = ("task", "dataset_fingerprint", "targets_digest", "protocol", "seed", "limit")
    return all(getattr(one, key) == getattr(other, key) for key in keys)


def folders(out: Path) -> Iterator[Path]:
    """The folders of the runs under OUT, finished or not, by name."""
    root = out / RUNS
    if root.is_dir():
        yield from sorted(path for path in root.iterdir() if (path / JOURNAL).is_file())
