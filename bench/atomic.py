"""Files that are there whole or not at all, whatever kills the process in between."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path, durable: bool = True) -> Iterator[Path]:
    """Lend a temporary path beside `path`; when the block ends well, what was written there becomes `path`.

    The data reach the disk before the name does. On any exception, an interrupt included, the temporary file is removed
    and `path` stays as it was. Without `durable` nobody waits for the disk: for many files that are easily made again, since
    after a power cut (no kill) one may be empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if durable:
            sync_file(temporary)
        # mkstemp makes files private; a result is as readable as any other file the person writes.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        if durable:
            sync_directory(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def atomic_write(path: Path, content: str | bytes, durable: bool = True) -> None:
    """Write a whole file: text as UTF-8, or bytes. `durable` as of `atomic_path`."""
    with atomic_path(path, durable) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def sync_file(path: Path) -> None:
    """Make sure that a file's content is on the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def sync_directory(path: Path) -> None:
    """Make sure that a folder's names are on the disk; where the system cannot do that (Windows), nothing."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
