"""The language models of a reproduction: who they are, one budget for all of them, and what a plan would ask."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from bench import language, runner
from bench.contracts import Progress
from bench.dry_run import count
from bench.errors import InputError
from bench.llm.contracts import Failure, LanguageModel
from bench.reproduce.grids import local, shown
from bench.reproduce.judged import asks
from bench.runs import Run
from bench.store import Wanted

if TYPE_CHECKING:
    from bench.reproduce.estimate import Timings
    from bench.reproduce.plan import Cell, Options, Planner

Outcome = TypeVar("Outcome")

# What a plan reranks where the base is not trained: as many candidates, and nothing to train.
STAND_IN = "popularity"
# After one of these every other run would end in the same way.
FINAL = frozenset({Failure.BUDGET, Failure.AUTHENTICATION, Failure.NOT_FOUND})

COUNTS = ("requests", "cached", "repeated", "to_send", "prompt_tokens", "completion_tokens_at_most", "price_at_most")


def check_flags(options: Options) -> None:
    """Refuse flags for language models where none is named, and a budget of nothing.

    Raises:
        InputError: such a flag.
    """
    given = {
        "--llm-config": options.llm_config,
        "--max-cost": options.max_cost,
        "--max-requests": options.max_requests,
    }
    flags = [flag for flag, value in given.items() if value is not None]
    if flags and not options.llms and not any(map(asks, options.judges)):
        raise InputError(f"no language model is named with --llm: leave out {' and '.join(flags)}.")
    if options.max_cost is not None and not options.max_cost > 0:
        raise InputError(f"--max-cost takes an amount above 0, got {options.max_cost:g}.")
    if options.max_requests is not None and options.max_requests < 1:
        raise InputError(f"--max-requests takes a number of at least 1, got {options.max_requests}.")


def identified(options: Options) -> dict[str, LanguageModel]:
    """Every language model that is named, judges too, closed again: of it a plan needs the identity alone.

    Raises:
        InputError: an unknown name, a missing or wrong configuration, a budget that the model does not take.
    """
    found: dict[str, LanguageModel] = {}
    for name in (*options.llms, *filter(asks, options.judges)):
        found[name] = _open(options, name, options.max_cost, offline="cache")
        found[name].close()
    return found


def _open(options: Options, name: str, max_cost: float | None, **more: Any) -> LanguageModel:
    if local(name) and not all(map(local, (*options.llms, *filter(asks, options.judges)))):
        # What an engine in this process does is free; the money is for the others.
        max_cost = None
    given = {"max_cost": max_cost, "device": options.device} | more
    return language.open_language_model(name, options.llm_config, options.out, **given)


class Askers:
    """Runs cells that ask a language model. One is open at a time, from its first cell to the first of another one.

    An engine is loaded once for all of its cells, and what all of them send counts against one budget.
    """

    def __init__(self, options: Options, progress: Progress) -> None:
        self._options, self._progress = options, progress
        self._name = ""
        self._llm: LanguageModel | None = None
        self._stopped: set[str] = set()
        self._requests, self._cost = options.max_requests, options.max_cost

    def stopped(self, name: str | None) -> bool:
        """Whether asking this model on is of no use: the budget is used up, the key is wrong, nobody answers."""
        return name in self._stopped

    def execute(self, plan: runner.Plan) -> Run:
        """Run a plan whose model asks, or go on with it.

        Raises:
            InputError: the configuration is wrong.
            CheckError: the model failed, or the language model did; what was ranked and answered is kept.
        """
        return self.lend(plan.config.llm or "", lambda llm: runner.carry_out(plan, llm, self._progress))

    def lend(self, name: str, ask: Callable[[LanguageModel], Outcome]) -> Outcome:
        """Ask a language model, within what is left of the budget; gives what `ask` gives.

        Raises:
            InputError, CheckError: whatever `ask` raises.
        """
        llm = self._lent(name)
        try:
            return ask(llm)
        except Exception:
            if _is_hopeless(llm.report()):
                self._stopped.add(name)
            raise

    def _lent(self, name: str) -> LanguageModel:
        if self._llm is None or name != self._name:
            self.close()
            budget = {"max_requests": self._requests, "progress": self._progress}
            self._name, self._llm = name, _open(self._options, name, self._cost, **budget)
        return self._llm

    def close(self) -> None:
        """Close the open language model and take what it used from the budget."""
        llm, self._llm = self._llm, None
        if llm is None:
            return
        used = llm.report()
        llm.close()
        if self._requests is not None:
            self._requests = max(0, self._requests - int(used["sent"]))
        if self._cost is not None and not local(self._name):
            # Nobody can say what is left of a budget that an unknown price was paid from.
            self._cost = 0.0 if used["price"] is None else max(0.0, self._cost - float(used["price"]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_hopeless(report: dict[str, Any]) -> bool:
    never = bool(report.get("requests")) and not report.get("answered")
    return never or not FINAL.isdisjoint(report.get("failures", ()))


def foresee(planner: Planner, cells: Iterable[Cell], timings: Timings) -> dict[str, dict[str, Any]]:
    """What the runs to come would ask, counted by a dry run that sends nothing and trains nothing.

    A model without a base is fitted for it, which is a matter of encoding titles. As in `bench run --plan`, what is missing
    in the cache lies in `OUT/llm-cache/pending/` afterwards, except where a stand-in was reranked.

    Returns:
        By cell: requests in all, `cached`, `repeated` and `to_send`; estimated tokens and the most that it can cost (None:
        unknown); and `over`, the stand-in that was reranked where the base is not trained yet, else None. Requests that
        two runs share are counted with both.

    Raises:
        InputError: the configuration is wrong.
        CheckError: a model failed.
    """
    todo = [cell for cell in cells if cell.row.llm is not None and cell.status in ("new", "begun")]
    known: dict[str, dict[str, Any]] = {}
    found: dict[str, dict[str, Any]] = {}
    advance = planner.progress.track("counting what would be asked", len(todo))
    with TemporaryDirectory() as scratch:
        for cell in todo:
            assert cell.plan is not None, "cells to come have a plan"
            config, over = cell.plan.config, None
            if cell.plan.model.Settings.has("base") and not _trained(planner, cell.plan, timings):
                settings = config.settings | {"base": STAND_IN, "base_settings": ""}
                over = STAND_IN
                config = config.model_copy(update={"out": Path(scratch), "settings": settings})
            key = json.dumps(config.model_dump(mode="json"), sort_keys=True)
            if key not in known:
                known[key] = _count(planner, config)
            found[cell.name] = {name: known[key][name] for name in COUNTS} | {"over": over}
            advance(1)
    return found


def _count(planner: Planner, config: runner.RunConfig) -> dict[str, Any]:
    """What `bench run --plan` counts (`bench.dry_run`), over the data that are loaded already: a table has many runs."""
    progress = planner.progress
    with language.opened(config, progress, send=False) as llm:
        assert llm is not None, "a cell with a language model is of a recommender that asks one"
        return count(runner.make_plan(config, progress, llm, planner.dataset), llm, progress)[0].totals


def totals(cells: Iterable[Cell], asked: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The counts of `foresee` summed by language model, None where a part is unknown."""
    found: dict[str, dict[str, Any]] = {}
    for cell in cells:
        if cell.row.llm is None or cell.name not in asked:
            continue
        counts, sums = asked[cell.name], found.setdefault(shown(cell.row.llm), dict.fromkeys(COUNTS, 0))
        for name in COUNTS:
            sums[name] = None if sums[name] is None or counts[name] is None else sums[name] + counts[name]
    return found


def _trained(planner: Planner, plan: runner.Plan, timings: Timings) -> bool:
    wanted = Wanted(plan.config.model, plan.model, plan.model_settings, planner.dataset, plan.config.seed, "cpu")
    return wanted.key in timings.trained
