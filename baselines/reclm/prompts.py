"""How RecLM-gen's instructions read and how its lists are written: the same in training and in testing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.contracts import NEGATIVE, POSITIVE, Dataset
from bench.llm.contracts import Message
from bench.llm.quoting import clean
from bench.llm.templates import render
from tasks.domains import domain_words
from tasks.prompt_pools import render as fill
from tasks.prompt_pools import templates

if TYPE_CHECKING:
    from jinja2 import Template

INSTRUCTION, INTENTIONS = (Path(__file__).with_name(f"{name}.j2") for name in ("instruction", "intentions"))
NUMBER = re.compile(r"^\s*[0-9]{1,3}[.)]\s*")
LONGEST_TITLE = 160
# Titles of the longest list, and the items in instructions that a tokenizer is shown.
LINES, SHOWN = 10, (0, 1)


@dataclass(frozen=True)
class Words:
    """What is said of a catalogue: its titles, cleaned, the names of its labels, and what things are called."""

    titles: tuple[str, ...]
    labels: tuple[str, ...]
    domain: str

    @classmethod
    def of(cls, dataset: Dataset) -> Words:
        """Those of a dataset."""
        titles = tuple(clean(title, LONGEST_TITLE) for title in dataset.catalogue.titles)
        return cls(titles, dataset.catalogue.label_names, dataset.card.domain)

    def instruction(
        self,
        history: Sequence[int],
        intention: str | None,
        count: int,
        candidates: Sequence[int] = (),
        question: int | None = None,
    ) -> tuple[Message, ...]:
        """The four turns that a list, or the category of one item, is asked for with.

        Args:
            history: items, oldest first; empty for none.
            intention: what the user says, verbatim; None for nothing.
            count: titles that are asked for.
            candidates: items to select from; empty for the whole catalogue.
            question: the item whose category is asked for, in place of a list.
        """
        words = domain_words(self.domain)
        return render(
            INSTRUCTION,
            things=words.things,
            label_word=words.label,
            history=[self.titles[item] for item in history],
            intention=intention,
            count=count,
            candidates=[self.titles[item] for item in candidates],
            question=None if question is None else self.titles[question],
        )

    def listing(self, items: Sequence[int]) -> str:
        """The answer that lists these items: numbered lines, each with its end."""
        return "".join(f"{place}. {self.titles[item]}\n" for place, item in enumerate(items, 1))

    def category(self, item: int, label: int) -> str:
        """The answer that an item is of a category."""
        return f'The {domain_words(self.domain).label} of "{self.titles[item]}" is "{self.labels[label]}".\n'

    def intentions(self, kind: str, label: int, bound: int = 0, count: int = 1, *, harness: bool = False) -> list[str]:
        """Every sentence that says a control of one kind.

        Args:
            kind: `wish`, `refusal`, or `less`, `more`, `about` with ` share` or ` count`.
            label: the category.
            bound: items of it that are meant.
            count: titles of the list, of which `bound` is a share.
            harness: also the benchmark's training templates, which wishes and refusals have.
        """
        words = domain_words(self.domain)
        values = {"label": self.labels[label], "things": words.things, "consume": words.consume}
        made = [
            template.render(**values, bound=bound, share=round(100 * bound / count)) for template in _sentences()[kind]
        ]
        if harness and kind in ("wish", "refusal"):
            polarity = POSITIVE if kind == "wish" else NEGATIVE
            made += [fill(each, [self.labels[label]], polarity) for each in templates(self.domain, polarity, "train")]
        return made

    def everything(self) -> list[str]:
        """All that a tokenizer trained here should have read: titles in lists, instructions, and every sentence."""
        sentences = [
            sentence
            for kind in _sentences()
            for label in range(len(self.labels))
            for sentence in self.intentions(kind, label, 3, 10, harness=True)
        ]
        lists = [
            self.listing(range(start, min(start + 10, len(self.titles)))) for start in range(0, len(self.titles), 10)
        ]
        return [*lists, *sentences, *self._shown("")]

    def units(self) -> list[str]:
        """What is one token for a tokenizer trained here: every title, and what instructions and lists say around them."""
        from baselines.language.scratch import fixed_parts

        said = "what is said"
        numbers = [f"{place}. " for place in range(1, LINES + 1)]
        return [*self.titles, *numbers, *fixed_parts(self._shown(said), [said, *(self.titles[item] for item in SHOWN)])]

    def _shown(self, intention: str) -> list[str]:
        """What is said in instructions of every form."""
        return [
            message.content
            for history in ((), SHOWN)
            for said in (None, intention)
            for candidates in ((), SHOWN)
            for question in (None, SHOWN[0])
            for message in self.instruction(history, said, LINES, candidates, question)
        ]


def read_lines(text: str) -> list[str]:
    """The titles of a list as it was written: one a line, without their numbers; blank lines are left out."""
    return [line for line in (NUMBER.sub("", line, count=1).strip() for line in text.splitlines()) if line]


@cache
def _sentences() -> dict[str, list[Template]]:
    from jinja2 import Environment, StrictUndefined

    environment: Any = Environment(undefined=StrictUndefined, autoescape=False)
    found: dict[str, list[Template]] = {}
    for line in INTENTIONS.read_text("utf-8").splitlines():
        kind, _, sentence = line.partition(": ")
        found.setdefault(kind, []).append(environment.from_string(sentence))
    return found
