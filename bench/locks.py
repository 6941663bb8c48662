"""One writer at a time: advisory file locks that the system lets go when a process dies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import BusyError


@contextmanager
def file_lock(path: Path, busy: str | None = None, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file `path` for the length of the block. The file stays, since removing it would race.

    Args:
        path: the lock file; its folder is made.
        busy: what to say when another process holds the lock; None waits for it instead.
        waiting: called once before waiting.

    Raises:
        BusyError: the lock is held and `busy` is given; the message ends with the holder's process number.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if busy is not None:
                holder = os.read(handle, 32).decode(errors="replace").strip()
                raise BusyError(f"{busy} (process {holder or 'unknown'}).") from None
            if waiting is not None:
                waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        os.truncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
