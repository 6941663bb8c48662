"""`bench run --plan`: what a run would ask a language model, with nothing sent and no run begun.

What it would ask lies in `OUT/llm-cache/pending/` afterwards, for `bench llm export`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import language, scoring
from bench.contracts import Progress
from bench.errors import InputError
from bench.llm.contracts import Answer, ChatRequest, Failure, LanguageModel
from bench.ranking_pass import DEPTH, missing_spans, shown_to
from bench.runner import Plan, RunConfig, make_plan
from bench.runs import MODELS
from bench.store import Store, resolve_device

if TYPE_CHECKING:
    from bench.llm.core import Model


class Counting:
    """Stands in for a language model: counts requests, answers from the cache, and with empty texts where that has none.

    A model that asks again depending on an answer (a sliding window) goes on with what it makes of an empty one, so the
    number of its requests is right and their words are like those that it will send.
    """

    def __init__(self, llm: Model) -> None:
        self.identity, self.capabilities = llm.identity, llm.capabilities
        self.totals: dict[str, Any] = {}
        self._llm, self._fresh = llm, True
        self._exports = bool(getattr(llm, "exporting", False))

    def begin(self) -> None:
        """A batch of examples begins: what is asked first in it hangs on no answer, so it may be exported."""
        self._fresh = True

    def answer(self, requests: Iterable[ChatRequest]) -> Iterator[tuple[int, Answer]]:
        """See `bench.llm.contracts.LanguageModel`."""
        asked = list(requests)
        if self._exports:
            self._llm.exporting, self._fresh = self._fresh, False  # type: ignore[attr-defined]
        self._add(asdict(self._llm.plan(asked)))
        for position, answer in self._llm.answer(asked):
            missing = answer.failure is Failure.BUDGET
            yield position, Answer(("",) * asked[position].sampling.n, attempts=0) if missing else answer

    def report(self) -> dict[str, Any]:
        """What was counted."""
        return dict(self.totals)

    def foreseen(self) -> dict[str, Any]:
        """What was counted, and where missing requests were written for `bench llm export` (None: nowhere)."""
        pending = getattr(self._llm, "pending", None)
        return self.totals | {"exportable": None if pending is None else str(pending)}

    def close(self) -> None:
        """The language model is its opener's to close."""

    def _add(self, counted: dict[str, Any]) -> None:
        for name, value in counted.items():
            known = self.totals.get(name, 0)
            self.totals[name] = None if value is None or known is None else known + value


def foresee(config: RunConfig, progress: Progress) -> dict[str, Any]:
    """Count what the run would ask. A model that stands on a trained one is trained, since its requests hang on that.

    Returns:
        Run, model and language model; requests in all, `cached`, `repeated` and `to_send`; estimated tokens, and the most
        that it can cost in US dollars (None: unknown); `exportable`, where missing requests were written for
        `bench llm export` (those that hang on no answer).

    Raises:
        InputError: the configuration is wrong, or the model asks no language model.
        CheckError: the model failed.
    """
    with language.opened(config, progress, send=False) as llm:
        if llm is None:
            raise InputError(
                f"model {config.model!r} uses no language model, so there is nothing to count: leave out --plan."
            )
        plan = make_plan(config, progress, llm)
        counting, examples = count(plan, llm, progress)
    about = {"run": plan.run, "model": config.model, "llm": config.llm, "examples": examples}
    return about | counting.foreseen()


def count(plan: Plan, llm: LanguageModel, progress: Progress) -> tuple[Counting, int]:
    """Let a plan's model ask a language model that only counts; what was counted, and of how many examples.

    Raises:
        CheckError: the model failed.
    """
    config = plan.config
    examples = scoring.build_examples(plan.task, plan.dataset, config.seed, config.limit)
    values, device = plan.model_settings.model_dump(mode="json"), resolve_device(config.device)
    model, _ = Store(config.out / MODELS).fitted(config.model, plan.dataset, values, config.seed, device, progress)
    counting = Counting(llm)  # type: ignore[arg-type]
    language.lend(model, counting)
    shown = shown_to(model, examples)
    advance = progress.track("counting requests", len(examples))
    for start, stop in missing_spans(len(examples), [], config.batch_size):
        counting.begin()
        model.rank(shown.take(np.arange(start, stop)).requests, DEPTH)
        advance(stop - start)
    return counting, len(examples)
