"""The append-only journal of a run: a start record, a record for every batch, an end record; JSON lines.

A journal without an end record belongs to a run that was interrupted. A torn last line is what a kill leaves, and is
dropped; damage anywhere else is an error.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonlines

from bench.atomic import sync_directory
from bench.errors import CheckError, InputError
from bench.identity import canonical_json
from bench.locks import file_lock

JOURNAL_VERSION = 1


@dataclass(frozen=True)
class Journal:
    """What a journal says so far: its records in order, and how many bytes of the file they take."""

    path: Path
    records: list[dict[str, Any]] = field(default_factory=list)
    size: int = 0

    @property
    def start(self) -> dict[str, Any] | None:
        """The start record, None in an empty journal."""
        return self.records[0] if self.records else None

    @property
    def batches(self) -> list[dict[str, Any]]:
        """Batch records that count, by example: where a batch had to be ranked again, the later record stands."""
        newest = [record for record in reversed(self.records) if record["record"] == "batch"]
        taken = bytearray(max((record["stop"] for record in newest), default=0))
        kept = []
        for record in newest:
            span = slice(record["start"], record["stop"])
            if not any(taken[span]):
                taken[span] = b"\1" * (record["stop"] - record["start"])
                kept.append(record)
        return sorted(kept, key=lambda record: int(record["start"]))

    @property
    def end(self) -> dict[str, Any] | None:
        """The end record, None where the run was not finished."""
        last = self.records[-1] if self.records else {}
        return last if last.get("record") == "end" else None


class Writer:
    """Appends records to a journal that this process holds the lock of. Every record is on the disk when `add` returns."""

    def __init__(self, path: Path, journal: Journal) -> None:
        self.path, self.records = path, list(journal.records)
        # What follows the last whole record is a torn line: cut it, or the next record would be glued to it.
        if path.exists() and path.stat().st_size != journal.size:
            os.truncate(path, journal.size)
        self._stream = path.open("a", encoding="utf-8")
        self._lines = jsonlines.Writer(self._stream, dumps=canonical_json)
        sync_directory(path.parent)

    def add(self, record: str, **values: Any) -> None:
        """Append a record of the given kind with the time (seconds since 1970) and `values`."""
        self.add_all(record, [values])

    def add_all(self, record: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append a record of the given kind for each of the rows."""
        now = round(time.time(), 3)
        new = [{"record": record, "time": now, **values} for values in rows]
        self._lines.write_all(new)
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.records.extend(new)

    def close(self) -> None:
        """Close the file."""
        self._lines.close()
        self._stream.close()


def read(path: Path) -> Journal:
    """Read a journal; an absent file is an empty journal.

    Raises:
        CheckError: a line before the last is no record, or the first is no start record.
        InputError: the journal was written by a newer version.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Journal(path)
    # Only a line that its newline closes was written whole.
    lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
    records: list[dict[str, Any]] = []
    size = 0
    for number, line in enumerate(lines, 1):
        record = _parse(line)
        if record is None:
            if number == len(lines):
                break
            raise CheckError(f"{path}, line {number}: not a journal record; run again with --refit to start anew.")
        records.append(record)
        size += len(line)
    _check_start(path, records)
    return Journal(path, records, size)


@contextmanager
def open_for(path: Path, identity: str, anew: bool = False) -> Iterator[Writer]:
    """Hold a run's journal for writing.

    Args:
        path: the journal; beside it lies the lock file.
        identity: identity of the run that wants to write.
        anew: forget what the journal says.

    Raises:
        CheckError: another process is writing this run.
        InputError: the journal belongs to another run.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(path.with_name("run.lock"), busy=f"another process is writing the run in {path.parent}"):
        if anew:
            path.unlink(missing_ok=True)
        journal = read(path)
        if journal.start is not None and journal.start["identity"] != identity:
            raise InputError(
                f"{path} belongs to another run (identity {journal.start['identity'][:12]}, this one is {identity[:12]}): "
                "remove its folder or choose another --out."
            )
        writer = Writer(path, journal)
        try:
            yield writer
        finally:
            writer.close()


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        reader = jsonlines.Reader(io.StringIO(line.decode("utf-8")))
        record: Any = reader.read()
    except (UnicodeDecodeError, jsonlines.InvalidLineError, EOFError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("record"), str) else None


def _check_start(path: Path, records: list[dict[str, Any]]) -> None:
    if not records:
        return
    first = records[0]
    if first["record"] != "start" or not isinstance(first.get("identity"), str):
        raise CheckError(f"{path}, line 1: a journal begins with a start record; run again with --refit to start anew.")
    if first.get("journal_version", JOURNAL_VERSION) > JOURNAL_VERSION:
        raise InputError(f"{path} was written by a newer version of the benchmark: upgrade promptrec-bench.")
