"""`bench judge`: score a stored run's lists, and ask whether the judge can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from bench.cli.console import console, dollars, emit_json, interval, key_values, shown, table
from bench.cli.run import AskingFlags, show_plan

if TYPE_CHECKING:
    from bench.judging_store import Judged

app = App(name="judge", help="Score a run's lists with a judge; audit judges.", result_action="return_value")


@app.default
def judge(
    run: str,
    *,
    judge: str | None = None,
    llm: str | None = None,
    llm_config: Path | None = None,
    data_dir: Path | None = None,
    limit: int | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    asking: AskingFlags | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    out: Path = Path("results"),
    json: bool = False,
) -> None:
    """Score the lists of a stored run: history alignment, intent fulfilment and overall, from 1 to 10.

    No recommender is called. The same command shows a finished judgement and goes on with an interrupted one; verdicts lie in
    the run's folder, one folder for each judge. `bench compare` takes these folders too.

    Parameters
    ----------
    run
        The run: its id, the beginning of it, or its folder.
    judge
        Who judges (`bench list judges`); the LLM judge where --llm is given.
    llm
        Language model that judges.
    llm_config
        Its configuration file, in litellm's format.
    data_dir
        Folder with the dataset's files, where they are not in the default place.
    limit
        Only so many users, drawn by the run's seed.
    set_
        KEY=VALUE, a setting of the judge's own (`bench show judges/NAME`). Repeatable.
    asking
        How a language model is asked.
    device
        Where a language model in this process computes.
    out
        Folder of results; runs lie in OUT/runs, cached answers in OUT/llm-cache.
    json
        Print the judged result as one JSON document on stdout.
    """
    from bench import judging, progress
    from bench.runs import find

    asking = asking or AskingFlags()
    config = judging.JudgeConfig.build(
        run=find(run, out),
        judge=judge,
        data_dir=data_dir,
        limit=limit,
        settings=key_values(set_),
        out=out,
        llm=llm,
        llm_config=llm_config,
        device=device,
        **asking.limits(),
    )
    with progress.for_terminal(quiet=json) as bars:
        if asking.plan:
            foreseen = judging.foresee(config, bars)
        else:
            done = judging.judge_run(config, bars)
    if asking.plan:
        show_plan(foreseen, json)
    elif json:
        emit_json(done.result.model_dump(mode="json"))
    else:
        _show(done, out)


def _show(done: Judged, out: Path) -> None:
    """The scores, and those of other runs by the same judge."""
    from bench.judging_store import beside

    screen, report, result = console(), done.report, done.result
    kind = f"language model {report.llm.name}" if report.llm else "no language model"
    screen.print(
        f"{_called(done)} on {result.task}, {result.dataset}, judged by {report.name} ({kind})",
        style="bold",
        soft_wrap=True,
    )
    made = table("score, 1 to 10", "mean", "95 % interval", "n", "worst case")
    for name, metric in result.metrics.items():
        worst = report.worst_case[name]
        made.add_row(name, shown(metric.value, 3), interval(metric), str(metric.n), shown(worst.value, 3))
    screen.print(made)
    for line in _lines(done):
        screen.print(line, style="dim", soft_wrap=True, markup=False)
    others = beside(out, done)
    if others:
        screen.print("On the same examples, by the same judge", style="bold")
        screen.print(_table(done, others))
    screen.print(f"judgement {done.directory}", style="dim", soft_wrap=True, markup=False)


def _lines(done: Judged) -> list[str]:
    report, result = done.report, done.result
    lines = ["Intervals by a bootstrap over users. Worst case: a verdict that could not be read counted as 1."]
    unread = {name: count for name, count in report.failures.items() if name != "no_list"}
    failures = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in unread.items())
    lines.append(f"{report.verdicts} verdicts of {result.examples} lists; left out of the means: {failures or 'none'}.")
    if report.failures.get("no_list"):
        lines.append(f"{report.failures['no_list']} requests got no list: 1 in every score.")
    if report.cost:
        price = dollars(report.cost["price"])
        lines.append(
            f"{report.cost['calls']} calls, {report.repaired} answers mended or asked for again, price {price}."
        )
    if not report.is_llm:
        lines.append("This judge is no language model: its numbers stand beside those of language models nowhere.")
    return lines


def _table(done: Judged, others: list[Judged]) -> object:
    names = list(done.result.metrics)
    made = table("model", "condition", *(part for name in names for part in (name, "95 %")), left=2)
    last = names[-1]
    for each in sorted([done, *others], key=lambda one: one.result.metrics[last].value or 0.0, reverse=True):
        metrics = each.result.metrics
        cells = [cell for name in names for cell in (shown(metrics[name].value, 3), interval(metrics[name]))]
        style = "bold" if each.result.run == done.result.run else None
        made.add_row(_called(each), each.result.condition, *cells, style=style)
    return made


def _called(done: Judged) -> str:
    """The model with the settings that somebody chose."""
    from bench.naming import system_name

    return system_name(done.result.model, done.result.settings.get("model", {}), done.result.dataset)


@app.command
def audit(
    *runs: str,
    judge: Annotated[list[str] | None, Parameter(name="--judge")] = None,
    llm: Annotated[list[str] | None, Parameter(name="--llm")] = None,
    llm_config: Path | None = None,
    labels: Path | None = None,
    data_dir: Path | None = None,
    limit: int | None = None,
    repeats: int = 2,
    pairs: int = 3,
    seed: int = 0,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    asking: AskingFlags | None = None,
    out: Path = Path("results"),
    json: bool = False,
) -> None:
    """Can a judge be trusted? Known lists, repeats, order, wording, list against list, agreement with others and with people.

    The report goes to OUT/audits, as JSON and as Markdown. An interrupted audit goes on: answers are kept.

    Parameters
    ----------
    runs
        Runs of one task and dataset. The first is the reference, whose lists are judged again in other forms.
    judge
        A judge that is no language model, such as proxy. Repeatable.
    llm
        A language model that judges. Repeatable.
    llm_config
        Configuration file of the language models, in litellm's format.
    labels
        People's scores: CSV with the columns run, example, rater and one or more of the three scores.
    data_dir
        Folder with the dataset's files, where they are not in the default place.
    limit
        Only so many users, drawn by the run's seed.
    repeats
        Further judgements of the reference's lists by a language model.
    pairs
        Comparisons of two systems for each example, each in both orders.
    seed
        Seed of controls, shuffles and intervals.
    set_
        KEY=VALUE, a setting of the LLM judge's own (`bench show judges/llm`). Repeatable.
    asking
        How language models are asked; budgets are for all of them together.
    out
        Folder of results; runs lie in OUT/runs, cached answers in OUT/llm-cache.
    json
        Print the report as one JSON document on stdout.
    """
    from bench import judging_audit, progress
    from bench.runs import find

    asking = asking or AskingFlags()
    config = judging_audit.AuditConfig.build(
        runs=[find(each, out) for each in runs],
        judges=judge or [],
        llms=llm or [],
        llm_config=llm_config,
        labels=labels,
        data_dir=data_dir,
        limit=limit,
        repeats=repeats,
        pairs=pairs,
        seed=seed,
        settings=key_values(set_),
        out=out,
        **asking.limits(),
    )
    with progress.for_terminal(quiet=json) as bars:
        if asking.plan:
            foreseen = judging_audit.foresee(config, bars)
        else:
            report = judging_audit.audit(config, bars)
    if asking.plan:
        _show_plans(foreseen, json)
    elif json:
        emit_json(report)
    else:
        _show_audit(Path(report["file"]))


def _show_plans(foreseen: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit_json({"plan": foreseen})
        return
    for name, counts in foreseen.items():
        console().print(name, style="bold", markup=False)
        show_plan(counts, False)


def _show_audit(file: Path) -> None:
    from rich.markdown import Markdown

    screen = console()
    screen.print(Markdown(file.with_suffix(".md").read_text("utf-8")))
    screen.print(f"kept in {file} and {file.with_suffix('.md').name}", style="dim", soft_wrap=True, markup=False)
