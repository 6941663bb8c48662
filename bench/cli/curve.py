"""`bench curve`: utility against compliance over a setting of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from bench.cli.console import console, emit_json, key_values, numbers, shown, table


def curve(
    *,
    task: str,
    model: str,
    over: str,
    dataset: str = "mini",
    data_dir: Path | None = None,
    protocol: Literal["paper", "strict"] | None = None,
    prompt_kind: Literal["genre", "genres", "tag"] | None = None,
    window: str | None = None,
    seed: int = 0,
    limit: int | None = None,
    out: Path = Path("results"),
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    json: bool = False,
) -> None:
    """Run a model at several values of a setting, and draw what it gains in compliance against what it pays in utility.

    Every value is a run as of `bench run`, kept in OUT/runs; the curve goes to OUT/curves as svg, csv and json. For instance
    bench curve --task pos --model ctrl_rec_lite --over weight=0,0.25,0.5,1,2,4,8.

    Parameters
    ----------
    task
        pos or neg.
    model
        A model with such a setting (`bench show MODEL`).
    over
        KEY=VALUE,VALUE,...: the setting and its values.
    dataset
        The data (`bench list datasets`).
    data_dir
        Folder with the dataset's files, where they are not in the default place.
    protocol
        Reading of "genre"; the task's default when not given.
    prompt_kind
        What a prompt tells: one genre, all genres of the target, or a reworded tag.
    window
        Windows N with commas between them; the dataset's when not given.
    seed
        Seed of draws and training.
    limit
        Only so many users, drawn by the seed.
    out
        Folder of results.
    set_
        KEY=VALUE, a further setting, as of `bench run`. Repeatable.
    device
        Where models compute; auto takes a GPU where there is one.
    json
        Print the curve as one JSON document on stdout.
    """
    from bench import progress
    from bench.curve import as_dict, trace, write
    from bench.runner import RunConfig

    ((key, values),) = key_values([over], "--over").items()
    config = RunConfig.build(
        task=task,
        model=model,
        dataset=dataset,
        data_dir=data_dir,
        protocol=protocol,
        prompt_kind=prompt_kind,
        windows=numbers(window, "--window"),
        seed=seed,
        limit=limit,
        out=out,
        settings=key_values(set_),
        device=device,
    )
    wanted = [value.strip() for value in values.split(",") if value.strip()]
    with progress.for_terminal(quiet=json) as bars:
        found = trace(config, key, wanted, bars)
    files = write(found, config)
    if json:
        emit_json(as_dict(found) | {"files": [str(path) for path in files]})
        return
    screen, made = console(), table(key, found.utility, "95 % interval", "compliance", "95 % interval")
    for point in found.points:
        cells = [
            cell
            for measured in (point.utility, point.compliance)
            for cell in (shown(measured.value), f"{shown(measured.low)} to {shown(measured.high)}")
        ]
        made.add_row(point.value, *cells)
    screen.print(found.title, style="bold", markup=False, soft_wrap=True)
    screen.print(made)
    for path in files:
        screen.print(f"wrote {path}", style="dim", markup=False, soft_wrap=True)
