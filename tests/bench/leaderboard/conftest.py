import json
import shutil

import pytest

import bench
from bench.leaderboard.update import Options, update
from bench.leaderboard.verify import Data
from bench.progress import SilentProgress


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def go(plugins, out):
    """Run a tiny model on a tiny task; no speed is measured, so the same run gives the same bytes."""

    def run(model="plain", task="ask", **options):
        return bench.run(task=task, model=model, dataset="tiny", out=out, **options)

    return run


@pytest.fixture
def build(out):
    def make(**options):
        return update(Options(out, **{"pages": False, **options}), SilentProgress())

    return make


@pytest.fixture
def data():
    return Data(None, SilentProgress())


@pytest.fixture
def edit():
    """Change one value of a JSON file by a dotted path."""

    def change(path, keys, value):
        values = json.loads(path.read_text("utf-8"))
        *outer, last = keys.split("/")
        at = values
        for key in outer:
            at = at[int(key) if isinstance(at, list) else key]
        at[int(last) if isinstance(at, list) else last] = value
        path.write_text(json.dumps(values), "utf-8")

    return change


@pytest.fixture
def copy(tmp_path):
    """A run's folder elsewhere, as on another machine."""

    def make(run, name="elsewhere"):
        target = tmp_path / name / "runs" / run.directory.name
        shutil.copytree(run.directory, target)
        return target

    return make
