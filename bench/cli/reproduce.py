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
    llm: Annotated[list[str] | None, Parameter(name="--llm")] = None,
    judge: Annotated[list[str] | None, Parameter(name="--judge")] = None,
    llm_config: Path | None = None,
    max_cost: float | None = None,
    max_requests: int | None = None,
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
        table1, table2 and table3 (language models that recommend and that rerank: those that --llm names are measured),
        table4 (nuanced requests, scored by judges), table6 (table7 is its MIND half), table8, table9 or table10.
    dataset
        The data (`bench list datasets`).
    data_dir
        Folder with the dataset's files, where they are not in the default place.
    plan
        Print the grid, the time that each run will take and what language models would be asked; train and send nothing.
        Requests that the cache lacks are left for `bench llm export`, where no training has to come first.
    seeds
        Seeds with commas between them.
    only
        Run only these models, with commas between them; the table still shows what is finished of the others.
    limit
        Only so many users, drawn by the seed. The paper asked models behind an API for 1000.
    out
        Folder of results; runs lie in OUT/runs.
    set_
        MODEL.KEY=VALUE, a setting of one of the grid's models (`bench show MODEL`). Repeatable.
    llm
        Language model to measure in table2, table3 or table4. Repeatable. Its answers are kept in OUT/llm-cache; none is paid
        twice.
    judge
        Judge of table4: proxy (which is no language model), or a language model of the configuration. Repeatable; proxy where
        none is named.
    llm_config
        Configuration of the language models, in litellm's format.
    max_cost
        US dollars that may be spent on language models, by this command as a whole.
    max_requests
        Requests that may be sent to language models, by this command as a whole.
    device
        Where models compute; auto takes a GPU where there is one.
    batch_size
        Examples ranked and kept at a time; changes no result.
    json
        Print the table (or the plan) as one JSON document on stdout.
    """
    from bench import progress
    from bench.reproduce import asking, estimate, grids, judged
    from bench.reproduce.plan import Options, Planner
    from bench.reproduce.run import reproduce as whole

    grid = grids.with_llms(grids.grid(name), tuple(llm or ()))
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
        llms=tuple(llm or ()),
        judges=tuple(judge or ()),
        llm_config=llm_config,
        max_cost=max_cost,
        max_requests=max_requests,
    )
    with progress.for_terminal(quiet=json) as bars:
        if plan:
            options.check(grid)
            planner = Planner(options, bars)
            cells = planner.grid(grid)
            asked = asking.foresee(planner, cells, estimate.read_timings(out))
            heard = judged.foresee(planner, grid, cells, bars)
        else:
            done = whole(grid, options, bars)
    if plan:
        _show_plan(name, options, cells, asked, heard, json)
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


def _show_plan(
    name: str,
    options: Options,
    cells: list[Cell],
    asked: dict[str, dict[str, Any]],
    heard: dict[str, dict[str, Any]],
    as_json: bool,
) -> None:
    from bench.reproduce.asking import totals
    from bench.reproduce.run import duration

    total, llms = sum(cell.seconds for cell in cells), totals(cells, asked)
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
                "asks": asked.get(cell.name),
            }
            for cell in cells
        ]
        whole = {"table": name, "dataset": options.dataset, "seconds": round(total, 1)}
        emit_json(whole | {"llms": llms, "judges": heard, "cells": rows})
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
    for llm, counts in llms.items():
        screen.print(_asked_line(llm, counts), soft_wrap=True, markup=False)
    for llm, counts in heard.items():
        if "requests" in counts:
            screen.print(f"As a judge, {_asked_line(llm, counts)}", soft_wrap=True, markup=False)
        if counts["waiting"]:
            screen.print(
                f"{llm} judges {counts['waiting']} more runs once they are there.", soft_wrap=True, markup=False
            )
    over = {counts["over"] for counts in asked.values()} - {None}
    if over:
        screen.print(
            f"Where what is reranked is not trained yet, the best of {', '.join(sorted(over))} were counted in their place: "
            "as many requests, about as many tokens.",
            style="dim",
            soft_wrap=True,
        )


def _asked_line(llm: str, counts: dict[str, Any]) -> str:
    price = counts["price_at_most"]
    return (
        f"{llm}: {counts['requests']:,} requests, {counts['cached']:,} of them cached, {counts['to_send']:,} to send; about "
        f"{counts['prompt_tokens']:,} prompt tokens, at most {counts['completion_tokens_at_most']:,} of answers, "
        f"{'price unknown' if price is None else f'at most ${price:.2f}'}."
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
