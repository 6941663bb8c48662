"""`bench compare`: paired comparison of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bench.cli.console import console, emit_json, shown, table


def compare(
    *runs: str,
    baseline: str | None = None,
    metric: Annotated[list[str] | None, Parameter(name="--metric")] = None,
    out: Path = Path("results"),
    json: bool = False,
) -> None:
    """Paired comparison of runs on the same examples: differences, 95 % intervals, p values with Holm's correction.

    Parameters
    ----------
    runs
        Two or more runs: ids, beginnings of ids, or folders.
    baseline
        The run that the others are measured against; the first when not given.
    metric
        Compare only this metric. Repeatable.
    out
        Folder of results.
    json
        One JSON document on stdout.
    """
    from bench.comparison import compare_runs
    from bench.errors import InputError
    from bench.runs import find

    if not runs:
        raise InputError("bench compare takes two or more runs.")
    folders = [find(each, out) for each in runs]
    found = compare_runs(folders, folders[0] if baseline is None else find(baseline, out), metric)
    if json:
        emit_json(found.model_dump(mode="json"))
        return
    made = table(
        "run",
        "condition",
        "metric",
        "baseline",
        "value",
        "difference",
        "95 % interval",
        "p",
        "p (Holm)",
        "n",
        left=3,
    )
    for row in found.rows:
        bounds = "-" if row.low is None else f"{row.low:+.4f} to {row.high:+.4f}"
        difference = "-" if row.difference is None else f"{row.difference:+.4f}"
        values = (shown(row.baseline_value), shown(row.value), difference, bounds, shown(row.p), shown(row.p_holm))
        made.add_row(row.run, row.condition, row.metric, *values, str(row.n))
    screen = console()
    screen.print(f"Against {found.baseline} (condition {found.baseline_condition})", style="bold", soft_wrap=True)
    screen.print(made)
    screen.print(
        f"Paired by user: bootstrap interval, sign-flip test; Holm's correction over these {len(found.rows)} rows.",
        style="dim",
        soft_wrap=True,
    )
