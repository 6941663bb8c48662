"""`bench probe`: what a language model knows by heart."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from cyclopts import App

from bench.cli.console import console, emit_json, table
from bench.errors import CheckError

app = App(name="probe", help="What does a language model know by heart of a dataset?", result_action="return_value")
GROUP = "bench.probes"


@app.command
def contamination(
    *,
    llm: str,
    llm_config: Path | None = None,
    dataset: str = "ml-1m",
    data_dir: Path | None = None,
    samples: int = 200,
    seed: int = 0,
    max_cost: float | None = None,
    max_requests: int | None = None,
    out: Path = Path("results"),
    json: bool = False,
) -> None:
    """Verbatim recall of a dataset: titles from ids, the next line of its file, the next item of users' histories.

    The figures go to OUT/probes.

    Parameters
    ----------
    llm
        Language model: a model_name of the configuration, hf:PATH or vllm:PATH.
    llm_config
        Its configuration file, in litellm's format.
    dataset
        What it may know by heart.
    data_dir
        Folder with the dataset's files, where they are not in the default place.
    samples
        Questions of each of the three kinds.
    seed
        Seed of the draws.
    max_cost
        US dollars that may be spent.
    max_requests
        Requests that may be sent.
    out
        Folder of results; answers are cached in OUT/llm-cache.
    json
        One JSON document on stdout.
    """
    from bench import progress
    from bench.errors import InputError
    from bench.probing import probe

    if samples < 1:
        raise InputError(f"--samples must be at least 1, got {samples}.")
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if "contamination" not in found:
        raise CheckError("no installed package provides the probe 'contamination'.")
    with progress.for_terminal(quiet=json) as bars:
        report = probe(
            "contamination",
            found["contamination"].load(),
            llm=llm,
            llm_config=llm_config,
            dataset=dataset,
            data_dir=data_dir,
            samples=samples,
            seed=seed,
            limits={"max_cost": max_cost, "max_requests": max_requests},
            out=out,
            progress=bars,
        )
    if json:
        emit_json(report)
        return
    _print_report(report)


def _print_report(report: dict[str, Any]) -> None:
    screen = console()
    screen.print(f"{report['llm']['name']} on {report['dataset']}", style="bold", markup=False)
    made = table("probe", "n", "failed", "recalled", "95 % interval", "verbatim", "95 % interval", left=1)
    for name, probe in report["probes"].items():
        cells = []
        for kind in ("recalled", "verbatim"):
            rate = probe[kind]
            cells += [
                "-" if rate["rate"] is None else f"{100 * rate['rate']:.1f} %",
                f"{100 * rate['low']:.1f} to {100 * rate['high']:.1f} %",
            ]
        made.add_row(name, str(probe["n"]), str(probe["failed"]), *cells)
    screen.print(made)
    screen.print(f"Mark: {'yes' if report['mark'] else 'no'} ({report['rule']}).", markup=False, soft_wrap=True)
    screen.print(f"kept in {report['file']}", style="dim", markup=False, soft_wrap=True)
