"""Large text files in blocks of whole lines, plain or gzip, parsed by polars; what is wrong is told with its line.

A block is parsed whole, which is fast. Only where that fails, or its result cannot be, its lines are read one by one to find
the first wrong one.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from bench.errors import InputError

if TYPE_CHECKING:
    import polars as pl

BLOCK_BYTES = 1 << 25
# A line longer than this is no line: the file is binary, or its line ends were lost.
MAX_LINE_BYTES = 1 << 27
GZIP_MAGIC = b"\x1f\x8b"
# Byte order marks of UTF-16 and UTF-32; that of UTF-8 is harmless and skipped.
FOREIGN_MARKS, UTF8_MARK = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff"), b"\xef\xbb\xbf"
SHOWN = 60

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Block:
    """Whole lines of a file, each ended by a newline; `first` is the number of the first one, from 1."""

    path: Path
    first: int
    data: bytes

    def wrong(self, row: int, problem: str) -> InputError:
        """The error for the line that is `row` lines after the first."""
        return wrong_line(self.path, self.first + row, self.data.split(b"\n", row + 1)[row], problem)


def wrong_line(path: Path, number: int, line: bytes, problem: str) -> InputError:
    """One line about a wrong line: the file, its number, what is wrong, and how it begins."""
    text = line.decode("utf-8", "backslashreplace")
    shown = text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
    return InputError(f"{path}, line {number}: {problem} (the line is {shown!r}).")


def blocks(path: Path, advance: Advance | None = None, size: int = BLOCK_BYTES) -> Iterator[Block]:
    """The file's lines, about `size` bytes at a time; empty lines at its end are left out.

    Args:
        path: a text file in UTF-8, plain or gzip (told by its first bytes, not its name).
        advance: told how many bytes of the file were read.
        size: bytes of a block.

    Raises:
        InputError: the file cannot be read, is empty, is cut short, or is no UTF-8 text.
    """
    number, rest, told = 1, b"", 0
    with _opened(path) as (packed, source):
        while chunk := _read(path, source, size):
            if advance is not None:
                advance(packed.tell() - told)
                told = packed.tell()
            if number == 1 and not rest:
                chunk = _without_mark(path, chunk)
            data, newline, rest = (rest + chunk).rpartition(b"\n")
            if newline:
                made = Block(path, number, _unix(data + newline))
                number += made.data.count(b"\n")
                yield made
            elif len(rest) > MAX_LINE_BYTES:
                raise InputError(f"{path}: no line end in its first {len(rest):,} bytes; expected a text file.")
        if rest.strip():
            yield Block(path, number, _unix(rest + b"\n"))
        elif number == 1:
            raise InputError(f"{path} is empty.")


def tab_frame(block: Block, columns: tuple[str, ...], separator: str = "\t") -> pl.DataFrame:
    """A block without a header and without quotes: as many text columns; empty fields are empty texts.

    Raises:
        InputError: a line with another number of fields, or one that is no UTF-8.
    """
    import polars as pl

    inside = block.data.count(separator.encode()) == (len(columns) - 1) * block.data.count(b"\n")
    try:
        if not inside:
            raise pl.exceptions.SchemaError("ragged")
        frame = pl.read_csv(
            block.data,
            separator=separator,
            has_header=False,
            quote_char=None,
            schema=dict.fromkeys(columns, pl.String),
        ).fill_null("")
    except pl.exceptions.PolarsError as error:
        raise _first_wrong(block, lambda line: _fields_problem(line, len(columns), separator), error) from None
    if len(frame) != block.data.count(b"\n"):
        raise _first_wrong(block, lambda line: None if line.strip() else "the line is empty", None)
    return frame


def headed_frames(
    path: Path, wanted: tuple[str, ...], separator: str = ",", advance: Advance | None = None
) -> Iterator[tuple[Block, pl.DataFrame]]:
    """Blocks of a file with a header line and without quotes, and their wanted columns as text.

    Raises:
        InputError: a column is missing, or see `tab_frame`.
    """
    columns: tuple[str, ...] = ()
    for block in blocks(path, advance):
        if not columns:
            header, _, data = block.data.partition(b"\n")
            columns = tuple(header.decode("utf-8", "replace").split(separator))
            require_columns(path, columns, wanted)
            block = Block(path, 2, data)
            if not data:
                raise InputError(f"{path} has a header line and nothing below it.")
        yield block, tab_frame(block, columns, separator).select(wanted)


def json_frame(block: Block, schema: Mapping[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    """A block of JSON lines: the keys of `schema`, null where a line lacks one.

    Raises:
        InputError: a line that is not one JSON object.
    """
    import polars as pl

    try:
        frame = pl.read_ndjson(io.BytesIO(block.data), schema=dict(schema))
    except pl.exceptions.PolarsError as error:
        raise _first_wrong(block, _json_problem, error) from None
    if len(frame) != block.data.count(b"\n"):
        raise _first_wrong(block, _json_problem, None)
    return frame


def require_columns(path: Path, found: tuple[str, ...] | list[str], wanted: tuple[str, ...]) -> None:
    """Refuse a file that lacks a column.

    Raises:
        InputError: names what is missing and what is there.
    """
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InputError(f"{path}: column {missing[0]!r} is missing; the file has {', '.join(map(repr, found))}.")


def refuse(block: Block, bad: pl.Series, problem: str) -> None:
    """Refuse the first line of a block where `bad` (bool, one value a line) holds.

    Raises:
        InputError: there is one.
    """
    if bad.any():
        raise block.wrong(int(bad.arg_true()[0]), problem)


def _first_wrong(block: Block, problem: Callable[[bytes], str | None], error: Exception | None) -> InputError:
    for row, line in enumerate(block.data.split(b"\n")[:-1]):
        found = "expected UTF-8 text" if not is_utf8(line) else problem(line)
        if found:
            return block.wrong(row, found)
    reason = "not readable" if error is None else (str(error) or "no message").splitlines()[0]
    return InputError(f"{block.path}, from line {block.first}: {reason}.")


def _fields_problem(line: bytes, count: int, separator: str) -> str | None:
    found = line.count(separator.encode()) + 1
    return None if found == count else f"expected {count} fields, found {found}"


def _json_problem(line: bytes) -> str | None:
    try:
        return None if isinstance(json.loads(line), dict) else "expected a JSON object"
    except ValueError as error:
        return f"not a whole JSON object ({error})"


def is_utf8(line: bytes) -> bool:
    """Whether a line is UTF-8."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _unix(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n") if b"\r" in data else data


def _without_mark(path: Path, chunk: bytes) -> bytes:
    if chunk.startswith(FOREIGN_MARKS) or b"\x00" in chunk[:4096]:
        raise InputError(f"{path} is not UTF-8 text (it looks like UTF-16, or a binary file): convert it to UTF-8.")
    return chunk.removeprefix(UTF8_MARK)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes] | gzip.GzipFile]]:
    """The file as it lies on the disk, and what is read of it: the same, or what gzip unpacks."""
    try:
        packed = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    with packed:
        is_gzip = packed.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        packed.seek(0)
        yield packed, gzip.GzipFile(fileobj=packed) if is_gzip else packed


def _read(path: Path, source: IO[bytes] | gzip.GzipFile, size: int) -> bytes:
    try:
        return source.read(size)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(f"{path} is cut short or damaged: its gzip stream breaks off; fetch it again.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
