"""`bench reproduce`: a table of the paper, measured beside published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from bench.cli.console import console, emit_json, key_values, numbers, table
from bench.errors import InputError

if TYPE_CHECKING:
    from bench.reproduce.plan import Cell, Options
    from bench.reproduce.run import Reproduction

FAILED, DONE = 1, 0


def reproduce(
    name: Annotated[str, Parameter(name="TABLE")],
    /,
    *,
    dataset: str = "mini",
    data_dir: Path | None = None,
    plan: bool = False,
    seeds: str = "0",
    only: str | None = None,
    limit: int | None = None,
    out: Path = Path("results"),
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    batch_size: int = 512,
    json: bool = False,
) -> int:
    """Run the grid behind a table of the paper and write it with the published values and the claims beside it.

    Finished runs are read back and interrupted ones go on, so the same command after an interrupt gives the same table. It
    is written to OUT/reproduce/TABLE-DATASET as table.md, table.csv, table.json and figure.svg. Protocol `paper`; every
    model that reads prompts is asked in every information condition.

    Parameters
    ----------
    name
        table1, table6 (table7 is its MIND half), table8, table9 or table10; table2, table3 and table4 show what was
        published.
    dataset
        The data (`bench list datasets`).
    data_dir
        Folder with the dataset's files, where they are not in the default place.
    plan
        Print the grid and the time that each run will take; train and run nothing.
    seeds
        Seeds with commas between them.
    only
        Run only these models, with commas between them; the table still shows what is finished of the others.
    limit
        Only so many users, drawn by the seed.
    out
        Folder of results; runs lie in OUT/runs.
    set_
        MODEL.KEY=VALUE, a setting of one of the grid's models (`bench show MODEL`). Repeatable.
    device
        Where models compute; auto takes a GPU where there is one.
    batch_size
        Examples ranked and kept at a time; changes no result.
    json
        Print the table (or the plan) as one JSON document on stdout.
    """
    from bench import progress
    from bench.reproduce import grids
    from bench.reproduce.plan import Options, Planner
    from bench.reproduce.run import reproduce as whole

    grid = grids.grid(name)
    options = Options(
        dataset=dataset,
        data_dir=data_dir,
        seeds=numbers(seeds, "--seeds") or (),
        only=tuple(part.strip() for part in only.split(",") if part.strip()) if only else (),
        limit=limit,
        out=out,
        device=device,
        batch_size=batch_size,
        overrides=_overrides(set_),
    )
    with progress.for_terminal(quiet=json) as bars:
        if plan:
            options.check(grid)
            cells = Planner(options, bars).grid(grid)
        else:
            done = whole(grid, options, bars)
    if plan:
        _show_plan(name, options, cells, json)
        return DONE
    _show(done, json)
    return FAILED if done.failures else DONE


def _overrides(pairs: list[str] | None) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key, value in key_values(pairs).items():
        model, dot, setting = key.partition(".")
        if not dot or not model or not setting:
            raise InputError(f"--set takes MODEL.KEY=VALUE here, got {key!r} before the equals sign.")
        found.setdefault(model, {})[setting] = value
    return found


def _show_plan(name: str, options: Options, cells: list[Cell], as_json: bool) -> None:
    from bench.reproduce.run import duration

    total = sum(cell.seconds for cell in cells)
    if as_json:
        rows = [
            {
                "model": cell.row.model,
                "settings": cell.row.settings,
                "task": cell.task,
                "condition": cell.condition,
                "seed": cell.seed,
                "status": cell.status,
                "reason": cell.reason,
                "run": None if cell.plan is None else cell.plan.run,
                "fit_seconds": round(cell.fit.seconds, 1),
                "fit_source": cell.fit.source,
                "rank_seconds": round(cell.rank.seconds, 1),
                "rank_source": cell.rank.source,
            }
            for cell in cells
        ]
        emit_json({"table": name, "dataset": options.dataset, "seconds": round(total, 1), "cells": rows})
        return
    made = table("model", "task", "condition", "seed", "status", "training", "from", "ranking", "from", left=5)
    for cell in cells:
        times = ["", "", "", ""]
        if cell.status in ("new", "begun"):
            times = [duration(cell.fit.seconds), cell.fit.source, duration(cell.rank.seconds), cell.rank.source]
        made.add_row(cell.row.key, cell.task, cell.condition, str(cell.seed), cell.status, *times)
    screen = console()
    screen.print(f"{name} on {options.dataset}", style="bold", soft_wrap=True)
    screen.print(made)
    for line in dict.fromkeys(f"{cell.status}: {cell.reason}" for cell in cells if cell.reason):
        screen.print(line, style="dim", soft_wrap=True, markup=False)
    counts = {status: sum(cell.status == status for cell in cells) for status in ("done", "begun", "new")}
    screen.print(
        f"{len(cells)} runs: {counts['done']} done, {counts['begun']} begun, {counts['new']} to begin, "
        f"{len(cells) - sum(counts.values())} not available; about {duration(total)} to go.",
        soft_wrap=True,
    )
    screen.print(
        "Times come from this run's or this training's like (measured), from other runs or settings of the model (similar), "
        "or from defaults for two CPU cores. A training that runs share is counted once.",
        style="dim",
        soft_wrap=True,
    )


def _show(done: Reproduction, as_json: bool) -> None:
    if as_json:
        emit_json(done.report.to_dict())
        return
    from bench.reproduce.tables import markdown

    screen = console()
    # Markdown as it is written: it can be piped into a file or a viewer.
    screen.print(markdown(done.report), markup=False, soft_wrap=True, end="")
    for path in done.files:
        screen.print(f"wrote {path}", style="dim", soft_wrap=True)
    for name, reason in done.failures.items():
        screen.print(f"failed: {name}: {reason}", style="red", soft_wrap=True, markup=False)
