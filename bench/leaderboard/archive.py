"""Runs as archives: packed so that the same run gives the same bytes, and unpacked as what a stranger sent."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from bench import provenance
from bench.atomic import atomic_write
from bench.contracts import Dataset
from bench.errors import InputError
from bench.leaderboard.entries import JUDGEMENTS
from bench.leaderboard.examples import may_be_passed_on
from bench.runs import JOURNAL, RANKINGS, RESULT, SCORES

SUFFIX = ".tar.gz"
OWN = (JOURNAL, RESULT, RANKINGS, SCORES)
# Of a judgement its figures: what a language model wrote about a list may quote titles.
OF_JUDGEMENT = (RESULT, SCORES)
MEMBERS, UNPACKED_BYTES = 200, 1 << 29
CHUNK = 1 << 20
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,199}")
# A title this short is a word like any other.
SHORTEST_TITLE = 8


@dataclass(frozen=True)
class Packed:
    """An archive that was written."""

    path: Path
    sha256: str


def pack(run: Path, folder: Path, dataset: Dataset) -> Packed:
    """Write `folder/RUN.tar.gz`: sorted members, no times, no owners.

    Args:
        run: folder of a finished run.
        folder: where the archive goes.
        dataset: the run's dataset: no text of the archive may quote a title of it, unless its licence is open.

    Raises:
        InputError: a file is missing, or holds a secret, a title, or a column of a kind that has no place in it.
    """
    names = [
        *OWN,
        *(
            path.relative_to(run).as_posix()
            for path in sorted(run.glob(f"{JUDGEMENTS}/*/*"))
            if path.name in OF_JUDGEMENT
        ),
    ]
    titles = () if may_be_passed_on(dataset.card) else dataset.catalogue.titles
    contents = {}
    for name in names:
        if not (run / name).is_file():
            raise InputError(f"{run / name} is missing: finish the run, or compute its scores with `bench score`.")
        contents[name] = (run / name).read_bytes()
        for text in _texts(run / name, contents[name]):
            _refuse_secrets(run / name, text)
            _refuse_titles(run / name, text, titles)
    stream = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", 9, stream, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name in sorted(contents):
            member = tarfile.TarInfo(f"{run.name}/{name}")
            member.size, member.mode = len(contents[name]), 0o644
            tar.addfile(member, io.BytesIO(contents[name]))
    path = folder / f"{run.name}{SUFFIX}"
    atomic_write(path, stream.getvalue())
    return Packed(path, hashlib.sha256(stream.getvalue()).hexdigest())


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a run from an archive that anybody may have made.

    Nothing leaves `folder`: only plain files with the names that `pack` writes are accepted, all under one folder.

    Args:
        archive: the file.
        folder: an empty folder.

    Returns:
        The run's folder.

    Raises:
        InputError: it is truncated or no such archive, too large, or has a member that does not belong there.
    """
    written: set[str] = set()
    try:
        with _plain(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for number, member in enumerate(tar, 1):
                if number > MEMBERS:
                    raise InputError(f"{archive} has more than {MEMBERS} members; no run has so many.")
                name = _member_name(archive, member)
                if name in written:
                    raise InputError(f"{archive} has {_shown(member.name)} twice.")
                written.add(name)
                content = tar.extractfile(member)
                data = b"" if content is None else content.read()
                if len(data) != member.size:
                    raise InputError(f"{archive} is truncated within {_shown(member.name)}: get it again.")
                atomic_write(folder / name, data)
    except FileNotFoundError:
        raise InputError(f"{archive} is missing.") from None
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{archive} is truncated or no archive of a run ({error}): get it again.") from None
    roots = {PurePosixPath(name).parts[0] for name in written}
    if len(roots) != 1:
        raise InputError(f"{archive} holds {len(roots)} folders; an archive holds one run.")
    run = folder / roots.pop()
    for name in OWN:
        if not (run / name).is_file():
            raise InputError(f"{archive} has no {name}: it is no archive of `bench submit`, or truncated.")
    return run


@contextmanager
def _plain(archive: Path) -> Iterator[IO[bytes]]:
    """The archive decompressed into a file that vanishes; a bomb stops at the size that no run has."""
    with gzip.open(archive) as zipped, tempfile.TemporaryFile() as stream:
        while chunk := zipped.read(CHUNK):
            stream.write(chunk)
            if stream.tell() > UNPACKED_BYTES:
                raise InputError(f"{archive} unpacks to more than {UNPACKED_BYTES >> 20} MiB; no run is so large.")
        stream.seek(0)
        yield stream


def _member_name(archive: Path, member: tarfile.TarInfo) -> str:
    parts = member.name.split("/")
    plain = member.isreg() and all(NAME.fullmatch(part) for part in parts)
    own = len(parts) == 2 and parts[1] in OWN
    judged = len(parts) == 4 and parts[1] == JUDGEMENTS and parts[3] in OF_JUDGEMENT
    if not (plain and (own or judged)):
        raise InputError(
            f"{archive}: member {_shown(member.name)} has no place in an archive of a run; nothing is kept."
        )
    return member.name


def _texts(path: Path, content: bytes) -> Iterator[str]:
    """All text in a file that is packed."""
    if path.suffix != ".parquet":
        yield from content.decode("utf-8", errors="replace").splitlines()
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.ParquetFile(io.BytesIO(content)).read()
    for name, column in zip(table.column_names, table.columns, strict=True):
        yield name
        kind = column.type.value_type if pa.types.is_list(column.type) else column.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            values = column.to_pylist()
            yield from {str(text) for value in values for text in (value if isinstance(value, list) else [value])}
        elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise InputError(f"{path}: column {name!r} holds {kind}; only numbers and words can be submitted.")


def _refuse_secrets(path: Path, text: str) -> None:
    if provenance.SECRET_VALUE.search(text):
        raise InputError(
            f"{path} holds what looks like a key or password ({provenance.redact(text)[:80]}...): take it out."
        )


def _refuse_titles(path: Path, text: str, titles: tuple[str, ...]) -> None:
    quoted = next((title for title in titles if len(title) >= SHORTEST_TITLE and title in text), None)
    if quoted is not None:
        raise InputError(f"{path} quotes the title {quoted!r}, which the dataset's licence does not let you pass on.")


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")
