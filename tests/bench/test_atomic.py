import subprocess
import sys

import pytest

from bench.atomic import atomic_path, atomic_write
from bench.errors import CheckError
from bench.locks import file_lock


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "new" / "file.json"
    atomic_write(path, "é")
    assert path.read_text("utf-8") == "é"
    atomic_write(path, b"two")
    assert path.read_bytes() == b"two" and [each.name for each in path.parent.iterdir()] == ["file.json"]
    assert path.stat().st_mode & 0o077 == (tmp_path / "new").stat().st_mode & 0o044


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, OSError])
def test_whatever_happens_the_old_file_stays_and_nothing_is_left_behind(tmp_path, error):
    path = tmp_path / "file.json"
    atomic_write(path, "old")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and [each.name for each in tmp_path.iterdir()] == ["file.json"]


def test_a_lock_is_let_go_when_its_holder_dies(tmp_path):
    script = "import os, pathlib, sys\nfrom bench.locks import file_lock\n"
    script += "with file_lock(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)\n"
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / "lock")], check=False).returncode == -9
    with file_lock(tmp_path / "lock", busy="taken"):
        pass
    taken = pytest.raises(CheckError, match=r"taken \(process \d+\)")
    with file_lock(tmp_path / "lock"), taken, file_lock(tmp_path / "lock", busy="taken"):
        pass
