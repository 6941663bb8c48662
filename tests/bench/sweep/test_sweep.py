"""Sweeps: grid files and their mistakes, cells, who may begin when, retries, and a whole sweep in local processes."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench import journal
from bench.cli import main as cli
from bench.errors import InputError
from bench.progress import SilentProgress
from bench.runner import RunConfig
from bench.sweep.grid import Grid, Resources
from bench.sweep.local import LocalPool
from bench.sweep.plan import Cell, plan_cells
from bench.sweep.run import sweep
from bench.sweep.schedule import Scheduler, State
from bench.sweep.work import Outcome
from tests.tools.command_line import begun


def write(folder: Path, text: str) -> Path:
    path = folder / "grid.yaml"
    path.write_text(text)
    return path


BASE = "tasks: [seq]\nmodels: [popularity]\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a\n", "expected keys"),
        ("tasks: [seq\n", "not readable as YAML"),
        ("models: [popularity]\n", "setting tasks"),
        (BASE + "sedes: [1]\n", "Did you mean 'seeds'"),
        (BASE + "seeds: [-1]\n", "seeds.0"),
        (BASE + "resources: {cpus: 0}\n", "resources.cpus"),
        (BASE + "llm_slots: {gpt: 2}\n", "language model under `llm_slots`"),
        ("tasks: [sqe]\nmodels: [popularity]\n", "Did you mean 'seq'"),
        ("tasks: [seq]\nmodels: [popularty]\n", "Did you mean 'popularity'"),
        ("tasks: [seq]\nmodels: [{model: sasrec, settings: {epoch: 3}}]\n", "Did you mean 'epochs'"),
        ("tasks: [{task: seq, prompt_kinds: [tag]}]\nmodels: [popularity]\n", "takes no --prompt-kind"),
        ("tasks: [seq]\nmodels: [zero_shot]\n", "name one under `llms`"),
        (BASE + "resources: {cpus: 9999}\n", "asks for 9999 cores"),
        (BASE + "resources: {gpus: 99}\n", "99 GPUs"),
    ],
)
def test_a_wrong_grid_gets_one_line(text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sweep", str(write(tmp_path, text)), "--out", str(tmp_path / "out")]) == 2
    seen = capsys.readouterr()
    assert told in seen.err and seen.err.splitlines()[-1].startswith("error: ") and not seen.out
    assert not list(tmp_path.glob("out/runs/*"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["missing.yaml"], "No such file"),
        (["--address", "auto"], "--address is for"),
        (["--executor", "ray", "--cpus", "2"], "--cpus is for"),
    ],
)
def test_wrong_options_get_one_line(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = [] if "missing.yaml" in options else [str(write(tmp_path, BASE))]
    assert cli.main(["sweep", *file, *options, "--out", str(tmp_path / "out")]) == 2
    assert told in capsys.readouterr().err


def test_cells_are_the_crossing_without_what_is_the_same(tmp_path: Path) -> None:
    text = """
tasks: [seq, {task: pos, prompt_kinds: [genre, tag], protocols: [paper, strict]}]
models: [filter_sas, popularity, popularity_in_genre, {model: sasrec, resources: {cpus: 2}}, popularity]
seeds: [0, 1]
limit: 9
"""
    cells = plan_cells(Grid.read(write(tmp_path, text)), tmp_path / "out", SilentProgress())
    # Two seeds, each: seq for four models; pos in two protocols, in both kinds only where words are read.
    assert len(cells) == 2 * (4 + 2 * (3 + 2))
    # Every cell has a name of its own, or a person could not tell the two readings of a refusal apart.
    assert len({cell.name for cell in cells}) == len(cells)
    assert {cell.resources.cpus for cell in cells if cell.config.model == "sasrec"} == {2}
    # A filter needs the backbone that the bare model trains, and comes behind it.
    order = [cell.config.model for cell in cells]
    assert order.index("sasrec") < order.index("filter_sas")
    own = next(cell for cell in cells if cell.config.model == "sasrec" and cell.config.seed == 0)
    over = next(cell for cell in cells if cell.config.model == "filter_sas" and cell.config.seed == 0)
    assert own.trainings < over.trainings
    # The bare model is trained once, whatever stands on it.
    assert sum(cell.seconds > 300 for cell in cells) <= 2


def test_a_folder_given_is_for_datasets_that_read_files_and_have_none(tmp_path: Path) -> None:
    text = "tasks: [seq]\nmodels: [random]\ndatasets: [mini, ml-1m, ml-1m@loo, {dataset: mind, data_dir: news}]\n"
    axes = Grid.read(write(tmp_path, text), tmp_path / "films").datasets
    assert [axis.data_dir for axis in axes] == [None, tmp_path / "films", tmp_path / "films", tmp_path / "news"]
    with pytest.raises(InputError, match="mini"):
        Grid.read(write(tmp_path, "tasks: [seq]\nmodels: [random]\ndatasets: [minii]\n"), tmp_path)


class Recorder:
    """A pool that ends what was submitted first, as a script says; it records how many ran side by side."""

    def __init__(self, endings: dict[str, list[str]] | None = None) -> None:
        self.endings, self.running, self.log = endings or {}, [], []

    def room(self, cell: Cell) -> bool:
        return len(self.running) < 3

    def submit(self, cell: Cell) -> None:
        self.running.append(cell)
        self.log.append([one.run for one in self.running])

    def wait(self, seconds: float) -> list[tuple[Cell, Outcome]]:
        if not self.running:
            return []
        cell = self.running.pop(0)
        script = self.endings.get(cell.run, [])
        return [(cell, Outcome(script.pop(0) if script else "done"))]  # type: ignore[arg-type]

    def close(self) -> None:
        self.log.append("closed")


def cell(run: str, *trainings: str, llm: str | None = None, slots: int = 1) -> Cell:
    config = RunConfig(task="seq", model="popularity", llm=llm)
    needs = frozenset(trainings)
    return Cell(config, Resources(llm_slots=slots), run, Path(run), "none", "paper", "new", needs, 1.0)


def carried_out(pool: Any, cells: list[Cell], monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[State]:
    monkeypatch.setattr("bench.sweep.schedule.BUSY_SECONDS", 0.0)
    given = {"llm_slots": {}, "retries": 1, "fitted": set(), **options}
    return Scheduler(pool, told=lambda states: None, **given).run(cells)


def test_a_training_that_cells_share_is_left_to_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Recorder()
    carried_out(pool, [cell("a", "s"), cell("b", "s", "f"), cell("c", "s", "g"), cell("d")], monkeypatch)
    assert pool.log == [["a"], ["a", "d"], ["d", "b"], ["d", "b", "c"], "closed"]
    pool = Recorder()
    carried_out(pool, [cell("a", "s"), cell("b", "s"), cell("c", "s")], monkeypatch, fitted={"s"})
    assert pool.log[2] == ["a", "b", "c"]


def test_the_lead_passes_on_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Recorder({"a": ["failed"]})
    states = carried_out(pool, [cell("a", "s"), cell("b", "s")], monkeypatch)
    assert [state.status for state in states] == ["failed", "done"]


def test_slots_of_a_language_model_bound_who_asks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = [cell(name, llm="m") for name in "abc"]
    pool = Recorder()
    carried_out(pool, asking, monkeypatch)
    assert max(len(line) for line in pool.log[:-1]) == 1
    pool = Recorder()
    carried_out(pool, [*asking, cell("d", llm="other")], monkeypatch, llm_slots={"m": 2})
    assert pool.log[2] == ["a", "b", "d"]


def test_dead_workers_are_replaced_and_busy_runs_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    endings = {"a": ["died", "done"], "b": ["died", "died", "done"], "c": ["busy", "busy", "busy", "done"]}
    a, b, c = carried_out(Recorder(endings), [cell("a"), cell("b"), cell("c")], monkeypatch)
    assert (a.status, a.attempts) == ("done", 2)
    assert b.status == "failed" and b.outcome is not None and b.outcome.message.endswith("2 times")
    assert (c.status, c.attempts) == ("done", 1)


class Killing(LocalPool):
    """Kills the process of the first attempt as soon as it has begun its run."""

    killed = False

    def wait(self, seconds: float) -> list[tuple[Cell, Outcome]]:
        if not self.killed:
            attempt = self._under_way[0]
            journal_path = attempt.cell.directory / "journal.jsonl"
            if journal.read(journal_path).start is not None:
                assert attempt.process.pid is not None
                os.kill(attempt.process.pid, signal.SIGKILL)
                self.killed = True
            seconds = 0.02
        return super().wait(seconds)


@pytest.mark.slow
def test_local_processes_finish_every_cell_once(tmp_path: Path) -> None:
    text = """
tasks: [seq]
models: [{model: sasrec, settings: {epochs: 1, length: 20, dim: 16}}, popularity]
limit: 100
device: cpu
"""
    grid, out, seen = Grid.read(write(tmp_path, text)), tmp_path / "out", []
    cells = plan_cells(grid, out, SilentProgress())
    cells = [replace(one, resources=Resources(cpus=1)) for one in cells]
    pool = Killing(1)
    done = sweep("grid", grid, cells, pool, out, lambda states: seen.append([state.status for state in states]))
    assert pool.killed and done.failed == 0 and done.states[0].attempts == 2
    assert any("running" in statuses for statuses in seen)
    for one in cells:
        kinds = [record["record"] for record in journal.read(one.directory / "journal.jsonl").records]
        assert kinds[0] == "start" and kinds.count("start") == kinds.count("end") == 1
    summary = json.loads(done.path.read_text())
    assert summary["cells"] == summary["done"] == 2 and summary["rows"][0]["metrics"]["ndcg@10"] > 0
    assert {one.status for one in plan_cells(grid, out, SilentProgress())} == {"done"}
    assert cli.main(["sweep", str(tmp_path / "grid.yaml"), "--out", str(out), "--json"]) == 0


@pytest.mark.slow
def test_a_killed_sweep_leaves_no_worker_behind(tmp_path: Path) -> None:
    grid = write(
        tmp_path, "tasks: [seq]\nmodels: [{model: sasrec, settings: {epochs: 500}}]\nlimit: 100\ndevice: cpu\n"
    )
    began = begun("sweep", grid, "--out", tmp_path / "out")
    try:
        while not list(tmp_path.glob("out/models/*.partial/*")):
            assert began.poll() is None, "ended before its first epoch did"
            time.sleep(0.05)
        family = psutil.Process(began.pid).children(recursive=True)
        assert family
    finally:
        began.kill()
        began.wait()
    # A minute, where the rest of the training would take many: only what ends by itself within it was told.
    _, left = psutil.wait_procs(family, timeout=60)
    assert not left, [process.cmdline() for process in left]
    (cell,) = plan_cells(Grid.read(grid), tmp_path / "out", SilentProgress())
    assert cell.status != "done"


def test_room_is_refused_before_anything_begins() -> None:
    with pytest.raises(InputError, match="asks for 4 cores"):
        LocalPool(2).room(replace(cell("a"), resources=Resources(cpus=4)))


def test_under_a_launcher_only_runs_are_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["sweep", str(write(tmp_path, BASE))]) == 2
    assert "only `bench run` works" in capsys.readouterr().err
