"""A sweep on a Ray cluster of two nodes, one of which is killed in the middle: every cell ends, and ends once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from bench import journal
from bench.cli import main as cli
from bench.progress import SilentProgress
from bench.sweep.grid import Grid
from bench.sweep.plan import plan_cells
from bench.sweep.run import sweep

GRID = {
    "tasks": ["seq"],
    "models": [{"model": "sasrec", "settings": {"epochs": 1, "length": 20, "dim": 16}}, "popularity"],
    "seeds": [0, 1],
    "limit": 200,
    "device": "cpu",
}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # By default workers are so nice that on a busy machine they hardly get on.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 200 << 20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=small)
    yield made, made.add_node(num_cpus=1, object_store_memory=200 << 20)
    made.shutdown()


def workers(node: Any) -> list[psutil.Process]:
    """Processes of a node's workers."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return raylet.children(recursive=True)


def each(processes: list[psutil.Process], act: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            act(process)


def in_the_middle(out: Path, pids: set[int]) -> bool:
    """Whether one of these processes has begun a run that is not finished."""
    for path in out.glob("runs/*/journal.jsonl"):
        holder = path.with_name("run.lock").read_text().strip()
        if holder and int(holder) in pids and journal.read(path).start and not journal.read(path).end:
            return True
    return False


@pytest.mark.slow
def test_a_killed_node_costs_no_cell_and_repeats_none(cluster: Any, tmp_path: Path) -> None:
    nodes, second = cluster
    file, out = tmp_path / "grid.yaml", tmp_path / "results"
    file.write_text(yaml.safe_dump(GRID))
    grid = Grid.read(file)
    cells = plan_cells(grid, out, SilentProgress())
    assert len(cells) == 4
    killed = threading.Event()

    def kill_in_the_middle() -> None:
        while True:
            time.sleep(0.02)
            own = workers(second)
            pids = {process.pid for process in own}
            if not in_the_middle(out, pids):
                continue
            # A fast run would end before the node is gone: it is held in its middle first.
            each(own, psutil.Process.suspend)
            if in_the_middle(out, pids):
                break
            each(own, psutil.Process.resume)
        nodes.remove_node(second, allow_graceful=False)
        each(own, psutil.Process.kill)
        killed.set()

    from bench.sweep.ray_pool import RayPool

    pool = RayPool(nodes.address)
    threading.Thread(target=kill_in_the_middle, daemon=True).start()
    done = sweep("grid", grid, cells, pool, out, lambda states: None)

    assert killed.is_set()
    assert [state.status for state in done.states] == ["done"] * 4
    assert max(state.attempts for state in done.states) > 1
    kinds = {
        path.parent.name: [record["record"] for record in journal.read(path).records]
        for path in out.glob("runs/*/journal.jsonl")
    }
    assert set(kinds) == {cell.run for cell in cells}
    for kind in kinds.values():
        assert kind[0] == "start" and kind[-1] == "end"
        assert kind.count("start") == kind.count("end") == 1
    assert sum(kind.count("resume") for kind in kinds.values()) >= 1
    # A second sweep finds nothing to do.
    assert {cell.status for cell in plan_cells(grid, out, SilentProgress())} == {"done"}


@pytest.mark.parametrize("address", ["127.0.0.1:1", "somewhere"])
def test_a_cluster_that_is_not_there_gets_one_line(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text("tasks: [seq]\nmodels: [popularity]\n")
    assert cli.main(["sweep", str(file), "--executor", "ray", "--address", address, "--out", str(tmp_path / "o")]) == 2
    assert address in capsys.readouterr().err.splitlines()[-1]
