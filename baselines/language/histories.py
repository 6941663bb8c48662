"""Training examples of language models that write the next item: a history, what was asked, and the item to be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from baselines.target_sets import TargetSets
from bench.contracts import NEGATIVE, POSITIVE, Dataset, Ints, Longs
from bench.rng import named_generator
from tasks.prompt_pools import render, templates

# Of the wishes in training, the share that quote a training tag of the target; the others name one of its labels.
QUOTED = 1 / 3
# Of the requests that name a label, the share of wishes: a refusal tells little about the titles that answer it.
WISHES = 3 / 4


@dataclass(frozen=True)
class Example:
    """The newest events before a cut, oldest first; what was asked (None: nothing); and the item that answers."""

    history: Ints
    prompt: str | None
    target: int


@dataclass(frozen=True)
class Answered:
    """A request, items that answer it, and the history that stands beside it."""

    request: str
    items: Ints
    history: Ints


class Histories:
    """One example a user, drawn anew every epoch: a pure function of (seed, name, epoch, index), for any torch loader.

    The cut point is uniform over the user's train events. Without a request the target is the next event; a wish or a refusal
    and its target come from the future train events, as in the target sets of Section 3.3.1 of the paper, in the words of the
    training templates. Where no such target exists, nothing is asked.

    Args:
        dataset: its train events alone are read.
        seed: of the draws.
        name: of their stream.
        length: newest events of a history that are shown.
        shortest: events before the first cut; users with fewer train events give no example.
        requests: share of the examples that carry a request, wishes and refusals alike.
        users: how many users give examples; all where it is not given.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        seed: int,
        name: str,
        length: int,
        shortest: int = 4,
        requests: float = 0.0,
        users: int | None = None,
    ) -> None:
        self._dataset, self._seed, self._name = dataset, seed, name
        self._length, self._requests, self._shortest = length, requests, shortest
        self._events = dataset.train_events()
        self._users = np.flatnonzero(self._events.lengths > shortest)[:users]
        self._sets = TargetSets(dataset.catalogue, dataset.card.windows)
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self._users)

    def __getitem__(self, index: int) -> Example:
        start, stop = self._start[index], self._cut[index]
        history = self._events.values[max(start, stop - self._length) : stop]
        return Example(history, self._prompts.get(index), int(self._targets[index]))

    @property
    def lengths(self) -> Longs:
        """How many items each history shows, int64: what the length of its text grows with."""
        return np.minimum(self._cut - self._start, self._length)

    def set_epoch(self, epoch: int) -> None:
        """Draw the examples of an epoch."""
        rng = named_generator(self._seed, self._name, f"epoch {epoch}")
        self._start = self._events.offsets[self._users]
        stop = self._events.offsets[self._users + 1]
        first = self._start + self._shortest
        self._cut: Longs = first + (rng.random(len(first)) * (stop - first)).astype(np.int64)
        self._targets = self._events.values[self._cut].copy()
        self._prompts: dict[int, str] = {}
        asked = rng.random(len(first))
        self._wish(np.flatnonzero(asked < self._requests / 2), stop, rng)
        self._refuse(np.flatnonzero((asked >= self._requests / 2) & (asked < self._requests)), stop, rng)

    def _wish(self, rows: Longs, stop: Longs, rng: np.random.Generator) -> None:
        made = self._sets.positive(self._events.values, self._cut[rows] - 1, stop[rows], rng)
        for place, row in enumerate(rows[made.row].tolist()):
            item = int(made.item[place])
            self._targets[row] = item
            quoted = tag_of(self._dataset, item, rng)
            self._prompts[row] = quoted or in_words(self._dataset, POSITIVE, int(made.label[place]), rng)

    def _refuse(self, rows: Longs, stop: Longs, rng: np.random.Generator) -> None:
        every = np.ones(len(rows), bool)
        made = self._sets.negative(self._events.values, self._cut[rows] - 1, stop[rows], every, rng)
        for place, row in enumerate(rows[made.row].tolist()):
            targets = made.targets[place]
            self._targets[row] = targets[rng.integers(len(targets))]
            self._prompts[row] = in_words(self._dataset, NEGATIVE, int(made.label[place]), rng)


class OfExamples:
    """What data made of examples have in common; `set_epoch` is passed on to those that are drawn anew."""

    def __init__(self, examples: Histories | RequestsAnswered | Sequence[Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def lengths(self) -> Longs:
        """How many items each example shows, int64."""
        if isinstance(self._examples, Histories | RequestsAnswered):
            return self._examples.lengths
        return np.array([len(each.history) for each in self._examples])

    def set_epoch(self, epoch: int) -> None:
        """Draw the examples of an epoch."""
        if isinstance(self._examples, Histories | RequestsAnswered):
            self._examples.set_epoch(epoch)


class RequestsAnswered:
    """A request for every item, and items that answer it, drawn anew every epoch: what a language model from scratch reads first.

    From single next items it would learn too slowly which titles a word stands for: its first step is a plain association of
    a catalogue's words, which a pretrained model brings along. Of the events only some histories are shown, to be passed over:
    their labels are not those that are asked for.

    Args:
        dataset: its catalogue and train events are read.
        seed: of the draws.
        name: of their stream.
        most: items that answer a request.
        length: newest events of the history that stands beside half of the requests; 0 for none.
        ranked: draw what has more train events the more often, and put it first. In a list in no order every title is as good
            as the one before: who writes the likeliest next one from that repeats it.
    """

    def __init__(
        self, dataset: Dataset, *, seed: int, name: str, most: int, length: int = 0, ranked: bool = False
    ) -> None:
        self._dataset, self._seed, self._name, self._most, self._length = dataset, seed, name, most, length
        self._events = dataset.train_events()
        self._counts = np.bincount(self._events.values, minlength=len(dataset.catalogue)) if ranked else None
        self._has = dataset.catalogue.label_matrix()
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Answered:
        return self._rows[index]

    @property
    def lengths(self) -> Longs:
        """How many items each history and its answers have, int64."""
        return np.array([len(row.history) + len(row.items) for row in self._rows])

    def set_epoch(self, epoch: int) -> None:
        """Draw the requests of an epoch."""
        rng = named_generator(self._seed, self._name, f"epoch {epoch}")
        found = [row for item in range(len(self._has)) if (row := self._about(item, rng)) is not None]
        self._rows = [Answered(request, items, self._beside(rng)) for request, items in found]

    def _beside(self, rng: np.random.Generator) -> Ints:
        if not self._length or rng.random() < 0.5:
            return np.empty(0, np.int32)
        events = self._events[int(rng.integers(len(self._events)))]
        stop = int(rng.integers(len(events) + 1))
        return events[max(0, stop - self._length) : stop]

    def _about(self, item: int, rng: np.random.Generator) -> tuple[str, Ints] | None:
        """A tag of the item, a wish for a label of it, or a refusal of one that it lacks, each with what answers it."""
        tag = tag_of(self._dataset, item, rng)
        if tag is not None:
            return tag, np.array([item], np.int32)
        own, others = np.flatnonzero(self._has[item]), np.flatnonzero(~self._has[item] & self._has.any(0))
        wish = len(own) > 0 and (rng.random() < WISHES or not len(others))
        if not wish and not len(others):
            return None
        label = int(rng.choice(own if wish else others))
        answers = np.flatnonzero(self._has[:, label] == wish)
        answers = answers[answers != item]
        # Who comes in first in an exponential race is a draw without replacement, here with odds by count or even ones.
        odds = np.ones(len(answers)) if self._counts is None else self._counts[answers] + 1.0
        drawn = answers[np.argsort(rng.exponential(size=len(answers)) / odds)][: self._most - 1]
        said = in_words(self._dataset, POSITIVE if wish else NEGATIVE, label, rng)
        made = rng.permutation([item, *drawn]).astype(np.int32)
        return said, made if self._counts is None else made[np.argsort(-self._counts[made], kind="stable")]


def tag_of(dataset: Dataset, item: int, rng: np.random.Generator) -> str | None:
    """Now and then (`QUOTED`) one of an item's training tags."""
    tags = dataset.catalogue.train_tags
    own = tags[item] if tags and rng.random() < QUOTED else ()
    return str(own[rng.integers(len(own))]) if own else None


def in_words(dataset: Dataset, polarity: int, label: int, rng: np.random.Generator) -> str:
    """A wish for a label, or a refusal of it, in the words of a training template."""
    pool = templates(dataset.card.domain, polarity, "train")
    return render(pool[rng.integers(len(pool))], [dataset.catalogue.label_names[label]], polarity)


def validation_examples(dataset: Dataset, *, length: int, most: int) -> list[Example]:
    """The first validation event of up to `most` users, evenly spread, after their train events; nothing is asked."""
    users = np.flatnonzero((dataset.valid_end > dataset.train_end) & (dataset.train_end > 0))
    places = np.linspace(0, len(users) - 1, min(most, len(users))).astype(np.int64)
    found = []
    for user in users[places].tolist():
        events, cut = dataset.events[user], int(dataset.train_end[user])
        found.append(Example(events[max(0, cut - length) : cut], None, int(events[cut])))
    return found


def words_of_training(dataset: Dataset) -> list[str]:
    """Every training template filled with every label, and every training tag: what a tokenizer should have read."""
    names, domain = dataset.catalogue.label_names, dataset.card.domain
    tags = [tag for own in dataset.catalogue.train_tags for tag in own]
    return [
        *tags,
        *(
            render(template, [name], polarity)
            for polarity in (POSITIVE, NEGATIVE)
            for template in templates(domain, polarity, "train")
            for name in names
        ),
    ]
