"""A whole sweep: plan, carry out what is missing, write the summary."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.atomic import atomic_write
from bench.errors import InputError
from bench.runs import finished
from bench.sweep.grid import Grid
from bench.sweep.plan import Cell, fitted_keys
from bench.sweep.schedule import Scheduler, State
from bench.sweep.work import Outcome, Pool

FOLDER = "sweeps"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Sweep:
    """How every cell ended, and where that is written."""

    states: list[State]
    summary: dict[str, Any]
    path: Path

    @property
    def failed(self) -> int:
        """Cells that are not done."""
        return sum(state.status != "done" for state in self.states)


def make_pool(executor: Literal["local", "ray"], grid: Grid, address: str | None, cpus: int | None) -> Pool:
    """The pool that a sweep is carried out in.

    Args:
        executor: processes of this machine, or a Ray cluster.
        grid: says whether GPUs are wanted.
        address: of the Ray cluster; None starts one on this machine.
        cpus: cores of this machine to use; None for those that this process may use.

    Raises:
        InputError: an option of the other executor, Ray is not installed, or there is no such cluster.
    """
    if executor == "ray":
        if cpus is not None:
            raise InputError("--cpus is for --executor local: a Ray cluster knows its own.")
        from bench.sweep.ray_pool import RayPool

        return RayPool(address)
    if address is not None:
        raise InputError("--address is for --executor ray.")
    from bench.sweep.local import LocalPool

    return LocalPool(cpus or len(os.sched_getaffinity(0)), _gpus(grid))


def sweep(
    name: str, grid: Grid, cells: list[Cell], pool: Pool, out: Path, told: Callable[[list[State]], None]
) -> Sweep:
    """Carry out what is not done and write OUT/sweeps/NAME.json.

    Args:
        name: names the summary.
        grid: the grid, for its retries and slots.
        cells: its cells (`bench.sweep.plan.plan_cells`).
        pool: where they are carried out; closed at the end.
        out: folder of results.
        told: called with the states of all cells whenever one has changed.

    Raises:
        InputError: a cell asks for more than the pool has.
    """
    done = {cell.run: State(cell, outcome=_read_back(cell)) for cell in cells if cell.status == "done"}
    scheduler = Scheduler(
        pool,
        grid.llm_slots,
        grid.retries,
        fitted_keys(out),
        lambda states: told([*done.values(), *states]),
    )
    ended = scheduler.run([cell for cell in cells if cell.status != "done"])
    by_run = done | {state.cell.run: state for state in ended}
    states = [by_run[cell.run] for cell in cells]
    path = out / FOLDER / f"{name}.json"
    summary = summarised(name, states)
    atomic_write(path, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return Sweep(states, summary, path)


def summarised(name: str, states: list[State]) -> dict[str, Any]:
    """The summary as JSON: counts, and of every cell who was asked what, how it ended and the headline metrics."""
    counts = Counter(state.status for state in states)
    return {
        "schema_version": SCHEMA_VERSION,
        "sweep": name,
        "cells": len(states),
        **{status: counts[status] for status in ("done", "failed")},
        "rows": [
            {
                "run": state.cell.run,
                "task": state.cell.config.task,
                "model": state.cell.config.model,
                "settings": state.cell.config.settings,
                "dataset": state.cell.config.dataset,
                "protocol": state.cell.protocol,
                "condition": state.cell.condition,
                "seed": state.cell.config.seed,
                "llm": state.cell.config.llm,
                "resources": state.cell.resources.model_dump(),
                "status": state.status,
                "attempts": state.attempts,
                "seconds": None if state.outcome is None else state.outcome.seconds,
                "message": "" if state.outcome is None else state.outcome.message,
                "metrics": {} if state.outcome is None else state.outcome.metrics,
            }
            for state in states
        ],
    }


def _read_back(cell: Cell) -> Outcome:
    run = finished(cell.directory)
    assert run is not None, "the plan found it finished"
    return Outcome("done", "", 0.0, {name: metric.value for name, metric in run.metrics.items()})


def _gpus(grid: Grid) -> int:
    """GPUs of this machine; torch, which counts them, is loaded only where a cell wants one."""
    if not any((axis.resources or grid.resources).gpus for axis in grid.models):
        return 0
    import torch

    return torch.cuda.device_count()
