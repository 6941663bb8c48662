"""`bench sweep`: a grid of runs, side by side on this machine or on a cluster."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.cli.console import console, emit_json, shown, table

if TYPE_CHECKING:
    from bench.sweep.plan import Cell
    from bench.sweep.schedule import State

FAILED, DONE = 1, 0
# Rows of the table that is drawn anew while runs go: those that go, and the newest of the others.
ROWS = 20


def sweep(
    grid: Path,
    /,
    *,
    executor: Literal["local", "ray"] = "local",
    address: str | None = None,
    cpus: int | None = None,
    data_dir: Path | None = None,
    out: Path = Path("results"),
    plan: bool = False,
    json: bool = False,
) -> int:
    """Run a grid: task x model x dataset x seed x language model, every cell a run of its own as of `bench run`.

    Finished runs are read back, interrupted ones go on, what cells share is trained once, and a run whose worker dies is
    tried again elsewhere. The summary is written to OUT/sweeps/GRID.json.

    Parameters
    ----------
    grid
        YAML with tasks, models, datasets, seeds, llms and resources (README, "More than one machine").
    executor
        Processes of this machine, or a Ray cluster.
    address
        Ray cluster: auto for the one that this machine belongs to, or HOST:PORT; one is started here when not given.
    cpus
        Cores of this machine to use at most.
    data_dir
        Folder with the datasets' files, for those to which the grid gives none.
    out
        Folder of results; on a cluster a folder that every node sees.
    plan
        Print the cells and the time that they will take; run nothing.
    json
        Print the summary (or the plan) as one JSON document on stdout.
    """
    from bench import progress
    from bench.sweep.grid import Grid
    from bench.sweep.plan import plan_cells
    from bench.sweep.run import make_pool
    from bench.sweep.run import sweep as whole

    read = Grid.read(grid, data_dir)
    with progress.for_terminal(quiet=json) as bars:
        cells = plan_cells(read, out, bars)
    if plan:
        _show_plan(grid.stem, cells, json)
        return DONE
    pool = make_pool(executor, read, address, cpus)
    with _watched(len(cells)) as told:
        done = whole(grid.stem, read, cells, pool, out, told)
    if json:
        emit_json(done.summary)
    else:
        screen = console()
        screen.print(_table(done.states))
        for state in done.states:
            if state.status == "failed" and state.outcome is not None:
                screen.print(
                    f"failed: {state.cell.name}: {state.outcome.message}", style="red", soft_wrap=True, markup=False
                )
        screen.print(f"{_counts(done.states)}; wrote {done.path}", soft_wrap=True, markup=False)
    return FAILED if done.failed else DONE


def _show_plan(name: str, cells: list[Cell], as_json: bool) -> None:
    from rich.markup import escape

    from bench.reproduce.run import duration

    total = sum(cell.seconds * cell.resources.cpus for cell in cells)
    if as_json:
        rows = [
            {
                "run": cell.run,
                "name": cell.name,
                "status": cell.status,
                "seconds": round(cell.seconds, 1),
                "resources": cell.resources.model_dump(),
            }
            for cell in cells
        ]
        emit_json({"sweep": name, "core_seconds": round(total, 1), "cells": rows})
        return
    made = table("run", "status", "cpus", "gpus", "about", left=2)
    for cell in cells:
        left = "" if cell.status == "done" else duration(cell.seconds)
        made.add_row(escape(cell.name), cell.status, str(cell.resources.cpus), f"{cell.resources.gpus:g}", left)
    screen = console()
    screen.print(made)
    counts = Counter(cell.status for cell in cells)
    screen.print(
        f"{len(cells)} runs: {counts['done']} done, {counts['begun']} begun, {counts['new']} to begin; "
        f"about {duration(total)} of one core to go. A training that runs share is counted once.",
        soft_wrap=True,
    )


@contextmanager
def _watched(total: int) -> Iterator[Callable[[list[State]], None]]:
    """A table that is drawn anew on a terminal; elsewhere a line for every run that has ended."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(stderr=True), transient=True, refresh_per_second=4) as live:
            yield lambda states: live.update(_table(_newest(states), _counts(states)))
        return
    told: set[tuple[str, int]] = set()

    def tell(states: list[State]) -> None:
        for state in states:
            key = (state.cell.run, state.attempts)
            if state.running or state.outcome is None or key in told or not state.attempts:
                continue
            told.add(key)
            ended = sum(other.status in ("done", "failed") for other in states)
            why = f": {state.outcome.message}" if state.outcome.message else ""
            sys.stderr.write(f"{ended} of {total}: {state.outcome.ending} {state.cell.name}{why}\n")
            sys.stderr.flush()

    yield tell


def _newest(states: list[State]) -> list[State]:
    running = [state for state in states if state.running]
    others = [state for state in states if not state.running and state.attempts]
    return [*others[-max(0, ROWS - len(running)) :], *running]


def _table(states: list[State], caption: str | None = None) -> Any:
    from rich.markup import escape

    made = table("run", "status", "attempts", "seconds", "ndcg@10", left=2)
    made.caption = caption
    for state in states:
        value = None if state.outcome is None else state.outcome.metrics.get("ndcg@10")
        seconds = "" if state.outcome is None or not state.attempts else f"{state.outcome.seconds:.1f}"
        made.add_row(escape(state.cell.name), state.status, str(state.attempts), seconds, shown(value))
    return made


def _counts(states: list[State]) -> str:
    counts = Counter(state.status for state in states)
    parts = [f"{counts[status]} {status}" for status in ("done", "failed", "running", "waiting") if counts[status]]
    return f"{len(states)} runs: {', '.join(parts)}"
