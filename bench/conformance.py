"""Does a model keep its contract? Fitted briefly on the embedded dataset and asked from several sides."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench import registry
from bench.cards import ModelCard, Settings
from bench.contracts import NO_ITEM, Dataset, Examples, Progress, Ranking, Recommender, Requests
from bench.errors import CheckError, InputError
from bench.language import lend
from bench.llm.contracts import LanguageModel
from bench.ranking import clean
from bench.ranking_pass import DEPTH, shape_problem
from bench.scoring import build_examples, load_dataset, visible
from bench.store import Store, Wanted

DATASET, PROMPTED, UNPROMPTED = "mini", "pos", "seq"
USERS = 64
# Sums in another order differ in the last bits; a swap of two items whose scores are this close is no defect.
RELATIVE, ABSOLUTE = 1e-3, 1e-4


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True)
class Subject:
    """A fitted model and what it is asked."""

    model: Recommender
    examples: Examples
    n_items: int

    def rank(self, requests: Requests | None = None) -> Ranking:
        """Its ranking of the requests, of all examples by default, to the harness's depth."""
        return self.model.rank(self.examples.requests if requests is None else requests, DEPTH)


def check_model(
    name: str,
    values: dict[str, Any],
    device: str,
    progress: Progress,
    seed: int = 0,
    llm: LanguageModel | None = None,
) -> Iterator[Check]:
    """Check a registered model, one result at a time; stops early where nothing further can be asked.

    Args:
        name: the model.
        values: its settings, laid over its class's `quick_settings`.
        device: "cpu" or "cuda".
        progress: told of training.
        seed: seed of the trainings.
        llm: the language model of a model that asks one.

    Raises:
        InputError: an unknown model or setting, or a model that asks a language model and is given none.
        CheckError: the model does not import.
    """
    model = registry.get("models", name)
    if "llm" in model.card.needs and llm is None:
        raise InputError(f"model {name!r} asks a language model: name one with --llm NAME --llm-config FILE.")
    problem = _card_problem(name, model)
    yield Check("card and settings", problem is None, problem or f"version {model.card.version}")
    if problem is not None:
        return
    settings = model.Settings.parse(name, getattr(model, "quick_settings", {}) | values)
    dataset = load_dataset(DATASET, None, progress)
    wanted = Wanted(name, model, settings, dataset, seed, device)
    examples = {task: _examples(task, dataset, model.card.information, seed) for task in (PROMPTED, UNPROMPTED)}
    with tempfile.TemporaryDirectory(prefix="bench-check-") as folder:
        fitted: list[Recommender] = []
        yield _attempt(
            "fits on train and validation", lambda: fitted.append(_fit(wanted, Path(folder) / "1", progress, llm))
        )
        if not fitted:
            return
        subject = Subject(fitted[0], examples[PROMPTED], len(dataset.catalogue))
        yield from _form(subject)
        yield from _stability(subject)
        yield _attempt("ranks without a prompt", lambda: _ranks(subject, examples[UNPROMPTED].requests))
        yield _attempt("save and load", lambda: _round_trip(wanted, subject, Path(folder) / "saved", llm))
        yield _attempt("same seed, same model", lambda: _fits_again(wanted, subject, Path(folder) / "2", progress, llm))


def _form(subject: Subject) -> Iterator[Check]:
    """Shapes, range, repeats, seen items, scores: before the harness cleans anything."""
    rankings: list[Ranking] = []
    told = "history, prompt and intent" if subject.examples.requests.intent is not None else "no intent"
    yield _attempt(f"ranks prompted requests ({told})", lambda: rankings.append(subject.rank()))
    if not rankings:
        return
    ranking, rows = rankings[0], len(subject.examples)
    problem = shape_problem(ranking, rows)
    if problem is None and [ranking.items.dtype.name, ranking.scores.dtype.name] != ["int32", "float32"]:
        problem = f"items are {ranking.items.dtype} and scores {ranking.scores.dtype}, expected int32 and float32"
    if problem is None and ranking.items.shape[1] != DEPTH:
        problem = f"{ranking.items.shape[1]} places, asked for {DEPTH}"
    lengths = {name: len(values) for name, values in ranking.extras.items() if len(values) != rows}
    problem = problem or (f"extras of other lengths: {lengths}" if lengths else None)
    yield Check("shapes and types", problem is None, problem or f"[{rows}, {DEPTH}] int32 and float32")
    if problem is not None:
        return
    _, counts = clean(ranking, subject.examples.requests, subject.n_items, DEPTH)
    for what, key in (("no seen item", "seen"), ("no item twice", "duplicate"), ("items in range", "out_of_catalogue")):
        yield Check(what, not counts[key], f"{counts[key]} of {ranking.items.size} places" if counts[key] else "")
    filled = ranking.items != NO_ITEM
    yield Check("finite scores", bool(np.isfinite(ranking.scores[filled]).all()))
    ordered = (ranking.scores[:, 1:] <= ranking.scores[:, :-1]) | ~filled[:, 1:]
    yield Check("scores descend", bool(ordered.all()))
    gaps = filled[:, 1:] & ~filled[:, :-1]
    yield Check(
        "empty places last, with score -inf", not gaps.any() and bool(np.isneginf(ranking.scores[~filled]).all())
    )


def _stability(subject: Subject) -> Iterator[Check]:
    """The same request gets the same answer, whatever is asked beside it, and requests are left as they were."""
    requests = subject.examples.requests

    def repeats() -> None:
        before = (requests.users.copy(), requests.history.values.copy())
        first = subject.rank()
        _same(first, subject.rank(), exact=True)
        if not (np.array_equal(before[0], requests.users) and np.array_equal(before[1], requests.history.values)):
            raise CheckError("the model changed the requests it was given")

    def alone() -> None:
        order = np.arange(len(requests))[::-1]
        pieces = [order[start : start + 7] for start in range(0, len(order), 7)]
        parts = [subject.rank(requests.take(piece)) for piece in pieces]
        together = Ranking(
            np.concatenate([p.items for p in parts])[::-1], np.concatenate([p.scores for p in parts])[::-1]
        )
        _same(subject.rank(), together, exact=False)

    yield _attempt("ranks twice the same", repeats)
    yield _attempt("independent of the batch", alone)


def _ranks(subject: Subject, requests: Requests) -> None:
    ranking = subject.rank(requests)
    problem = shape_problem(ranking, len(requests))
    if problem is not None:
        raise CheckError(problem)
    if requests.intent is None and requests.prompts is None and not (ranking.items != NO_ITEM).any():
        raise CheckError("the ranking is empty")


def _round_trip(wanted: Wanted, subject: Subject, folder: Path, llm: LanguageModel | None) -> None:
    folder.mkdir()
    subject.model.save(folder)
    loaded = wanted.model.load(folder, wanted.settings, wanted.device)
    lend(loaded, llm)
    _same(subject.rank(), Subject(loaded, subject.examples, subject.n_items).rank(), exact=False)


def _fits_again(wanted: Wanted, subject: Subject, folder: Path, progress: Progress, llm: LanguageModel | None) -> None:
    again = Subject(_fit(wanted, folder, progress, llm), subject.examples, subject.n_items)
    _same(subject.rank(), again.rank(), exact=False)


def _fit(wanted: Wanted, folder: Path, progress: Progress, llm: LanguageModel | None) -> Recommender:
    model: Recommender = wanted.model(wanted.settings, device=wanted.device)
    model.fit(wanted.dataset.for_training(), Store(folder).context(wanted, progress))
    lend(model, llm)
    return model


def _examples(task: str, dataset: Dataset, information: str, seed: int) -> Examples:
    task_class = registry.get("tasks", task)
    windows = {"windows": dataset.card.windows} if "windows" in task_class.Settings.model_fields else {}
    examples = build_examples(task_class(task_class.Settings.parse(task, windows)), dataset, seed, USERS)
    shown = visible(examples, information)
    if task == UNPROMPTED:
        shown = Examples(replace(shown.requests, prompts=None), shown.targets)
    return shown


def _same(one: Ranking, other: Ranking, exact: bool) -> None:
    """Refuse rankings that differ.

    Raises:
        CheckError: says by how much.
    """
    if one.items.shape != other.items.shape:
        raise CheckError(f"shapes {one.items.shape} and {other.items.shape}")
    alike = one.items == other.items
    close = (one.scores == other.scores) | np.isclose(one.scores, other.scores, rtol=RELATIVE, atol=ABSOLUTE)
    # Where an item differs but the scores at the place agree, two near ties changed places.
    if (exact and not alike.all()) or not close.all() or alike.mean() < 0.99:
        raise CheckError(f"{int((~alike).sum())} of {alike.size} places differ, {int((~close).sum())} scores do")


def _card_problem(name: str, model: type[Any]) -> str | None:
    if not isinstance(model.card, ModelCard):
        return "card is no ModelCard"
    if model.card.name != name:
        return f"the card says {model.card.name!r}, the entry point {name!r}"
    if not (isinstance(getattr(model, "Settings", None), type) and issubclass(model.Settings, Settings)):
        return "Settings is no bench.cards.Settings"
    serving: frozenset[str] = getattr(model, "serving_settings", frozenset())
    unknown = serving - set(model.Settings.model_fields)
    if unknown:
        return f"serving_settings names {sorted(unknown)[0]!r}, which is no setting"
    missing = [method for method in ("fit", "rank", "save", "load") if not callable(getattr(model, method, None))]
    return f"has no {missing[0]}()" if missing else None


def _attempt(name: str, action: Callable[[], None]) -> Check:
    """Run an action; whatever it raises is a failed check, not the end of the report."""
    try:
        action()
    except (CheckError, InputError) as error:
        return Check(name, False, str(error))
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}")
    return Check(name, True)
