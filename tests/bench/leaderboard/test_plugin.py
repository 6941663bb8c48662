"""A third party's model, task and judge: built and installed with pip, listed, checked, and on the board."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import listing, registry
from bench.cli.main import main
from bench.leaderboard.rows import read_board

PACKAGE = Path(__file__).parents[2] / "example_plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder into which pip has installed the package, without a package index."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(PACKAGE, folder / "source")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "site"), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return folder / "site"


@pytest.fixture
def bench_with_plugin(installed, monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.setattr(listing, "_place", lambda: tmp_path / "listing.json")
    importlib.invalidate_caches()
    registry.clear()

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        seen = capsys.readouterr()
        assert code == 0, seen.err
        return seen.out

    yield call
    monkeypatch.undo()
    sys.modules.pop("variety", None)
    registry.clear()


def test_a_package_of_somebody_else_is_listed_checked_and_stands_on_the_board(bench_with_plugin, tmp_path):
    call, out = bench_with_plugin, tmp_path / "out"
    found = json.loads(call("list", "--json"))
    names = {kind: {entry["name"] for entry in entries} for kind, entries in found.items()}
    assert "long_tail" in names["models"] and "first_place" in names["tasks"] and "variety" in names["judges"]
    assert "all" in call("check", "long_tail")
    run = json.loads(call("run", "--task", "first_place", "--model", "long_tail", "--out", out, "--json"))
    assert run["provenance"]["packages"]["variety-recommenders"] == "1.0" and "recall@1" in run["metrics"]
    call("judge", run["run"], "--judge", "variety", "--out", out, "--json")
    call("leaderboard", "build", "--out", out, "--json")
    rows = [row for row in read_board(out / "leaderboard.json").rows if row.source == "measured"]
    assert [(row.model, row.task, row.judge and row.judge.name) for row in rows] == [
        ("long_tail", "first_place", None),
        ("long_tail", "first_place", "variety"),
    ]
    assert json.loads(call("leaderboard", "verify", "--out", out, "--json"))["problems"] == []
    call("submit", run["run"], "--out", out, "--json")
    call("leaderboard", "verify", out / "submissions" / f"{run['run']}.tar.gz")


def test_the_package_is_short():
    assert len((PACKAGE / "variety.py").read_text("utf-8").splitlines()) < 40
