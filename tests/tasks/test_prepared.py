"""What is prepared is whole or absent: a full disk, a kill, a change of the files, a damaged cache."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.cli.main import main
from bench.errors import InputError
from tasks.datasets import mind, prepared
from tasks.datasets.mind import MIND
from tests.conftest import REPOSITORY
from tests.tools.mind_files import TRAIN, write_mind

# The process dies when the log is written and its marker is not.
KILLED = """
import os, sys
from bench.cli.main import main
from tasks.datasets import mind, prepared
mind.CORE = 1
prepared._finish = lambda *_: os.kill(os.getpid(), 9)
main(sys.argv[1:])
"""


@pytest.fixture(autouse=True)
def small_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mind, "CORE", 1)


def left(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "prepared").iterdir() if not path.name.endswith(".lock"))


def test_a_second_load_maps_the_files_and_reads_nothing(tmp_path, cache_root, monkeypatch):
    root = write_mind(tmp_path / "data")
    first = MIND().load(root)
    monkeypatch.setattr(MIND, "read", lambda *_: pytest.fail("read again"))
    second = MIND().load(root)
    assert isinstance(second.events.values, np.memmap) and isinstance(second.times, np.memmap)
    assert not second.events.values.flags.writeable
    assert second.fingerprint == first.fingerprint and second.catalogue.texts == first.catalogue.texts
    assert second.user_ids == ("U1", "U2", "U3")
    assert second.events.values.tolist() == first.events.values.tolist()
    folders = left(cache_root)
    assert len(folders) == 2 and folders[1] == f"{folders[0]}.ratio"


def test_the_prepared_form_opens_without_this_project(tmp_path, cache_root):
    import pyarrow as pa

    MIND().load(write_mind(tmp_path / "data"))
    folder = cache_root / "prepared" / left(cache_root)[0]
    items = pa.ipc.open_stream(pa.memory_map(str(folder / "items.arrow"))).read_all()
    assert items.column("title").to_pylist()[1] == "Soup"
    assert len(np.load(folder / "events.npy")) == len(np.load(folder / "times.npy")) == 10


def test_changed_files_are_prepared_again_and_damage_is_mended(tmp_path, cache_root):
    root = write_mind(tmp_path / "data")
    first = MIND().load(root)
    write_mind(root, train=TRAIN[:2])
    changed = MIND().load(root)
    assert changed.fingerprint != first.fingerprint and len(left(cache_root)) == 2
    for name in ("events.npy", "items.arrow"):
        path = cache_root / "prepared" / left(cache_root)[0] / name
        path.write_bytes(path.read_bytes()[:-3])
        assert MIND().load(root).fingerprint == changed.fingerprint
    (cache_root / "prepared" / left(cache_root)[1] / "split.json").write_text("{")
    assert MIND().load(root).fingerprint == changed.fingerprint


def test_splits_share_the_log(tmp_path, cache_root, monkeypatch):
    root = write_mind(tmp_path / "data")
    MIND().load(root)
    monkeypatch.setattr(MIND, "read", lambda *_: pytest.fail("read again"))
    loo = MIND().load(root, split="loo")
    assert (loo.events.lengths - loo.valid_end <= 1).all() and len(left(cache_root)) == 3


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, cache_root, capsys):
    root = MIND.generate(tmp_path / "data", 300)
    command = ["data", "prepare", "mind", "--data-dir", str(root)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Past the limit writing fails like on a full disk; Python ignores the signal that goes with it.
    for size in (100, 20_000, 60_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            assert main(command) == 2
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        told = capsys.readouterr().err
        assert "cannot be prepared in" in told and "BENCH_CACHE_DIR" in told and told.count("error:") == 1
        assert "requested and" not in told
        assert left(cache_root) == []
    assert main(command) == 0


def test_a_kill_while_preparing_leaves_no_cache_that_is_believed(tmp_path, cache_root, capsys):
    root = write_mind(tmp_path / "data")
    command = ["data", "prepare", "mind", "--data-dir", str(root), "--json"]
    done = subprocess.run([sys.executable, "-c", KILLED, *command], cwd=REPOSITORY, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    (making,) = left(cache_root)
    assert making.endswith(prepared.TEMPORARY) and (cache_root / "prepared" / making / "events.npy").is_file()
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == MIND().load(root).fingerprint
    assert making not in left(cache_root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_cache_folder_that_cannot_be_written_is_told(tmp_path, cache_root):
    cache_root.mkdir()
    cache_root.chmod(0o500)
    with pytest.raises(InputError, match="cannot be prepared in"):
        MIND().load(write_mind(tmp_path / "data"))


def test_a_cache_place_that_is_a_file_is_told(tmp_path, cache_root):
    cache_root.write_text("x")
    with pytest.raises(InputError, match=r"mind cannot be prepared in .*cache/prepared: Not a directory"):
        MIND().load(write_mind(tmp_path / "data"))
