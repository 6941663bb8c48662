"""Datasets that are prepared once and then memory-mapped.

    <cache>/prepared/NAME-KEY/prepared.json          what it was made from, counts, and the size of every file
                              users.arrow items.arrow  names and items, Arrow streams (`datasets.Dataset.from_file` reads them)
                              offsets.npy events.npy times.npy
    <cache>/prepared/NAME-KEY.SPLIT/split.json       one split of it, its fingerprint
                              users.npy items.npy offsets.npy events.npy times.npy train_end.npy valid_end.npy

KEY stands for where the files lie and how they are read. Each folder appears by one rename when all of it is on the disk, and
is made anew when a file that it was made from has changed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.atomic import atomic_write, sync_directory, sync_file
from bench.cards import DatasetCard
from bench.contracts import Dataset, Progress, Ragged
from bench.errors import InputError
from bench.locks import file_lock
from tasks.datasets.base import Cut, Item, cut, dataset_of
from tasks.datasets.event_log import EventLog

if TYPE_CHECKING:
    import polars as pl

LAYOUT = 1
LOG_MARKER, SPLIT_MARKER = "prepared.json", "split.json"
TEMPORARY = ".making"


@dataclass(frozen=True)
class Source:
    """What a prepared dataset is made from: files, and how they are read (`reading`, plain values)."""

    name: str
    files: tuple[Path, ...]
    reading: dict[str, Any]

    @property
    def key(self) -> str:
        """Name and hash of place and reading; the folder's name."""
        places = [str(path.resolve()) for path in self.files]
        material = json.dumps([LAYOUT, places, self.reading], sort_keys=True)
        return f"{self.name}-{hashlib.sha256(material.encode()).hexdigest()[:12]}"

    def state(self) -> list[list[Any]]:
        """Path, size and time of every file: another state means that the dataset is prepared again."""
        return [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in self.files]


class Prepared:
    """The prepared form of one source, made where it is missing or stale."""

    def __init__(self, root: Path, source: Source) -> None:
        self.root, self.source = root, source
        self.folder = root / source.key

    def log(self, read: Callable[[], EventLog], progress: Progress | None = None) -> Path:
        """The folder of the log; `read` is called where it has to be made.

        Raises:
            InputError: the files are wrong, or the disk is full.
        """
        state = self.source.state()

        def make(folder: Path) -> dict[str, Any]:
            if progress is not None:
                progress.note(f"preparing {self.source.name} in {self.folder}: once, and again when its files change")
            found = read()
            with _told(self.root, self.source.name):
                write_log(folder, found)
            return {"sources": state, "reading": self.source.reading, "counts": found.counts}

        return self._made(self.folder, LOG_MARKER, lambda marker: marker["sources"] == state, make)

    def dataset(
        self, read: Callable[[], EventLog], card: DatasetCard, split: str, progress: Progress | None
    ) -> Dataset:
        """The dataset under a split, memory-mapped.

        Raises:
            InputError: the files are wrong, the data have no clock for the split, or the disk is full.
        """
        log = self.log(read, progress)
        made = (log / LOG_MARKER).read_text("utf-8")

        def make(folder: Path) -> dict[str, Any]:
            parts = cut(card.name, len(_stream(log / "items.arrow")), _events(log), split, _array(log, "times"))
            dataset = dataset_of(card, _items(log, parts.items), _users(log, parts.users), parts)
            with _told(self.root, self.source.name):
                write_cut(folder, parts)
            return {"log": hashlib.sha256(made.encode()).hexdigest(), "fingerprint": dataset.fingerprint}

        same = hashlib.sha256(made.encode()).hexdigest()
        folder = self._made(
            self.folder.with_name(f"{self.folder.name}.{split}"), SPLIT_MARKER, lambda m: m["log"] == same, make
        )
        parts = read_cut(folder)
        mark = json.loads((folder / SPLIT_MARKER).read_text("utf-8"))["fingerprint"]
        return dataset_of(card, _items(log, parts.items), _users(log, parts.users), parts, mark)

    def about(self) -> dict[str, Any]:
        """What the marker of the log says; only after `log`."""
        found: dict[str, Any] = json.loads((self.folder / LOG_MARKER).read_text("utf-8"))
        return found

    def _made(
        self,
        folder: Path,
        marker: str,
        current: Callable[[dict[str, Any]], bool],
        make: Callable[[Path], dict[str, Any]],
    ) -> Path:
        """The folder, made in a temporary one beside it and renamed where it is not there, stale or damaged."""
        if _usable(folder, marker, current):
            return folder
        with _told(self.root, self.source.name):
            self.root.mkdir(parents=True, exist_ok=True)
        with file_lock(self.root / f".{folder.name}.lock"):
            if _usable(folder, marker, current):
                return folder
            making = folder.with_name(folder.name + TEMPORARY)
            # Left by a process that was killed: nobody else can be at it while the lock is held.
            shutil.rmtree(making, ignore_errors=True)
            try:
                with _told(self.root, self.source.name):
                    making.mkdir()
                about = make(making)
                with _told(self.root, self.source.name):
                    _finish(making, folder, marker, about)
            except BaseException:
                shutil.rmtree(making, ignore_errors=True)
                raise
        return folder


def write_log(folder: Path, log: EventLog) -> None:
    """Write a log's tables and arrays into a folder."""
    _write_stream(folder / "users.arrow", log.users.to_frame("user"))
    _write_stream(folder / "items.arrow", log.items.select("id", "title", "text", "labels"))
    np.save(folder / "offsets.npy", log.events.offsets)
    np.save(folder / "events.npy", log.events.values)
    if log.times is not None:
        np.save(folder / "times.npy", log.times)


def write_cut(folder: Path, parts: Cut) -> None:
    """Write a split's arrays into a folder."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "users": parts.users,
        "items": parts.items,
        "offsets": parts.events.offsets,
        "events": parts.events.values,
        "train_end": parts.train_end,
        "valid_end": parts.valid_end,
    }
    if parts.times is not None:
        arrays["times"] = parts.times
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)


def read_cut(folder: Path) -> Cut:
    """What `write_cut` wrote, memory-mapped."""
    users, items, train_end, valid_end = (_array(folder, name) for name in ("users", "items", "train_end", "valid_end"))
    return Cut(users, items, _events(folder), _array(folder, "times"), train_end, valid_end)


def _events(folder: Path) -> Ragged:
    return Ragged(_array(folder, "offsets"), _array(folder, "events"))


def _array(folder: Path, name: str) -> Any:
    path = folder / f"{name}.npy"
    return np.load(path, mmap_mode="r", allow_pickle=False) if path.is_file() else None


def _stream(path: Path) -> Any:
    """An Arrow table that lies in the file, not in memory."""
    import pyarrow as pa

    return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()


def _users(folder: Path, rows: Any) -> tuple[str, ...]:
    return tuple(_stream(folder / "users.arrow").column("user").take(rows).to_pylist())


def _items(folder: Path, rows: Any) -> list[Item]:
    kept = _stream(folder / "items.arrow").take(rows)
    columns = (kept.column(name).to_pylist() for name in ("id", "title", "text", "labels"))
    return [Item(key, title, text, tuple(labels)) for key, title, text, labels in zip(*columns, strict=True)]


def _write_stream(path: Path, frame: pl.DataFrame) -> None:
    import polars as pl
    import pyarrow as pa

    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def _usable(folder: Path, marker: str, current: Callable[[dict[str, Any]], bool]) -> bool:
    """Whether a folder is whole and was made from what is there now."""
    try:
        about = json.loads((folder / marker).read_text("utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in about["files"].items())
        return whole and about["layout"] == LAYOUT and current(about)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _finish(making: Path, folder: Path, marker: str, about: dict[str, Any]) -> None:
    written = sorted(path for path in making.iterdir() if path.is_file())
    for path in written:
        sync_file(path)
    sizes = {path.name: path.stat().st_size for path in written}
    atomic_write(making / marker, json.dumps({"layout": LAYOUT, "files": sizes} | about, indent=1) + "\n")
    if folder.exists():
        # A rename onto a folder with files fails; whoever has the old arrays mapped keeps them.
        shutil.rmtree(folder)
    making.rename(folder)
    sync_directory(folder.parent)


@contextmanager
def _told(root: Path, name: str) -> Iterator[None]:
    """Turns what the system says while writing into one line: a full disk is the person's to mend."""
    try:
        yield
    except OSError as error:
        # numpy says "N requested and M written" without the system's reason, which is a full disk.
        reason = os.strerror(errno.ENOSPC) if error.errno is None and "written" in str(error) else error.strerror
        raise InputError(
            f"{name} cannot be prepared in {root}: {reason or error}. Nothing half-made was left; free some space, "
            "or set BENCH_CACHE_DIR to a folder on another disk."
        ) from None
