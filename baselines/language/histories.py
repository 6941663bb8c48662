"""Training examples of language models that write the next item: a history, what was asked, and the item to be written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from baselines.target_sets import TargetSets
from bench.contracts import NEGATIVE, POSITIVE, Dataset, Ints, Longs
from bench.rng import named_generator
from tasks.prompt_pools import render, templates

# Of the wishes in training, the share that quote a training tag of the target; the others name one of its labels.
QUOTED = 1 / 3


@dataclass(frozen=True)
class Example:
    """The newest events before a cut, oldest first; what was asked (None: nothing); and the item that answers."""

    history: Ints
    prompt: str | None
    target: int


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
        tags = self._dataset.catalogue.train_tags
        for place, row in enumerate(rows[made.row].tolist()):
            item = int(made.item[place])
            self._targets[row] = item
            quoted = tags[item] if tags and rng.random() < QUOTED else ()
            self._prompts[row] = (
                str(quoted[rng.integers(len(quoted))]) if quoted else self._words(POSITIVE, int(made.label[place]), rng)
            )

    def _refuse(self, rows: Longs, stop: Longs, rng: np.random.Generator) -> None:
        every = np.ones(len(rows), bool)
        made = self._sets.negative(self._events.values, self._cut[rows] - 1, stop[rows], every, rng)
        for place, row in enumerate(rows[made.row].tolist()):
            targets = made.targets[place]
            self._targets[row] = targets[rng.integers(len(targets))]
            self._prompts[row] = self._words(NEGATIVE, int(made.label[place]), rng)

    def _words(self, polarity: int, label: int, rng: np.random.Generator) -> str:
        pool = templates(self._dataset.card.domain, polarity, "train")
        return render(pool[rng.integers(len(pool))], [self._dataset.catalogue.label_names[label]], polarity)


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
    """Every training template filled with every label: what a tokenizer that is trained here should have read."""
    names, domain = dataset.catalogue.label_names, dataset.card.domain
    return [
        render(template, [name], polarity)
        for polarity in (POSITIVE, NEGATIVE)
        for template in templates(domain, polarity, "train")
        for name in names
    ]
