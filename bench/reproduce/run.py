"""A whole reproduction: plan, run what is missing one cell after the other, write the table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench.contracts import Progress
from bench.reproduce import judged, report, tables
from bench.reproduce.asking import Askers
from bench.reproduce.grids import Grid, shown
from bench.reproduce.plan import Cell, Options, Planner
from bench.reproduce.report import Report

FOLDER = "reproduce"


@dataclass(frozen=True)
class Reproduction:
    """The written table, the files it lies in, and why cells failed, by their name."""

    report: Report
    files: list[Path]
    failures: dict[str, str]


def folder(grid: Grid, options: Options) -> Path:
    """Where a table is written: OUT/reproduce/TABLE-DATASET, with the limit in its name where there is one."""
    part = "" if options.limit is None else f"-{options.limit}-users"
    return options.out / FOLDER / f"{grid.name}-{options.dataset}{part}"


def reproduce(grid: Grid, options: Options, progress: Progress) -> Reproduction:
    """Run what is missing of a table and write it.

    A cell that fails is reported and the others go on; an interrupt leaves everything that was finished, and the same call
    goes on from there.

    Raises:
        InputError: an unknown name, a wrong option, missing or malformed data.
    """
    options.check(grid)
    planner = Planner(options, progress)
    cells = planner.grid(grid)
    failures = {cell.name: cell.reason for cell in cells if cell.status == "wrong"}
    with Askers(options, progress) as askers:
        failures |= run_missing(planner, cells, askers, progress)
        judgements = judged.judge_runs(planner, grid, cells, askers, progress)
    made = report.build(planner, grid, failures, judgements, progress)
    return Reproduction(made, tables.write(made, folder(grid, options)), failures | judgements.failures)


def run_missing(planner: Planner, cells: list[Cell], askers: Askers, progress: Progress) -> dict[str, str]:
    """Run every cell that can be run and is not done; gives the reason of those that failed, by their name.

    Those of a language model come together, after those that ask none. One that cannot be asked on is not asked on: what is
    left of its cells is neither run nor failed.
    """
    order = [None, *planner.options.llms]
    todo = [cell for cell in cells if cell.status in ("new", "begun")]
    todo.sort(key=lambda cell: order.index(cell.row.llm))
    left = sum(cell.seconds for cell in todo)
    failures: dict[str, str] = {}
    skipped: Counter[str] = Counter()
    for place, cell in enumerate(todo, 1):
        if askers.stopped(cell.row.llm):
            skipped[shown(cell.row.llm or "")] += 1
            continue
        progress.note(f"run {place} of {len(todo)}: {cell.name} (about {duration(left)} left)")
        try:
            planner.execute(cell, askers)
        except Exception as error:
            # A table of a hundred cells is worth having without one of them, whatever that one died of.
            kind = "" if type(error).__module__ == "bench.errors" else f"{type(error).__name__}: "
            failures[cell.name] = kind + " ".join(str(error).split())
            progress.note(f"failed: {cell.name}: {failures[cell.name]}")
        left -= cell.seconds
    for name, count in skipped.items():
        progress.note(f"{name} is not asked on: {count} more runs are left for the next time")
    return failures


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
