"""Answers on disk, shared by every process that uses the folder.

`answers.jsonl` only grows. An entry is appended with one write under a file lock, after whatever other processes appended
has been read, so that none is lost, torn or doubled. When `put` returns, the entry is with the operating system: it
survives `kill -9` of every process at once. Of a power cut it survives what was synced (every few seconds and at the
close): syncing each entry would cost a hundred times the speed to save answers that can be asked for again.

In memory stands one number per entry, where it begins; texts stay on disk.

While a request is out, its process holds a claim: a lock on one byte of `claims.lock` that the kernel drops when the
process dies. So two processes never pay for the same answer at the same time.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

import jsonlines

from bench.atomic import atomic_path, sync_directory
from bench.errors import CheckError, InputError
from bench.llm.keys import key_of_parts

ANSWERS, CLAIMS, IN_USE = "answers.jsonl", "claims.lock", "use.lock"
SYNC_SECONDS = 5.0
_HEAD = b'{"key":"'
_KEY_END = len(_HEAD) + 64
_CHUNK = 1 << 20
# The index looks for the key at the beginning of the line, without spaces; ASCII bears lone surrogates.
_dumps = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_opened: dict[Path, Cache] = {}
_opening = RLock()


def open_cache(directory: Path) -> Cache:
    """The cache of a folder; one object per process, since claims hold between processes only. Close it as often as opened.

    Raises:
        InputError: the folder cannot be made or written.
        CheckError: somebody is pruning it.
    """
    with _opening:
        place = directory.absolute()
        try:
            place.mkdir(parents=True, exist_ok=True)
            place = place.resolve()
            # An empty cache is false, so `or` would open a second one, whose claims the first cannot see.
            found = _opened[place] if place in _opened else Cache(place)
        except OSError as error:
            raise InputError(f"the cache of answers {directory} cannot be used: {error.strerror or error}.") from None
        found.users += 1
        _opened[place] = found
        return found


class Cache:
    """See the module. Methods may be called from any thread; open it with `open_cache`."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.users = directory, 0
        self._lock = RLock()
        self._index: dict[bytes, int] = {}
        self._read_to, self._synced = 0, time.monotonic()
        self._claimed: set[str] = set()
        self._use = os.open(directory / IN_USE, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._use, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._use)
            raise CheckError(f"the cache in {directory} is being pruned; try again when that is done.") from None
        self._claims = os.open(directory / CLAIMS, os.O_RDWR | os.O_CREAT, 0o666)
        self._file = os.open(directory / ANSWERS, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        sync_directory(directory)
        self.refresh()

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, key: str) -> bool:
        return bytes.fromhex(key) in self._index

    def get(self, key: str) -> dict[str, Any] | None:
        """The entry of a key, with "key", "parts", "answer" and "time"; None where there is none that can be read."""
        place = self._index.get(bytes.fromhex(key))
        if place is None:
            return None
        entry = parse_line(self._line(place))
        if entry is None or entry["key"] != key:
            # What a crash of the machine left: ask again, the new entry stands above it.
            with self._lock:
                self._index.pop(bytes.fromhex(key), None)
            return None
        return entry

    def put(self, key: str, parts: dict[str, Any], answer: dict[str, Any]) -> bool:
        """Append an entry; False, and nothing, where the key has one already. On disk as the module says on return."""
        return self.put_many([(key, _dumps(parts), answer)]) == 1

    def put_many(self, rows: Sequence[tuple[str, str, dict[str, Any]]]) -> int:
        """Append entries with one lock and one write.

        Args:
            rows: key, its parts as JSON, answer.

        Returns:
            How many were appended: a key that has an entry gets no second one.
        """
        now = round(time.time(), 3)
        lines = {
            bytes.fromhex(key): f'{{"key":"{key}","parts":{parts},"answer":{_dumps(answer)},"time":{now}}}\n'.encode()
            for key, parts, answer in rows
        }
        with self._lock, _exclusive(self._file):
            end = self._catch_up()
            new = {key: line for key, line in lines.items() if key not in self._index}
            if not new:
                return 0
            # A process that was killed in the middle of a write left a line without an end.
            torn = end > self._read_to
            _write_all(self._file, (b"\n" if torn else b"") + b"".join(new.values()))
            start = end + torn
            for key, line in new.items():
                self._index[key] = start
                start += len(line)
            self._read_to = start
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self._synced = time.monotonic()
            os.fsync(self._file)
        return len(new)

    def refresh(self) -> None:
        """Take in what other processes appended."""
        with self._lock:
            self._catch_up()

    def claim(self, key: str) -> bool:
        """Try to become the one that asks for a key; call `release` afterwards. Takes in what others appended first."""
        with self._lock:
            if key in self._claimed:
                return False
            try:
                fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _claim_byte(key))
            except (BlockingIOError, PermissionError):
                return False
            except OSError:
                # A file system without record locks: better to ask twice than never.
                pass
            self._claimed.add(key)
            self._catch_up()
            return True

    def release(self, key: str) -> None:
        """Let a claim go."""
        with self._lock:
            if key in self._claimed:
                self._claimed.discard(key)
                # Two keys on one byte would free each other; with 2^62 bytes that is left to chance.
                fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, _claim_byte(key))

    def entries(self) -> Iterator[dict[str, Any]]:
        """Every entry that counts, in the order of the file."""
        for place in sorted(self._index.values()):
            entry = parse_line(self._line(place))
            if entry is not None:
                yield entry

    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self._file).st_size

    def close(self) -> None:
        """Close when the last user does."""
        with _opening, self._lock:
            self.users -= 1
            if self.users > 0:
                return
            _opened.pop(self.directory, None)
            os.fsync(self._file)
            for handle in (self._file, self._claims, self._use):
                os.close(handle)

    def _catch_up(self) -> int:
        """Index whole lines behind what is known; the end of the file, which lies further where a line is torn."""
        end = os.fstat(self._file).st_size
        while self._read_to < end:
            # Lines longer than a chunk are read by a larger one.
            length = _CHUNK
            while True:
                data = os.pread(self._file, min(length, end - self._read_to), self._read_to)
                cut = data.rfind(b"\n") + 1
                if cut or length >= end - self._read_to:
                    break
                length *= 4
            if not cut:
                break
            at = 0
            while at < cut:
                stop = data.index(b"\n", at) + 1
                self._enter(data, at, stop)
                at = stop
            self._read_to += cut
        return end

    def _enter(self, data: bytes, at: int, stop: int) -> None:
        if data.startswith(_HEAD, at) and data[stop - 2 : stop - 1] == b"}":
            try:
                key = bytes.fromhex(data[at + len(_HEAD) : at + _KEY_END].decode("ascii"))
            except ValueError:
                return
            # Of two lines with one key, the later was written because the earlier could not be read.
            self._index[key] = self._read_to + at

    def _line(self, place: int) -> bytes:
        length, data = 4096, b""
        while True:
            data = os.pread(self._file, length, place)
            cut = data.find(b"\n")
            if cut >= 0 or len(data) < length:
                return data[: cut + 1] if cut >= 0 else b""
            length *= 4


def parse_line(line: bytes) -> dict[str, Any] | None:
    """The entry of a line, None where it is none."""
    try:
        entry: Any = jsonlines.Reader([line]).read()
    except (jsonlines.InvalidLineError, EOFError, ValueError, RecursionError):
        return None
    good = isinstance(entry, dict) and isinstance(entry.get("answer"), dict) and isinstance(entry.get("key"), str)
    return entry if good else None


def prune(directory: Path, keep: Callable[[dict[str, Any]], bool]) -> tuple[int, int]:
    """Write the cache anew with the entries that `keep` says yes to; whole or not at all.

    Returns:
        Entries kept and entries dropped; a damaged line, and an entry whose key does not fit its parts, is dropped.

    Raises:
        CheckError: a process is using the cache.
    """
    path = directory / ANSWERS
    if not path.exists():
        return 0, 0
    with _opening:
        if directory.resolve() in _opened:
            raise CheckError(f"the cache in {directory} is in use by this process; close the models first.")
        handle = os.open(directory / IN_USE, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CheckError(
                    f"the cache in {directory} is in use by another process; prune when it is done."
                ) from None
            return _rewrite(path, keep)
        finally:
            os.close(handle)


def _rewrite(path: Path, keep: Callable[[dict[str, Any]], bool]) -> tuple[int, int]:
    places: dict[str, int] = {}
    lines = 0
    with path.open("rb") as stream:
        at = 0
        for line in stream:
            entry = parse_line(line)
            lines += bool(line.strip())
            if entry is not None and key_of_parts(entry.get("parts") or {}) == entry["key"] and keep(entry):
                places[entry["key"]] = at
            at += len(line)
        with atomic_path(path) as temporary, temporary.open("wb") as kept:
            for place in sorted(places.values()):
                stream.seek(place)
                line = stream.readline()
                kept.write(line if line.endswith(b"\n") else line + b"\n")
    return len(places), lines - len(places)


def _claim_byte(key: str) -> int:
    return int(key[:16], 16) >> 2


@contextmanager
def _exclusive(handle: int) -> Iterator[None]:
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)


def _write_all(handle: int, data: bytes) -> None:
    """One write; where the system takes less (a full disk), the rest or an error."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
