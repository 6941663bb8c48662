"""Submitted runs: archives in `OUT/submissions/`, and the file that lists them, a line a submission."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.errors import CheckError, InputError, first_fault
from bench.identity import canonical_json
from bench.leaderboard.archive import NAME, SUFFIX, Packed, unpack
from bench.leaderboard.entries import Entry, Probe, run_entries
from bench.leaderboard.rows import Row, Submission
from bench.store import sha256_of

SUBMISSIONS, INDEX = "submissions", "submissions.jsonl"
# What a reader of a pull request sees of the row; the archive has the rest.
SUMMARY = ("task", "model", "dataset", "protocol", "condition", "seed")


class Line(BaseModel):
    """One line of the list: the archive, its SHA-256, and what it says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(pattern=f"^{NAME.pattern}$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    row: dict[str, Any]


def line_of(packed: Packed, row: Row) -> str:
    """The line for the list."""
    line = Line(file=packed.path.name, sha256=packed.sha256, row=_summary(row))
    return canonical_json(line.model_dump(mode="json"))


def read_lines(folder: Path) -> list[Line]:
    """The list of a folder of submissions; nothing where there is none.

    Raises:
        InputError: a line is malformed, or repeats an archive or a run; file and line are named.
    """
    path = folder / INDEX
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not readable: {error}") from None
    lines: list[Line] = []
    seen: dict[str, int] = {}
    for number, content in enumerate(text.splitlines(), 1):
        try:
            line = Line.model_validate(json.loads(content))
        except ValidationError as error:
            raise InputError(f"{path}, line {number}: {first_fault(error, 'the line')}.") from None
        except ValueError as error:
            raise InputError(f"{path}, line {number}: not JSON ({error}).") from None
        for key in (line.file, line.sha256):
            if key in seen:
                raise InputError(
                    f"{path}, line {number}: submitted already in line {seen[key]} ({line.file}); keep one of them."
                )
            seen[key] = number
        lines.append(line)
    return lines


@contextmanager
def opened(folder: Path, probes: list[Probe] | None = None) -> Iterator[list[Entry]]:
    """The rows of all submissions, with their archives unpacked for the length of the block.

    Raises:
        InputError: an archive is missing, has another SHA-256 than its line says, or a line does not say what is in it.
    """
    with TemporaryDirectory(prefix="submissions-") as scratch:
        entries: list[Entry] = []
        owners: dict[str, int] = {}
        for number, line in enumerate(read_lines(folder), 1):
            where = f"{folder / INDEX}, line {number}"
            run = _unpacked(folder / line.file, line, where, Path(scratch) / str(number))
            if run.name in owners:
                raise InputError(
                    f"{where}: run {run.name} was submitted already in line {owners[run.name]}; keep one of them."
                )
            owners[run.name] = number
            own = _entries(run, probes or [], where)
            if line.row not in [_summary(entry.row) for entry in own]:
                raise InputError(
                    f"{where}: the row is not that of {line.file}; take the line that `bench submit` printed."
                )
            entries += [Entry(submitted(entry.row, line), entry.folder) for entry in own]
        yield entries


def submitted(row: Row, line: Line) -> Row:
    """The row of a run as that of a submission."""
    origin = Submission(file=line.file, sha256=line.sha256)
    return row.model_copy(update={"id": f"submitted-{row.id}", "source": "submitted", "submission": origin})


def is_archive(path: Path) -> bool:
    """Whether a path is named like an archive of a run."""
    return path.name.endswith(SUFFIX)


def _unpacked(archive: Path, line: Line, where: str, scratch: Path) -> Path:
    if not archive.is_file():
        raise InputError(f"{where}: {archive} is missing.")
    found = sha256_of(archive)
    if found != line.sha256:
        raise InputError(f"{where}: {line.file} has SHA-256 {found[:12]}..., the line says {line.sha256[:12]}...")
    scratch.mkdir()
    return unpack(archive, scratch)


def _entries(run: Path, probes: list[Probe], where: str) -> list[Entry]:
    try:
        return run_entries(run, probes)[0]
    except (InputError, CheckError) as error:
        # The path is one of a scratch folder; the line is what a person can find.
        raise InputError(f"{where}: {str(error).replace(f'{run.parent}/', '')}") from None


def _summary(row: Row) -> dict[str, Any]:
    metrics = {name: None if metric.value is None else round(metric.value, 6) for name, metric in row.metrics.items()}
    return {name: getattr(row, name) for name in SUMMARY} | {"run": row.run, "metrics": metrics}
