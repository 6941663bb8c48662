"""`bench probe`: what a language model knows by heart, and what a contestant's parts do alone."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from bench.cli.console import console, emit_json, key_values, shown, table
from bench.errors import CheckError

app = App(
    name="probe",
    help="What a language model knows by heart of a dataset; what the parts of a contestant do alone.",
    result_action="return_value",
)
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
    with progress.for_terminal(quiet=json) as bars:
        report = probe(
            "contamination",
            _provided("contamination"),
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


@Parameter(name="*")
@dataclass(frozen=True)
class ContestantFlags:
    """Which contestant is probed on which data."""

    model: Annotated[str, Parameter(help="The contestant (`bench list models`).")] = "lancer"
    dataset: Annotated[str, Parameter(help="The data.")] = "mini"
    data_dir: Annotated[Path | None, Parameter(help="Folder with the dataset's files.")] = None
    set_: Annotated[
        list[str] | None, Parameter(name="--set", help="KEY=VALUE, a setting of the model's own. Repeatable.")
    ] = None
    seed: Annotated[int, Parameter(help="Seed of draws and training.")] = 0
    out: Annotated[Path, Parameter(help="Folder of results.")] = Path("results")
    device: Annotated[Literal["auto", "cpu", "cuda"], Parameter(help="Where models compute.")] = "auto"

    def config(self, task: str, limit: int | None = None) -> Any:
        """The configuration of a run."""
        from bench.runner import RunConfig

        return RunConfig.build(
            task=task,
            model=self.model,
            dataset=self.dataset,
            data_dir=self.data_dir,
            settings=key_values(self.set_),
            seed=self.seed,
            limit=limit,
            out=self.out,
            device=self.device,
        )

    def fitted(self) -> dict[str, Any]:
        """The arguments of `bench.probing.probe_model` that name a fitted contestant."""
        return {
            "model": self.model,
            "settings": key_values(self.set_),
            "dataset": self.dataset,
            "data_dir": self.data_dir,
            "seed": self.seed,
            "device": self.device,
            "out": self.out,
        }


@app.command
def mapping(*, contestant: ContestantFlags | None = None, samples: int = 1000, json: bool = False) -> None:
    """Precision of the step from text to items alone: items' own strings, whole and damaged, are mapped; nothing is generated.

    The model is trained where it is not there yet.

    Parameters
    ----------
    contestant
        Which one: lancer, recgpt, zero_shot, or another that writes text.
    samples
        Items whose strings are mapped.
    json
        One JSON document on stdout.
    """
    from bench import progress
    from bench.errors import InputError
    from bench.probing import probe_model

    if samples < 1:
        raise InputError(f"--samples must be at least 1, got {samples}.")
    contestant = contestant or ContestantFlags()
    with progress.for_terminal(quiet=json) as bars:
        report = probe_model("mapping", _provided("mapping"), **contestant.fitted(), samples=samples, progress=bars)
    if json:
        emit_json(report)
        return
    made = table("string", "n", "mapped to its item", "95 % interval", "unchanged", left=1)
    for kind, row in report["kinds"].items():
        bounds = f"{100 * row['low']:.1f} to {100 * row['high']:.1f} %"
        made.add_row(kind, str(row["n"]), f"{100 * row['precision']:.1f} %", bounds, str(row["identical"]))
    _print_table(f"{report['model']} on {report['dataset']}: text to items alone", made, report)


@app.command
def templates(
    *,
    contestant: ContestantFlags | None = None,
    task: str = "seq",
    retrain: bool = False,
    limit: int | None = None,
    metric: str | None = None,
    json: bool = False,
) -> None:
    """Robustness to perturbed prompt templates: one run a wording, each against the original, paired.

    Parameters
    ----------
    contestant
        Which one; it must know several wordings (lancer does).
    task
        What is asked.
    retrain
        Train with each wording too; otherwise one training, and the wording changes in serving alone.
    limit
        Only so many users, drawn by the seed.
    metric
        What is compared; the task's main metric when not given.
    json
        One JSON document on stdout.
    """
    contestant = contestant or ContestantFlags()
    variants = _of_model("templates", contestant.model)(retrain=retrain)
    _variants("templates", variants, contestant.config(task, limit), metric, json)


@app.command
def transfer(
    *,
    source: str,
    source_dir: Path | None = None,
    contestant: ContestantFlags | None = None,
    task: str = "seq",
    limit: int | None = None,
    metric: str | None = None,
    json: bool = False,
) -> None:
    """Knowledge prompts trained on one dataset and used on another: learned here, taken over from the source, or random.

    All three stand on the source's base model, and train everything else on the dataset.

    Parameters
    ----------
    source
        Dataset that the knowledge prompt is taken over from.
    source_dir
        Folder with its files.
    contestant
        Which one; it must have knowledge prompts (lancer).
    task
        What is asked.
    limit
        Only so many users, drawn by the seed.
    metric
        What is compared; the task's main metric when not given.
    json
        One JSON document on stdout.
    """
    contestant = contestant or ContestantFlags()
    variants = _of_model("transfer", contestant.model)(source=source, source_dir=source_dir)
    _variants("transfer", variants, contestant.config(task, limit), metric, json)


def _variants(name: str, variants: dict[str, dict[str, Any]], config: Any, metric: str | None, json: bool) -> None:
    from bench import progress
    from bench.probing import probe_variants

    with progress.for_terminal(quiet=json) as bars:
        report = probe_variants(name, variants, config, metric=metric, progress=bars)
    if json:
        emit_json(report)
        return
    made = table(name, report["metric"], "95 % interval", "difference", "95 % interval", "p (Holm)", "n", left=1)
    for variant, row in report["variants"].items():
        against = row["against_first"]
        cells = ("", "", "")
        if against is not None and against["difference"] is not None:
            bounds = "-" if against["low"] is None else f"{against['low']:+.4f} to {against['high']:+.4f}"
            cells = (f"{against['difference']:+.4f}", bounds, shown(against["p_holm"]))
        own = "-" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}"
        made.add_row(variant, shown(row["value"]), own, *cells, str(row["n"]))
    _print_table(f"{report['model']} on {report['task']}, {report['dataset']}", made, report)


def _print_table(title: str, made: Any, report: dict[str, Any]) -> None:
    screen = console()
    screen.print(title, style="bold", markup=False)
    screen.print(made)
    screen.print(f"kept in {report['file']}", style="dim", markup=False, soft_wrap=True)


def _of_model(probe: str, model: str) -> Any:
    """What a model provides for a probe.

    Raises:
        InputError: it provides nothing.
    """
    from bench.errors import InputError

    names = [entry.name for entry in entry_points(group=GROUP)]
    if f"{probe}.{model}" not in names:
        able = sorted(name.partition(".")[2] for name in names if name.startswith(f"{probe}."))
        raise InputError(f"bench probe {probe} is not for model {model!r}: it takes {', '.join(able) or 'none here'}.")
    return _provided(f"{probe}.{model}")


def _provided(name: str) -> Any:
    """What an installed package provides under the name of a probe.

    Raises:
        CheckError: none does.
    """
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        raise CheckError(f"no installed package provides the probe {name!r}.")
    return found[name].load()


@app.command
def reachability(
    *,
    model: str,
    dataset: str = "mini",
    data_dir: Path | None = None,
    pairs: int = 100,
    seed: int = 0,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    out: Path = Path("results"),
    json: bool = False,
) -> None:
    """How near can one user bring the own list to another user's by asking for labels and tags? The figures go to OUT/probes.

    Parameters
    ----------
    model
        A model that reads prompts; trained where needed.
    dataset
        The data (`bench list datasets`).
    data_dir
        Folder with the dataset's files, where they are not in the default place.
    pairs
        Pairs of users, drawn by the seed.
    seed
        Seed of the draws and of the training.
    set_
        KEY=VALUE, a setting of the model's own. Repeatable.
    device
        Where the model computes.
    out
        Folder of results.
    json
        One JSON document on stdout.
    """
    from bench import progress
    from bench.errors import InputError
    from bench.probing import probe_model

    if pairs < 1:
        raise InputError(f"--pairs must be at least 1, got {pairs}.")
    asks = _provided("reachability")
    with progress.for_terminal(quiet=json) as bars:
        report = probe_model(
            "reachability",
            asks,
            model=model,
            settings=dict(key_values(set_)),
            dataset=dataset,
            data_dir=data_dir,
            seed=seed,
            device=device,
            out=out,
            progress=bars,
            pairs=pairs,
        )
    if json:
        emit_json(report)
        return
    screen = console()
    screen.print(f"{model} on {dataset}: share of another user's top ten in one's own", style="bold", markup=False)
    made = table("pairs", "requests a pair", "without words", "one request", "best request", "pairs moved", left=0)
    made.add_row(
        str(report["pairs"]),
        f"{report['requests']:.1f}",
        *(f"{report[key]:.3f}" for key in ("before", "one", "best", "moved")),
    )
    screen.print(made)
    screen.print(f"kept in {report['file']}", style="dim", markup=False, soft_wrap=True)


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
