import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import journal
from bench.errors import CheckError, InputError


def write(path, batches=3, end=True, identity="one"):
    with journal.open_for(path, identity) as writer:
        if not writer.records:
            writer.add("start", journal_version=1, identity=identity, about={"title": "Amélie \u2028 über"})
        for start in range(batches):
            writer.add("batch", start=start, stop=start + 1, part=f"part {start}")
        if end:
            writer.add("end")


def test_records_come_back_in_order(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path)
    found = journal.read(path)
    assert [record["record"] for record in found.records] == ["start", "batch", "batch", "batch", "end"]
    assert found.start["about"]["title"] == "Amélie \u2028 über"
    assert found.end is not None and [batch["start"] for batch in found.batches] == [0, 1, 2]
    assert found.size == path.stat().st_size


def test_an_absent_file_is_an_empty_journal(tmp_path):
    found = journal.read(tmp_path / "journal.jsonl")
    assert found.records == [] and found.start is None and found.end is None


@given(cut=st.integers(0, 10_000))
def test_a_journal_cut_anywhere_is_read_up_to_its_last_whole_record_and_can_go_on(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("torn") / "journal.jsonl"
    write(path)
    whole = path.read_bytes()
    cut %= len(whole) + 1
    path.write_bytes(whole[:cut])
    kept = journal.read(path)
    assert len(kept.records) == whole[:cut].count(b"\n")
    write(path, batches=1, end=False)
    after = journal.read(path)
    begun = kept.records or after.records[:1]
    assert after.records[: len(begun)] == begun and len(after.records) == len(begun) + 1
    for line in path.read_bytes().splitlines():
        json.loads(line)


@pytest.mark.parametrize("garbage", [b"\0\0\0\n", b"{\n", b"[]\n", b'"text"\n', b"\xff\xfe\n", b'{"a": 1}\n'])
def test_a_bad_last_line_is_dropped_and_one_in_the_middle_is_an_error(tmp_path, garbage):
    path = tmp_path / "journal.jsonl"
    write(path, end=False)
    whole = path.read_bytes()
    path.write_bytes(whole + garbage)
    assert len(journal.read(path).records) == 4
    lines = whole.splitlines(keepends=True)
    path.write_bytes(lines[0] + garbage + lines[1])
    with pytest.raises(CheckError, match=r"journal\.jsonl, line 2"):
        journal.read(path)


def test_another_identity_is_refused(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, identity="one")
    with pytest.raises(InputError, match="another run"), journal.open_for(path, "two"):
        pass
    with journal.open_for(path, "two", anew=True) as writer:
        assert writer.records == []


def test_a_newer_journal_is_refused(tmp_path):
    path = tmp_path / "journal.jsonl"
    with journal.open_for(path, "one") as writer:
        writer.add("start", journal_version=99, identity="one")
    with pytest.raises(InputError, match="newer version"):
        journal.read(path)


def test_one_writer_at_a_time(tmp_path):
    path = tmp_path / "journal.jsonl"
    script = (
        "import sys, pathlib\nfrom bench import journal\nfrom bench.errors import CheckError\n"
        "try:\n    with journal.open_for(pathlib.Path(sys.argv[1]), 'one'): print('wrote')\n"
        "except CheckError as error: print(error)\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    with journal.open_for(path, "one"):
        other = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "another process is writing the run" in other.stdout
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "wrote\n"


def test_nan_is_never_written(tmp_path):
    with journal.open_for(tmp_path / "journal.jsonl", "one") as writer, pytest.raises(ValueError):
        writer.add("batch", value=float("nan"))
