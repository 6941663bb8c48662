"""The requests that the towers learn from: training templates filled with labels, training tags, and free words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from bench.contracts import NEGATIVE, POSITIVE, Catalogue
from bench.rng import named_generator
from tasks.prompt_pools import render, templates

Kind = Literal["label", "labels", "tag", "free"]
# Templates of each polarity, of 20, and one in so many tags and free requests, from which nothing is learned: with them the
# epoch and the weights are chosen.
HELD_TEMPLATES, HELD_OUT = 4, 10


@dataclass(frozen=True)
class ControlRequest:
    """One request: its words, and what they mean where that is known.

    `named` are the labels that it names, `about` the items that have it as a tag. `held_out` ones are not learned from.
    """

    text: str
    kind: Kind
    polarity: int = POSITIVE
    named: tuple[int, ...] = ()
    about: tuple[int, ...] = ()
    held_out: bool = False


@dataclass
class RequestBank:
    """All requests, each text once, and where to find those that fit an instance: keys are (polarity, named labels) or an item."""

    requests: list[ControlRequest] = field(default_factory=list)
    held_labels: dict[tuple[int, tuple[int, ...]], list[int]] = field(default_factory=dict)
    held_tags: dict[int, list[int]] = field(default_factory=dict)
    _texts: set[str] = field(default_factory=set)

    def add(self, request: ControlRequest) -> None:
        """Take a request in, unless its words are there already."""
        if request.text in self._texts:
            return
        self._texts.add(request.text)
        place = len(self.requests)
        self.requests.append(request)
        if request.held_out and request.named:
            self.held_labels.setdefault((request.polarity, request.named), []).append(place)
        for item in request.about if request.held_out else ():
            self.held_tags.setdefault(item, []).append(place)

    def texts(self) -> list[str]:
        """The words of every request."""
        return [request.text for request in self.requests]


def request_bank(catalogue: Catalogue, domain: str, per_set: int, seed: int, free: Sequence[str] = ()) -> RequestBank:
    """The requests of a catalogue, the same for the same seed.

    Args:
        catalogue: labels and training tags; evaluation templates and tags are never read.
        domain: of the templates.
        per_set: training templates that each set of several labels is put in; one further one is held out.
        seed: of the draws.
        free: requests in people's own words.
    """
    bank, rng = RequestBank(), named_generator(seed, "ctrl_rec", "requests")
    sets = sorted({tuple(sorted(catalogue.labels[item].tolist())) for item in range(len(catalogue))} - {()})
    for polarity in (POSITIVE, NEGATIVE):
        pool = list(templates(domain, polarity, "train"))
        order = [pool[place] for place in rng.permutation(len(pool))]
        held, learned = order[:HELD_TEMPLATES], order[HELD_TEMPLATES:]
        for label in range(len(catalogue.label_names)):
            _put(bank, catalogue, polarity, (label,), learned, held)
        for named in sets:
            if len(named) > 1:
                some = [learned[place] for place in rng.permutation(len(learned))[:per_set]]
                _put(bank, catalogue, polarity, named, some, [held[rng.integers(len(held))]])
    tagged: dict[str, list[int]] = {}
    for item, tags in enumerate(catalogue.train_tags):
        for tag in dict.fromkeys(tags):
            tagged.setdefault(tag, []).append(item)
    for (tag, items), draw in zip(tagged.items(), rng.random(len(tagged)), strict=True):
        bank.add(ControlRequest(tag, "tag", about=tuple(items), held_out=bool(draw < 1 / HELD_OUT)))
    for text, draw in zip(free, rng.random(len(free)), strict=True):
        bank.add(ControlRequest(text, "free", held_out=bool(draw < 1 / HELD_OUT)))
    return bank


def _put(
    bank: RequestBank,
    catalogue: Catalogue,
    polarity: int,
    named: tuple[int, ...],
    learned: Sequence[str],
    held: Sequence[str],
) -> None:
    """Put labels into templates to learn from and into held-out ones."""
    kind: Kind = "label" if len(named) == 1 else "labels"
    names = [catalogue.label_names[label] for label in named]
    for held_out, pool in ((False, learned), (True, held)):
        for template in pool:
            bank.add(ControlRequest(render(template, names, polarity), kind, polarity, named, held_out=held_out))


def cards_without(catalogue: Catalogue, bank: RequestBank) -> list[str]:
    """The text of every item without its held-out tags: a held-out tag must meet its item through other words, as a reworded
    one does at evaluation.
    """
    texts = list(catalogue.texts)
    for item, places in bank.held_tags.items():
        for place in places:
            texts[item] = texts[item].replace(bank.requests[place].text, "")
    return texts
