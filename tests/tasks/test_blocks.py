"""Blocks of lines: the same lines whatever the block size, and one clear line for whatever is wrong with a file."""

import gzip
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import InputError
from tasks.datasets.blocks import blocks, headed_frames, json_frame, tab_frame

FIELD = st.text(st.characters(blacklist_characters="\t\n\r\x00\ufeff", blacklist_categories=("Cs", "Cc")), max_size=8)


@settings(deadline=None, max_examples=80)
@given(
    rows=st.lists(st.tuples(FIELD.filter(str.strip), FIELD), min_size=1, max_size=30),
    size=st.integers(1, 64),
    packed=st.booleans(),
    ended=st.booleans(),
    crlf=st.booleans(),
)
def test_lines_survive_any_block_size(tmp_path_factory, rows, size, packed, ended, crlf):
    path = tmp_path_factory.mktemp("blocks") / "file"
    text = "\n".join("\t".join(row) for row in rows) + ("\n" if ended else "")
    data = (text.replace("\n", "\r\n") if crlf else text).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if packed else data)
    found = [(block.first, tab_frame(block, ("a", "b"))) for block in blocks(path, size=size)]
    assert pl.concat(frame for _, frame in found).rows() == rows
    lines = 1
    for first, frame in found:
        assert first == lines
        lines += len(frame)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def read(path: Path) -> None:
    for block in blocks(path, size=16):
        tab_frame(block, ("a", "b"))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty"),
        (b"\n\n", "line 1: .*expected 2 fields, found 1"),
        (b"a\tb\na\n", "line 2: expected 2 fields, found 1"),
        (b"a\tb\na\tb\tc\na\n", "line 2: expected 2 fields, found 3"),
        (b"a\tb\nM\xe9xico\tb\n", r"line 2: expected UTF-8 text .*M\\\\xe9xico"),
        ("a\tb\n".encode("utf-16"), "not UTF-8 text .*UTF-16"),
        (gzip.compress(b"a\tb\n" * 5000, mtime=0)[:-40], "cut short or damaged"),
        (gzip.compress(b"a\tb\n" * 5000, mtime=0)[:8] + b"xxxxxxxxxxx", "cut short or damaged"),
    ],
)
def test_a_wrong_file_is_one_line_with_its_place(tmp_path, data, told):
    with pytest.raises(InputError, match=told) as caught:
        read(write(tmp_path / "file.tsv", data))
    assert "file.tsv" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_told(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read(path)


def test_a_byte_order_mark_of_utf8_is_skipped(tmp_path):
    (block,) = blocks(write(tmp_path / "file", b"\xef\xbb\xbfa\tb\n"))
    assert tab_frame(block, ("a", "b")).rows() == [("a", "b")]


def test_columns_are_found_by_name(tmp_path):
    path = write(tmp_path / "file.csv", b"x,user,item\n1,u,a\n2,v,b\n")
    frames = [frame for _, frame in headed_frames(path, ("item", "user"))]
    assert pl.concat(frames).rows() == [("a", "u"), ("b", "v")]
    with pytest.raises(InputError, match="column 'time' is missing; the file has 'x', 'user', 'item'"):
        list(headed_frames(path, ("time",)))
    with pytest.raises(InputError, match="nothing below"):
        list(headed_frames(write(path, b"x,user\n"), ("user",)))


def test_a_torn_json_line_is_named(tmp_path):
    path = write(tmp_path / "f.jsonl", b'{"a": "1"}\n{"a": "2", "b": [1]}\n{"a": ')
    with pytest.raises(InputError, match=r"f\.jsonl, line 3: not a whole JSON object"):
        for block in blocks(path):
            json_frame(block, {"a": pl.String})
