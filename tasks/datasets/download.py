"""Downloads, resumable and never half-written: a file as it is, or a pinned zip archive that is checked and unpacked."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO

from bench.contracts import Progress
from bench.errors import CheckError

TIMEOUT_SECONDS = 30.0
CHUNK_BYTES = 1 << 16
# Far above any archive of the project: a server or an archive that sends more is not what was asked for.
MAX_BYTES = 1 << 30

Advance = Callable[[int], None]


def fetch_archive(
    url: str,
    sha256: str,
    target: Path,
    members: Sequence[str],
    progress: Progress | None = None,
    max_bytes: int = MAX_BYTES,
) -> Path:
    """Download a zip archive, check it, and put the named members into `target`.

    The archive grows in `<target>.zip.part`, which an interrupted download leaves and the next one continues. Members
    are found by their last path component, whatever folder the archive keeps them in; no path of the archive is used.
    They are written to a temporary folder that becomes `target` in one rename.

    Args:
        url: where the archive is.
        sha256: hexadecimal digest of the archive.
        target: the folder to create; a folder that is there already is replaced.
        members: file names without folders, each wanted exactly once.
        progress: shows the bytes.
        max_bytes: bound on the archive and on what it unpacks to.

    Returns:
        `target`.

    Raises:
        CheckError: network or disk failed, the digest differs, or a member is missing, doubled, too large or damaged.
    """
    part = target.with_name(target.name + ".zip.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(url, part, max_bytes, progress)
        found = _sha256(part)
        if found != sha256:
            part.unlink()
            raise CheckError(f"{url}: the archive's SHA-256 is {found}, expected {sha256}; nothing was kept.")
        _unpack(part, target, members, max_bytes)
        part.unlink()
    except OSError as error:
        raise CheckError(f"{url}: cannot write to {target.parent}: {error.strerror or error}.") from None
    return target


def fetch_file(
    url: str, target: Path, progress: Progress | None = None, sha256: str | None = None, max_bytes: int = MAX_BYTES
) -> Path:
    """Download one file, unless it is there already.

    It grows in `<target>.part`, which an interrupted download leaves and the next one continues.

    Args:
        url: where the file is.
        target: where it goes.
        progress: shows the bytes.
        sha256: hexadecimal digest, where its publisher's is known.
        max_bytes: bound on its size.

    Returns:
        `target`.

    Raises:
        CheckError: network or disk failed, or the digest differs.
    """
    if target.is_file():
        return target
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(url, part, max_bytes, progress)
        found = _sha256(part)
        if sha256 is not None and found != sha256:
            part.unlink()
            raise CheckError(f"{url}: the file's SHA-256 is {found}, expected {sha256}; nothing was kept.")
        part.rename(target)
    except OSError as error:
        raise CheckError(f"{url}: cannot write to {target.parent}: {error.strerror or error}.") from None
    return target


def _download(url: str, part: Path, max_bytes: int, progress: Progress | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            # A server without ranges answers 200 with the whole file.
            resumed = response.status == 206
            _save(
                url, response, part, have if resumed else 0, response.headers.get("Content-Length"), max_bytes, progress
            )
    except urllib.error.HTTPError as error:
        # 416: nothing lies behind the part, so it is whole already or belongs to another file; the digest decides.
        if error.code != 416 or not have:
            raise CheckError(f"{url}: the server answered {error.code} {error.reason}.") from None
    except (urllib.error.URLError, HTTPException, ssl.SSLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise CheckError(f"{url}: the download failed ({reason}); the same command continues it.") from None


def _save(
    url: str, source: IO[bytes], part: Path, have: int, length: str | None, max_bytes: int, progress: Progress | None
) -> None:
    expected = have + int(length) if length and length.isdigit() else None
    advance: Advance = (lambda _: None) if progress is None else progress.track(f"download {url}", expected or 0, have)
    with part.open("ab" if have else "wb") as sink:
        while chunk := source.read(CHUNK_BYTES):
            have += len(chunk)
            if have > max_bytes:
                part.unlink()
                raise CheckError(f"{url}: more than {max_bytes} bytes, expected a smaller file.")
            sink.write(chunk)
            advance(len(chunk))
    # `read(n)` ends without an error where the connection closes early, so the length is compared here.
    if expected is not None and have < expected:
        raise CheckError(f"{url}: the download broke off at {have} of {expected} bytes; the same command continues it.")


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _unpack(archive: Path, target: Path, members: Sequence[str], max_bytes: int) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        folder = Path(scratch) / "files"
        folder.mkdir()
        try:
            with zipfile.ZipFile(archive) as source:
                for name in members:
                    _copy_member(source, _member(source, name), folder / name, max_bytes)
        except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
            raise CheckError(f"{archive}: not a readable zip archive ({error}).") from None
        if target.exists():
            # A rename onto a folder with files fails, so the old one steps aside first.
            target.rename(Path(scratch) / "replaced")
        folder.rename(target)


def _member(source: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """The one entry called `name`; entries whose path climbs out of the archive are refused, not renamed."""
    entries = [entry for entry in source.infolist() if PurePosixPath(entry.filename).name == name]
    if len(entries) != 1:
        raise CheckError(f"{source.filename}: expected one {name} in the archive, found {len(entries)}.")
    path = PurePosixPath(entries[0].filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or entries[0].is_dir():
        raise CheckError(f"{source.filename}: the archive's entry {entries[0].filename!r} is not a plain file in it.")
    return entries[0]


def _copy_member(source: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, max_bytes: int) -> None:
    # The declared size bounds what zipfile hands out, so checking it is enough against an archive that inflates.
    if entry.file_size > max_bytes:
        raise CheckError(f"{source.filename}: {entry.filename} unpacks to {entry.file_size} bytes, too large.")
    with source.open(entry) as packed, path.open("wb") as plain:
        shutil.copyfileobj(packed, plain)
