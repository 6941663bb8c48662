"""The runs of a table whose values are scores of judges (Table 4): every finished run judged by every judge that is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench import judging, registry
from bench.contracts import Progress
from bench.errors import CheckError, InputError, unknown_name
from bench.judging_store import Judged, judgements
from bench.reproduce.grids import Grid, local, shown
from bench.runs import Run

if TYPE_CHECKING:
    from bench.llm.contracts import LanguageModel
    from bench.reproduce.asking import Askers
    from bench.reproduce.plan import Cell, Options, Planner

DEFAULT = "proxy"


@dataclass
class Judgements:
    """Judged runs by judge and run, and by cell why one could not be judged.

    The folder of a judgement has the form of a run's, so it stands for one: its metrics are the scores.
    """

    judges: tuple[str, ...] = ()
    failures: dict[str, str] = field(default_factory=dict)
    _runs: dict[tuple[str, str], Run] = field(default_factory=dict)
    _identities: dict[str, str] = field(default_factory=dict)

    def add(self, judge: str, judged: Judged) -> None:
        """Keep a judgement."""
        self._runs[judge, judged.result.run] = Run(judged.directory, judged.result)
        self._identities[judge] = (judged.result.judge or {})["identity"]

    def of(self, judge: str, run: Run) -> Run | None:
        """A run as the judge scored it, in this pass or, with the same settings, in an earlier one; None where it has not."""
        there = self._runs.get((judge, run.result.run))
        if there is not None or judge not in self._identities:
            return there
        wanted = self._identities[judge]
        for judged in judgements(run.directory):
            if (judged.result.judge or {}).get("identity") == wanted and judged.result.limit == run.result.limit:
                return Run(judged.directory, judged.result)
        return None


def judges_of(grid: Grid, options: Options) -> tuple[str, ...]:
    """The judges of a table: the proxy where none is named; nobody for a table without judged values.

    Raises:
        InputError: a judge is named for a table that needs none, twice, or one is neither registered nor a language model.
    """
    if not grid.judged:
        if options.judges:
            raise InputError(f"{grid.name} has no values that a judge gives: leave out --judge.")
        return ()
    names = options.judges or (DEFAULT,)
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(f"--judge {name} is given twice.")
        if name == judging.LLM_JUDGE:
            raise InputError(f"--judge {name} needs a language model: name that one, with --llm-config FILE.")
        if asks(name) and options.llm_config is None and not local(name):
            raise unknown_name("judge", name, registry.names("judges"))
    return names


def asks(judge: str) -> bool:
    """Whether a judge's name is that of a language model, and not of a registered judge."""
    return judge not in registry.names("judges")


def judge_runs(planner: Planner, grid: Grid, cells: Iterable[Cell], askers: Askers, progress: Progress) -> Judgements:
    """Have every judge score every finished run, or read back what it said; runs that are not finished are left out."""
    found = Judgements(judges_of(grid, planner.options))
    done = [(cell, run) for cell in cells if (run := _finished(cell)) is not None]
    for judge in found.judges:
        for cell, run in done:
            if askers.stopped(judge):
                break
            try:
                found.add(judge, _judge(judge, run, planner, askers, progress))
            except Exception as error:
                # As with runs: a table with one verdict less is worth having, whatever that one died of.
                kind = "" if type(error).__module__ == "bench.errors" else f"{type(error).__name__}: "
                name = f"{shown(judge)} judging {cell.name}"
                found.failures[name] = kind + " ".join(str(error).split())
                progress.note(f"failed: {name}: {found.failures[name]}")
    return found


def foresee(planner: Planner, grid: Grid, cells: Iterable[Cell], progress: Progress) -> dict[str, dict[str, Any]]:
    """By language model that judges, what it would be asked about the runs that are finished; `waiting` runs are not yet.

    Raises:
        InputError: a judge cannot be opened.
    """
    cells = [cell for cell in cells if cell.status in ("done", "begun", "new")]
    found: dict[str, dict[str, Any]] = {}
    for judge in filter(asks, judges_of(grid, planner.options)):
        sums: dict[str, Any] = {"waiting": 0}
        for cell in cells:
            run = _finished(cell)
            if run is None:
                sums["waiting"] += 1
                continue
            told = judging.foresee(_config(judge, run, planner.options), progress)
            for name in (
                "requests",
                "cached",
                "to_send",
                "prompt_tokens",
                "completion_tokens_at_most",
                "price_at_most",
            ):
                known = sums.get(name, 0)
                sums[name] = None if known is None or told[name] is None else known + told[name]
        found[shown(judge)] = sums
    return found


def _judge(judge: str, run: Run, planner: Planner, askers: Askers, progress: Progress) -> Judged:
    config = _config(judge, run, planner.options)
    case = judging.open_case(run.directory, config.data_dir, config.limit, progress, planner.dataset)
    if not asks(judge):
        return judging.judge_case(config, case, None, progress)

    def ask(llm: LanguageModel) -> Judged:
        return judging.judge_case(config, case, llm, progress)

    return askers.lend(judge, ask)


def _config(judge: str, run: Run, options: Options) -> judging.JudgeConfig:
    who = {"llm": judge, "llm_config": options.llm_config} if asks(judge) else {"judge": judge}
    return judging.JudgeConfig.build(
        run=run.directory, data_dir=options.data_dir, out=options.out, device=options.device, **who
    )


def _finished(cell: Cell) -> Run | None:
    try:
        return cell.result()
    except (InputError, CheckError):
        return None
