"""A run's language model: opened once, part of the run's identity, lent to the model; what it did goes into the result.

A model that asks one reports, example by example, in `Ranking.extras` (`COUNTS`, `SUMS` and `FAILURE` below); so the figures
are found again from the saved rankings, whichever process asked and whatever came from the cache.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from bench import provenance, registry
from bench.cards import Settings
from bench.contracts import Judge, Progress, Ranking, Recommender, UsesLLM
from bench.errors import CheckError, InputError
from bench.llm.contracts import Answer, ChatRequest, Failure, LanguageModel
from bench.results import AnswersReport, Rate

if TYPE_CHECKING:
    from bench.journal import Journal
    from bench.runner import RunConfig

CACHE = "llm-cache"
PREFIX = "llm_"
# Why an example has no ranking: the class of the failure, or "" where it has one.
FAILURE = "llm_failure"
CALLS, ENTRIES = "llm_calls", "llm_entries"
# Counts of an example's calls, and of the entries (titles, numbers) that its answers listed; int32 [B] each.
OF_CALLS = ("failed_calls", "unparseable", "repaired", "wrong_count")
OF_ENTRIES = ("exact", "normalised", "embedding", "out_of_catalogue", "outside_candidates", "duplicate", "in_history")
# Sums over an example's calls, float64 [B], NaN where a provider did not say.
SUMS = ("prompt_tokens", "completion_tokens", "price")

# These concern every request alike, so asking on would change nothing.
HOPELESS = frozenset({Failure.AUTHENTICATION, Failure.NOT_FOUND})
# These may be one request's own trouble; where a whole batch has nothing else they are not.
SHARED = frozenset({Failure.CONNECTION, Failure.BAD_REQUEST})


class AskingLimits(Settings):
    """How far a command may go with language models: US dollars, requests, and whether they go through the Batch API."""

    max_cost: float | None = Field(default=None, gt=0)
    max_requests: int | None = Field(default=None, ge=1)
    llm_batch: bool = False


class AskingConfig(AskingLimits):
    """How one language model is asked: what `bench run`, and every other command that asks one, is told of it.

    `out` is the folder of results, under which answers are cached; `device` is where engines in this process compute.
    """

    out: Path = Path("results")
    llm: str | None = None
    llm_config: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"


class AsksLLM:
    """Mixin of what asks a language model that the harness lends it (`bench.contracts.UsesLLM`).

    `role` is what such a thing is, as a person says it.
    """

    templates: ClassVar[tuple[Path, ...]] = ()
    role: ClassVar[str] = "model"
    card: ClassVar[Any]
    _llm: LanguageModel | None = None

    def use_llm(self, llm: LanguageModel) -> None:
        """Ask this language model from now on."""
        self._llm = llm

    @property
    def llm(self) -> LanguageModel:
        """The language model that was lent.

        Raises:
            InputError: none was.
        """
        if self._llm is None:
            raise unnamed(f"{self.role} {self.card.name!r}")
        return self._llm


def unnamed(who: str) -> InputError:
    """What to say where something asks a language model and none is named."""
    return InputError(f"{who} asks a language model: name one with --llm NAME --llm-config FILE.")


@contextmanager
def opened(config: RunConfig, progress: Progress, *, send: bool = True) -> Iterator[LanguageModel | None]:
    """The language model that a run's configuration names: `opened_for` its model."""
    needs = registry.get("models", config.model).card.needs
    with opened_for(f"model {config.model!r}", needs, config, progress, send=send) as llm:
        yield llm


@contextmanager
def opened_for(
    who: str, needs: Collection[str], config: AskingConfig, progress: Progress, *, send: bool = True
) -> Iterator[LanguageModel | None]:
    """The language model that a configuration names, closed at the end; None for what asks none.

    Args:
        who: what asks, as a person says it ("model 'zero_shot'").
        needs: what its card says that it needs.
        config: names the language model.
        progress: where its notes go.
        send: False opens one that answers from the cache alone and has Failure.BUDGET for everything else, which it writes
            down for `bench llm export` (engines in this process do not: nobody else could answer for them).

    Raises:
        InputError: one is needed and none is named, or the other way round, or it cannot be opened.
    """
    given = {
        "--llm": config.llm,
        "--llm-config": config.llm_config,
        "--max-cost": config.max_cost,
        "--max-requests": config.max_requests,
        "--batch": config.llm_batch or None,
    }
    flags = [flag for flag, value in given.items() if value is not None]
    if "llm" not in needs:
        if flags:
            raise InputError(f"{who} uses no language model: leave out {' and '.join(flags)}.")
        yield None
        return
    if config.llm is None:
        raise unnamed(who)
    limits = {"max_cost": config.max_cost, "max_requests": config.max_requests, "batch": config.llm_batch}
    from bench.llm.opening import is_engine

    offline = {"offline": "cache" if is_engine(config.llm) else "export"}
    options = (limits if send else offline) | {"device": config.device}
    llm = open_language_model(config.llm, config.llm_config, config.out, progress=progress, **options)
    try:
        yield llm
    finally:
        llm.close()


def open_language_model(name: str, config: Path | None, out: Path, **options: Any) -> LanguageModel:
    """Open a language model with its answers cached under `out`.

    Args:
        name: as given to `--llm`.
        config: the litellm configuration file.
        out: folder of results.
        options: passed on where they are set.

    Raises:
        InputError: an unknown name, a missing or wrong configuration, a missing package.
    """
    from bench.llm import open_llm

    given = {key: value for key, value in options.items() if value is not None and value is not False}
    llm: LanguageModel = open_llm(name, config, cache_dir=out / CACHE, **given)
    return llm


def identity(llm: LanguageModel | None, model: type[Any]) -> dict[str, Any] | None:
    """What of the language model and of the words put to it changes answers: for the run's identity and its result."""
    if llm is None:
        return None
    return described(llm) | {"templates": template_hashes(model)}


def described(llm: LanguageModel) -> dict[str, Any]:
    """The identity of a language model as it may be published: without secrets, and of a local folder the last part alone.

    Where a folder lies changes no answer; what is in it is among the identity's parameters.
    """
    values = asdict(llm.identity)
    engine, colon, path = llm.identity.name.partition(":")
    if colon and Path(path).is_absolute():
        values["name"] = f"{engine}:{Path(path).name}"
    return provenance.redact_value(values)


def spent(llm: LanguageModel) -> dict[str, Any]:
    """The client's report without the names, which stand in the identity."""
    return {key: value for key, value in llm.report().items() if key not in ("llm", "model")}


def template_hashes(model: type[Any]) -> dict[str, str]:
    """SHA-256 of every prompt template that a class names in `templates`, by file name."""
    paths: Iterable[Path] = getattr(model, "templates", ())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def lend(model: Recommender | Judge, llm: LanguageModel | None) -> None:
    """Give the language model to a recommender or judge that asks one.

    Raises:
        CheckError: its card says that it needs one, but it takes none.
        InputError: the language model cannot do what the model's settings ask for.
    """
    if llm is None:
        return
    if not isinstance(model, UsesLLM):
        raise CheckError(f"{model.card.name!r} says that it needs a language model but has no use_llm().")
    model.use_llm(llm)


def ask(llm: LanguageModel, requests: Iterable[ChatRequest]) -> Iterator[tuple[int, Answer]]:
    """Answers as they come, each with the position of its request; stops where asking on is of no use.

    Raises:
        CheckError: the budget is used up (after everything under way has been kept), the key or the model's name is
            wrong, or nothing at all was answered for a reason that all requests share.
    """
    seen: Counter[Failure | None] = Counter()
    line = ""
    for position, answer in llm.answer(requests):
        seen[answer.failure] += 1
        if answer.failure is not None:
            line = f"{answer.failure}: {answer.detail or 'no detail'}"
        if answer.failure in HOPELESS:
            raise CheckError(f"language model {llm.identity.name!r}: {line}")
        if answer.failure is not Failure.BUDGET:
            yield position, answer
    if seen[Failure.BUDGET]:
        raise CheckError(
            f"stopped at --max-cost or --max-requests with {seen[Failure.BUDGET]} requests unsent; every answer is kept, "
            "and the same command with a larger budget goes on from there."
        )
    if seen.total() > 1 and set(seen) <= SHARED and len(set(seen)) == 1:
        raise CheckError(f"language model {llm.identity.name!r} answered none of {seen.total()} requests; {line}")


def answers_report(ranking: Ranking) -> AnswersReport | None:
    """Rates of what was wrong with the answers, from the saved extras; None for a model that asked no one."""
    extras = ranking.extras
    if CALLS not in extras:
        return None
    calls, entries = int(np.sum(extras[CALLS])), int(np.sum(extras.get(ENTRIES, 0)))
    failures = Counter(str(each) for each in extras.get(FAILURE, ()) if each)

    def rates(names: Iterable[str], of: int) -> dict[str, Rate]:
        counts = {name: int(np.sum(extras[PREFIX + name])) for name in names if PREFIX + name in extras}
        return {name: Rate.of(count, of) for name, count in counts.items()}

    return AnswersReport(
        examples=len(ranking.items),
        failures=dict(sorted(failures.items())),
        calls=calls,
        entries=entries,
        per_call=rates(OF_CALLS, calls),
        per_entry=rates(OF_ENTRIES, entries),
    )


def cost_report(ranking: Ranking, history: Journal) -> dict[str, Any]:
    """Calls, tokens and price of a run's answers (cached ones at what they once cost), and what its processes sent.

    `price` and the tokens are None where any call's is unknown.
    """
    if CALLS not in ranking.extras:
        return {}
    cost: dict[str, Any] = {"calls": int(np.sum(ranking.extras[CALLS]))}
    for name in SUMS:
        total = float(np.sum(ranking.extras.get(PREFIX + name, math.nan)))
        cost[name] = None if math.isnan(total) else round(total, 8) if name == "price" else int(total)
    reports = process_reports(history)
    return cost | ({"processes": reports} if reports else {})


def process_reports(history: Journal) -> list[dict[str, Any]]:
    """The client's last report of every process that worked on the run, in order."""
    reports: list[dict[str, Any]] = []
    fresh = True
    for record in history.records:
        fresh = fresh or record["record"] == "fitted"
        if "llm" not in record:
            continue
        if fresh:
            reports.append(record["llm"])
        reports[-1] = record["llm"]
        fresh = False
    return reports


def latencies(reports: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Latency of a request in seconds at p50 and p95, of the process that measured it on the most requests."""
    measured = [report for report in reports if report.get("latency_p50_s") is not None]
    if not measured:
        return {}
    widest = max(measured, key=lambda report: int(report.get("sent") or 0))
    return {f"llm_{name}": float(widest[name]) for name in ("latency_p50_s", "latency_p95_s")}
