"""Texts that a language model writes for users or items: asked in batches, checked, and asked again with what was wrong.

Every answer is in the cache before it counts, and what a batch is asked a second time hangs on its own answers alone; so a
killed command, given again, repeats no request. The file is written whole at the end, or not at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import Field

from bench import cards
from bench.contracts import Dataset, Progress
from bench.dry_run import Counting
from bench.errors import CheckError, unknown_name
from bench.identity import canonical_json
from bench.language import AskingConfig, ask, described, opened_for, spent, template_hashes
from bench.llm.contracts import Answer, ChatRequest, Failure, LanguageModel
from bench.scoring import load_dataset

GROUP = "bench.authors"
# What a model will not say it does not say the next time either; asking in other words is no way around it.
DECLINED = frozenset({Failure.REFUSAL, Failure.CONTENT_POLICY})

Text = TypeVar("Text")
Ask = Callable[[Iterable[ChatRequest]], Iterator[tuple[int, Answer]]]


class WriteConfig(AskingConfig):
    """What a writing command is told. `settings` are the author's own; `to` is where the file goes, None for its own place.

    `attempts` is how often a batch is asked at the most, the first time included.
    """

    author: str
    dataset: str = "mini"
    data_dir: Path | None = None
    to: Path | None = None
    replace: bool = False
    attempts: int = Field(default=3, ge=1)
    settings: dict[str, Any] = Field(default_factory=dict)


class Author(Protocol[Text]):
    """Who is to be written for, in which words that is asked, and what of an answer is good.

    A unit is the name of a user or an item. `command` is what a person types for it. Registered in the entry point group
    `bench.authors`. One that needs fitted models has a method `prepare(config, progress)`, called before anything is asked.
    """

    command: ClassVar[str]
    templates: ClassVar[tuple[Path, ...]]
    Settings: ClassVar[type[cards.Settings]]

    def __init__(self, dataset: Dataset, settings: Any) -> None:
        """Take the dataset as it was loaded.

        Raises:
            InputError: it lacks what the author needs.
        """

    def batches(self) -> list[tuple[str, ...]]:
        """Units that are asked for together; a unit is in one batch."""

    def request(self, units: Sequence[str], wrong: Mapping[str, str]) -> ChatRequest:
        """What is asked for some units of a batch; `wrong` says what was wrong with the text of each before."""

    def read(self, units: Sequence[str], parsed: Any) -> tuple[dict[str, Text], dict[str, str]]:
        """The good texts of an answer that met the request's schema, and of every other unit what is wrong."""

    def place(self, config: WriteConfig, asked: str) -> Path:
        """Where the file goes.

        Raises:
            InputError: nowhere, or a file is there already that something else was asked for.
        """

    def save(self, path: Path, texts: Mapping[str, Text], by: dict[str, Any]) -> dict[str, Any]:
        """Write the file; `by` are `llm`, `templates` and `asked`. Gives figures for the report."""


@dataclass(frozen=True)
class Written(Generic[Text]):
    """Good texts by unit, in the order of the batches; why the others have none for good, and why some have none yet."""

    texts: dict[str, Text] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    unanswered: dict[str, str] = field(default_factory=dict)


def find_author(name: str) -> type[Any]:
    """The registered author of a name.

    Raises:
        InputError: there is none.
    """
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        raise unknown_name("author", name, found)
    loaded: type[Any] = found[name].load()
    return loaded


def carry_out(config: WriteConfig, progress: Progress) -> dict[str, Any]:
    """Ask for everything, check it and write the file.

    Returns:
        The report: author, dataset, file, `written` and `left_out` (unit to reason), the language model, its cost, and the
        author's own figures.

    Raises:
        InputError: the configuration or the dataset is wrong, or the file's place is taken.
        CheckError: the budget is used up, some requests have no answer yet, or no text at all was good; answers are kept.
    """
    kind = find_author(config.author)
    author = _prepared(kind, config, progress)
    with opened_for(kind.command, ("llm",), config, progress) as llm:
        assert llm is not None, "opened_for refuses a configuration that names none"
        asked = asked_digest(author, llm)
        path = author.place(config, asked)
        written: Written[Any] = write(lambda requests: ask(llm, requests), author, config.attempts, progress)
        identity, cost = described(llm), spent(llm)
    if written.unanswered:
        unit, reason = next(iter(written.unanswered.items()))
        raise CheckError(
            f"{len(written.unanswered)} have no answer yet, the first is {unit!r} ({reason}); every answer is kept, and the same "
            "command goes on from there."
        )
    if not written.texts:
        unit, reason = next(iter(written.left_out.items()))
        raise CheckError(f"no text was good; of {unit!r}, for instance: {reason}.")
    by = {"llm": identity, "templates": template_hashes(kind), "asked": asked}
    figures = author.save(path, written.texts, by)
    about = {"author": config.author, "dataset": config.dataset, "file": str(path), "written": len(written.texts)}
    return about | {"left_out": written.left_out, "figures": figures, **by, "cost": cost}


def foresee(config: WriteConfig, progress: Progress) -> dict[str, Any]:
    """What would be asked, as far as cached answers tell; nothing is sent, and what is missing is left for `bench llm export`.

    Raises:
        InputError: the configuration or the dataset is wrong, or the file's place is taken.
    """
    kind = find_author(config.author)
    author = _prepared(kind, config, progress)
    with opened_for(kind.command, ("llm",), config, progress, send=False) as llm:
        assert llm is not None, "opened_for refuses a configuration that names none"
        author.place(config, asked_digest(author, llm))
        counting = Counting(llm)  # type: ignore[arg-type]

        def look(requests: Iterable[ChatRequest]) -> Iterator[tuple[int, Answer]]:
            # What is asked again after a cached answer hangs on that alone, so it may be exported too.
            counting.begin()
            return counting.answer(requests)

        write(look, author, config.attempts, progress)
    return {"author": config.author, "dataset": config.dataset, "llm": config.llm} | counting.foreseen()


def write(ask_all: Ask, author: Author[Text], attempts: int, progress: Progress) -> Written[Text]:
    """Ask every batch, and those with faults again with what was wrong, each at the most `attempts` times."""
    batches = author.batches()
    done: Written[Text] = Written()
    open_batches = {place: dict.fromkeys(units, "") for place, units in enumerate(batches)}
    advance = progress.track("asking", sum(map(len, batches)))
    for _ in range(attempts):
        places = list(open_batches)
        requests = (
            author.request(
                tuple(open_batches[place]), {unit: told for unit, told in open_batches[place].items() if told}
            )
            for place in places
        )
        still_open: dict[int, dict[str, str]] = {}
        for position, answer in ask_all(requests):
            place = places[position]
            wrong = _take(author, tuple(open_batches[place]), answer, done)
            advance(len(open_batches[place]) - len(wrong))
            if wrong:
                still_open[place] = wrong
        # The order of answers is chance; that of the next round's requests must not be.
        open_batches = dict(sorted(still_open.items()))
        if not open_batches:
            break
    for wrong in open_batches.values():
        done.left_out.update(wrong)
    order = {unit: None for units in batches for unit in units}
    return Written({unit: done.texts[unit] for unit in order if unit in done.texts}, done.left_out, done.unanswered)


def asked_digest(author: Author[Any], llm: LanguageModel) -> str:
    """SHA-256 over the language model and all first requests: two files with the same one were asked for alike."""
    total = hashlib.sha256(canonical_json(described(llm)).encode())
    for units in author.batches():
        request = author.request(units, {})
        turns = [[message.role, message.content] for message in request.messages]
        total.update(canonical_json([list(units), turns]).encode())
    return total.hexdigest()


def _prepared(kind: type[Any], config: WriteConfig, progress: Progress) -> Any:
    """An author with its dataset and settings, ready to be asked for its batches."""
    dataset = load_dataset(config.dataset, config.data_dir, progress)
    author = kind(dataset, kind.Settings.parse(kind.command, config.settings))
    if hasattr(author, "prepare"):
        author.prepare(config, progress)
    return author


def _take(author: Author[Text], units: tuple[str, ...], answer: Answer, done: Written[Text]) -> dict[str, str]:
    """Put the good texts of an answer where they belong; gives what is wrong with those to be asked for again."""
    if answer.failure is Failure.UNPARSEABLE:
        return dict.fromkeys(units, "the answer was not the JSON that was asked for")
    if answer.failure is not None:
        reasons = dict.fromkeys(units, f"{answer.failure}: {answer.detail or 'no detail'}")
        (done.left_out if answer.failure in DECLINED else done.unanswered).update(reasons)
        return {}
    if answer.parsed is None:
        # A dry run has no answer here, so there is nothing to go on with.
        return {}
    good, wrong = author.read(units, answer.parsed)
    done.texts.update(good)
    return wrong
