"""Answers as a person reads them: titles, labels, how far each item moved against the reference. Rendered to HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.contracts import POSITIVE, Catalogue
from bench.demo.conversation import Answer, Conversation, Desk, Read


@dataclass(frozen=True)
class Item:
    """A line of a list; `before` is its place in the reference's ranking."""

    title: str
    labels: str
    before: int
    move: str
    direction: str


@dataclass(frozen=True)
class Part:
    """A request as a recommender read it."""

    text: str
    polarity: str
    confidence: float


@dataclass(frozen=True)
class Column:
    """One recommender's answer."""

    model: str
    reference: bool
    milliseconds: float
    summary: str
    read: tuple[Part, ...]
    items: tuple[Item, ...]


def answers_html(desk: Desk, talk: Conversation, answers: Sequence[Answer], hint: str) -> str:
    """All answers side by side; every name and title in it is escaped.

    Args:
        desk: whose catalogue and recommenders these are.
        talk: the conversation that was answered.
        answers: one of each recommender, the reference first.
        hint: what to do next, or an empty string.
    """
    columns = [
        column(desk.catalogue, talk, answer, desk.models[answer.model].card.summary, place == 0)
        for place, answer in enumerate(answers)
    ]
    return _rendered("answers.html.j2", columns=columns, asked=bool(talk.parts), hint=hint)


def chips_html(kind: str, chips: Sequence[tuple[int | str, str]], removes: bool = False, empty: str = "") -> str:
    """A row of buttons.

    Args:
        kind: what they are ("found", "held", "suggested"), for their looks.
        chips: value and text of each.
        removes: a click takes it away.
        empty: said where there is none.
    """
    return _rendered("chips.html.j2", kind=kind, chips=chips, removes=removes, empty=empty)


def head_html(about: str) -> str:
    """Title, and the line under it."""
    return _rendered("head.html.j2", about=about)


def column(catalogue: Catalogue, talk: Conversation, answer: Answer, summary: str, reference: bool) -> Column:
    """One answer with words for its numbers."""
    items = []
    for place, (item, before) in enumerate(zip(answer.items.tolist(), answer.before.tolist(), strict=True), 1):
        labels = ", ".join(catalogue.label_names[label] for label in catalogue.labels[item])
        items.append(Item(catalogue.titles[item], labels, before, *moved(before, place)))
    read = tuple(
        Part(text, polarity(part), part.confidence) for text, part in zip(talk.parts, answer.read, strict=False)
    )
    return Column(answer.model, reference, answer.milliseconds, summary, read, tuple(items))


def moved(before: int, now: int) -> tuple[str, str]:
    """How far an item came up or went down, and in which direction ("up", "down", "same")."""
    if before == now:
        return "=", "same"
    return (f"↑ {before - now}", "up") if before > now else (f"↓ {now - before}", "down")


def polarity(read: Read) -> str:
    """As the page says it."""
    return "wish" if read.polarity == POSITIVE else "refusal"


def _rendered(template: str, **values: Any) -> str:
    rendered: str = _environment().get_template(template).render(values)
    return rendered


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
