"""`bench run`: evaluate, and never show a number without the controls beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from bench.cli.console import console, dollars, emit_json, interval, key_values, numbers, shown, table

if TYPE_CHECKING:
    from bench.results import Rate, Result
    from bench.runs import Run


BATCH_SIZE = "run.batch_size"


@Parameter(name="*")
@dataclass(frozen=True)
class AskingFlags:
    """How a language model is asked."""

    max_cost: Annotated[float | None, Parameter(help="US dollars that may be spent on a language model.")] = None
    max_requests: Annotated[int | None, Parameter(help="Requests that may be sent to a language model.")] = None
    plan: Annotated[bool, Parameter(help="Count requests, tokens and price; send nothing.")] = False
    batch: Annotated[bool, Parameter(help="Send requests through the OpenAI Batch API.")] = False

    def limits(self) -> dict[str, Any]:
        """The fields of `bench.language.AskingLimits`."""
        return {"max_cost": self.max_cost, "max_requests": self.max_requests, "llm_batch": self.batch}


def run(
    *,
    task: str,
    model: str,
    dataset: str = "mini",
    data_dir: Path | None = None,
    protocol: Literal["paper", "strict"] | None = None,
    prompt_kind: Literal["genre", "genres", "tag"] | None = None,
    window: str | None = None,
    seed: int = 0,
    limit: int | None = None,
    refit: bool = False,
    out: Path = Path("results"),
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    llm: str | None = None,
    llm_config: Path | None = None,
    asking: AskingFlags | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    json: bool = False,
) -> None:
    """Evaluate a model on a task; trains it first where needed.

    The same command again shows a finished run and goes on with an interrupted one.

    Parameters
    ----------
    task
        What is asked (`bench list tasks`).
    model
        Who is asked (`bench list models`).
    dataset
        The data (`bench list datasets`).
    data_dir
        Folder with the dataset's files, where they are not in the default place.
    protocol
        Reading of "genre"; the task's default when not given.
    prompt_kind
        What a prompt tells: one genre, all genres of the target, or a reworded tag.
    window
        Windows N with commas between them, such as 3,5,10; the dataset's when not given.
    seed
        Seed of draws and training.
    limit
        Only so many users, drawn by the seed.
    refit
        Train again, even where the model and the run exist.
    out
        Folder of results; runs lie in OUT/runs.
    set_
        KEY=VALUE, a setting of the model's own (`bench show MODEL`), as task.KEY of the task's, or
        run.batch_size: examples ranked and kept at a time, which changes no result. Repeatable.
    llm
        Language model, for models that use one.
    llm_config
        Its configuration file, in litellm's format.
    asking
        How it is asked.
    device
        Where models compute; auto takes a GPU where there is one.
    json
        Print the result as one JSON document on stdout.
    """
    from bench import parallel, progress
    from bench.errors import InputError
    from bench.runner import RunConfig, execute, lend_hands

    asking, settings = asking or AskingFlags(), key_values(set_)
    # No flag of its own: hardly anybody needs it, and there are enough.
    batching = {"batch_size": settings.pop(BATCH_SIZE)} if BATCH_SIZE in settings else {}
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
        refit=refit,
        out=out,
        settings=settings,
        llm=llm,
        llm_config=llm_config,
        device=device,
        **asking.limits(),
        **batching,
    )
    if parallel.rank():
        if asking.plan:
            raise InputError("--plan is for one process: start it without torchrun or accelerate launch.")
        lend_hands(config, progress.SilentProgress())
        return
    with progress.for_terminal(quiet=json) as bars:
        if asking.plan:
            from bench.dry_run import foresee

            foreseen = foresee(config, bars)
        else:
            done = execute(config, bars)
    if asking.plan:
        show_plan(foreseen, json)
    else:
        show_run(done, out, json, data_dir)


def show_plan(foreseen: dict[str, Any], as_json: bool) -> None:
    """What a run would ask, as JSON or as lines."""
    if as_json:
        emit_json({"plan": foreseen})
        return
    for key, value in foreseen.items():
        known = "unknown" if value is None else f"{value:,}" if isinstance(value, int) else value
        console().print(f"  {key.replace('_', ' '):<28}{known}", markup=False, soft_wrap=True)


def show_run(done: Run, out: Path, as_json: bool, data_dir: Path | None = None) -> None:
    """The result as JSON, or as a table with the controls below it; `data_dir` is where the data lie, if that was said."""
    if as_json:
        emit_json(done.result.model_dump(mode="json"))
        return
    from bench.runs import beside

    screen = console()
    screen.print(_headline(done.result), style="bold", soft_wrap=True)
    screen.print(_result_table(done.result))
    screen.print(_health_line(done.result), style="dim", soft_wrap=True)
    for line in _judge_lines(done.result, out):
        screen.print(line, soft_wrap=True, markup=False)
    for line in _answer_lines(done.result):
        screen.print(line, style="dim", soft_wrap=True, markup=False)
    others = beside(out, done.result)
    if others:
        screen.print("On the same examples", style="bold")
        screen.print(_controls_table(done.result, others))
    else:
        screen.print(
            "No other model has been run on these examples yet. For a control:\n  "
            + control_command(done.result, out, data_dir),
            soft_wrap=True,
            markup=False,
        )
    screen.print(f"run {done.directory}", style="dim", soft_wrap=True)


def control_command(result: Result, out: Path, data_dir: Path | None) -> str:
    """A command that puts a control beside a result, on the same data and into the same folder."""
    from shlex import quote

    from bench import registry

    asked = result.condition != "none"
    wanted = ["popularity_in_genre", "text_retrieval", "popularity"] if asked else ["popularity", "random"]
    known = [name for name in wanted if name != result.model and name in registry.names("models")]
    parts = [
        "bench run",
        f"--task {result.task}",
        f"--model {known[0] if known else 'MODEL'}",
        f"--dataset {result.dataset}",
    ]
    own = result.settings.get("task", {})
    parts += [f"--protocol {result.protocol}"] if result.protocol != "paper" else []
    parts += [f"--prompt-kind {own['prompt_kind']}"] if "prompt_kind" in own else []
    parts += [f"--seed {result.seed}"] if result.seed else []
    parts += [f"--limit {result.limit}"] if result.limit is not None else []
    parts += [f"--data-dir {quote(str(data_dir))}"] if data_dir is not None else []
    parts += [f"--out {quote(str(out))}"] if out != Path("results") else []
    return " ".join(parts)


def _headline(result: Result) -> str:
    condition = "" if result.condition == "none" else f", condition {result.condition}"
    limit = "" if result.limit is None else f", {result.limit} users only"
    return (
        f"{result.model} on {result.task}, {result.dataset} (protocol {result.protocol}{condition}, "
        f"told {_told(result)}, seed {result.seed}{limit})"
    )


def _result_table(result: Result) -> object:
    failed = any(metric.failed for metric in result.metrics.values())
    windows = list(result.per_window)
    made = table("metric", "value", "95 % interval", "n", *(["failed"] if failed else []), *(f"N={n}" for n in windows))
    for name, metric in result.metrics.items():
        own = [shown(result.per_window[window][name].value) for window in windows]
        lost = [str(metric.failed)] if failed else []
        made.add_row(name, shown(metric.value), interval(metric), str(metric.n), *lost, *own)
    return made


def _controls_table(result: Result, others: list[Result]) -> object:
    from bench.naming import system_name

    names = [name for name in result.metrics if any(name in other.metrics for other in others)]
    made = table("model", "condition", "told", *names, "run", left=3)

    def height(other: Result) -> float:
        value = other.metrics["ndcg@10"].value if "ndcg@10" in other.metrics else None
        return -1.0 if value is None else value

    for other in sorted([result, *others], key=height, reverse=True):
        values = [shown(other.metrics[name].value) if name in other.metrics else "-" for name in names]
        style = "bold" if other.run == result.run else None
        called = system_name(other.model, other.settings.get("model", {}), other.dataset)
        made.add_row(called, other.condition, _told(other), *values, other.run.rpartition("-")[2], style=style)
    return made


def _told(result: Result) -> str:
    return {"none": "history alone", "prompt": "the prompt", "oracle": "the truth behind it"}[result.information]


def _health_line(result: Result) -> str:
    health = result.health
    parts = [
        f"{count} {what}"
        for count, what in (
            (health.seen, "seen"),
            (health.duplicate, "repeated"),
            (health.out_of_catalogue, "unknown"),
        )
        if count
    ]
    averaged = "Mean over windows; intervals" if result.per_window else "Intervals"
    line = f"{averaged} by a bootstrap over users. Taken out of the rankings: {', '.join(parts) or 'nothing'}."
    if health.short:
        line += f" {health.short} examples have empty places."
    if result.router is not None:
        line += f" Router: {100 * result.router.accuracy:.1f} % of {result.router.n} right."
    return line


def _judge_lines(result: Result, out: Path) -> list[str]:
    """What is still to be done with a run of a task that a judge scores; nothing for the others."""
    from bench import registry

    if not registry.get("tasks", result.task).card.judged:
        return []
    command = f"  bench judge {result.run}" + ("" if out == Path("results") else f" --out {out}")
    return [
        "Ranked, not judged: no request has a right answer. A judge scores the lists (overall_score and its two parts):",
        f"{command} --judge proxy",
        f"{command} --llm NAME --llm-config FILE",
    ]


def _answer_lines(result: Result) -> list[str]:
    """What a language model's answers were like and what they cost; nothing for a model that asks none."""
    if result.answers is None or result.llm is None:
        return []
    answers, cost = result.answers, result.cost

    def shares(rates: dict[str, Rate]) -> str:
        parts = [f"{name.replace('_', ' ')} {100 * rate.rate:.1f} %" for name, rate in rates.items() if rate.rate]
        return ", ".join(parts) or "nothing to report"

    price = dollars(cost.get("price"))
    lines = [
        f"Answers of {result.llm.name} ({result.llm.model}): {answers.calls} calls, price {price}.",
        f"Of the calls: {shares(answers.per_call)}. Of {answers.entries} entries: {shares(answers.per_entry)}.",
    ]
    if answers.failures:
        failures = ", ".join(f"{count} {name}" for name, count in answers.failures.items())
        lines.append(f"Examples without an answer, 0 in every metric: {failures}.")
    return lines
