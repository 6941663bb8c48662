"""People's scores, as a CSV file: `run,example,rater` and one column or more of the three scores; an empty cell is no score."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bench.contracts import ASPECTS
from bench.errors import InputError, unknown_name
from judges.resampling import Column

KEYS = ("run", "example", "rater")


def read_labels(path: Path, runs: Mapping[str, Mapping[int, int]]) -> dict[str, dict[str, Column]]:
    """Scores by rater and run.

    Args:
        path: the file.
        runs: of every audited run, which row of the judged lists each example number has.

    Returns:
        Rater to run to float64 [B, 3], in the order of `ASPECTS`, NaN where the rater gave none.

    Raises:
        InputError: the file cannot be read, lacks a column, or names a run or example that is not audited, or a score that is no
            whole number from 1 to 10; the message names the line.
    """
    found: dict[str, dict[str, Column]] = {}
    said: set[tuple[str, str, int]] = set()
    for number, row in _rows(path):
        where = f"{path}, line {number}"
        run = _run(row["run"] or "", runs, where)
        place = _place(row["example"] or "", runs[run], run, where)
        rater = (row["rater"] or "").strip()
        if not rater:
            raise InputError(f"{where}: no rater; give everybody a name.")
        if (rater, run, place) in said:
            raise InputError(f"{where}: rater {rater!r} has scored example {row['example']} of {run} before.")
        said.add((rater, run, place))
        scores = found.setdefault(rater, {}).setdefault(run, np.full((len(runs[run]), len(ASPECTS)), np.nan))
        scores[place] = [_score(row.get(aspect) or "", aspect, where) for aspect in ASPECTS]
    if not found:
        raise InputError(f"{path} holds no scores: it needs a line for every scored list.")
    return found


def _rows(path: Path) -> list[tuple[int, dict[str, str | None]]]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}.") from None
    reader = csv.DictReader(text.splitlines())
    columns = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = columns
    missing = [name for name in KEYS if name not in columns]
    if missing or not set(columns) & set(ASPECTS):
        lacking = repr(missing[0]) if missing else f"of scores ({', '.join(ASPECTS)})"
        raise InputError(
            f"{path} has no column {lacking}: expected {', '.join(KEYS)} and one or more of {', '.join(ASPECTS)}."
        )
    unknown = next((name for name in columns if name not in (*KEYS, *ASPECTS)), None)
    if unknown is not None:
        raise unknown_name(f"column in {path}", unknown, (*KEYS, *ASPECTS))
    try:
        return [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}.") from None


def _run(name: str, runs: Mapping[str, Mapping[int, int]], where: str) -> str:
    begins = [run for run in runs if run == name.strip()] or [
        run for run in runs if name.strip() and run.startswith(name.strip())
    ]
    if len(begins) != 1:
        raise InputError(f"{where}: {unknown_name('run of this audit', name.strip(), runs)}")
    return begins[0]


def _place(text: str, examples: Mapping[int, int], run: str, where: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise InputError(f"{where}: example {text!r} is no number.") from None
    if number not in examples:
        raise InputError(
            f"{where}: run {run} has no example {number} among the {len(examples)} that are judged "
            f"({min(examples)} to {max(examples)}; --limit leaves some out)."
        )
    return examples[number]


def _score(text: str, aspect: str, where: str) -> float:
    if not text.strip():
        return math.nan
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if score not in range(1, 11):
        raise InputError(f"{where}: {aspect} is {text.strip()!r}; expected a whole number from 1 to 10, or nothing.")
    return score
