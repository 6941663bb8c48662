"""What RecLM-gen is taught: the instructions of tasks I0 to I3 and I3-re with their lists, from train events and a teacher.

Labels follow the released code (`microsoft/RecAI:RecLM-gen`, `sft/dataset.py` and `rl/dataset.py`), with three changes. The
control sentences of I2 say "no more than" and "at least" where the original says "less than" and "more than", since its own
labels and rewards count the bound itself as met. General chat (ShareGPT) is not replayed. Lists of the fine-tuning leave out
all that the user has seen, not only the ten titles of the history: nobody is taught to recommend what is masked in testing.

Everything is a pure function of (seed, name, epoch): a training that goes on after a kill meets the same examples.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from baselines.reclm.prompts import Words
from bench.contracts import Bools, Dataset, Ints, Longs, Ragged
from bench.rng import named_generator

# Most titles of a list, of a history, and of candidates.
TOP = LENGTH = CANDIDATES = 10
USER_TASKS, ITEM_TASKS = ("I0", "I1", "I2"), ("I3", "I3-re")
CONTROLS = ("I0", "wish", "refusal", "less", "more", "about")


class Orders(Protocol):
    """A teacher: for each history the items that the user has not seen, best first."""

    def orders(self, histories: Ragged, seen: Ragged | None = None) -> Iterator[Ints]:
        """See `baselines.reclm.teacher.Teacher`."""


@dataclass(frozen=True)
class Control:
    """What is asked of a list: `kind` is `none`, `wish`, `refusal`, `less`, `more` or `about`.

    The last three bound how many items of the category it holds: no more, no fewer, or just `bound`.
    """

    kind: str = "none"
    category: int = -1
    bound: int = 0


@dataclass(frozen=True)
class Example:
    """One instruction and its answer.

    `items` is the list to be written; `target` the true next item (of tasks with a history) or the anchor; `question` the item
    whose category is asked for instead, which then is `control.category`.
    """

    task: str
    history: tuple[int, ...]
    intention: str | None
    count: int
    items: tuple[int, ...]
    target: int
    control: Control = Control()
    candidates: tuple[int, ...] = ()
    question: int | None = None


def next_items(target: int, order: Ints, count: int) -> list[int]:
    """I0: the true next item, then the teacher's best without it, `count` in all."""
    return [target, *order[order != target][: count - 1].tolist()]


def controlled(target: int, order: Ints, allowed: Bools, count: int) -> list[int]:
    """I1: the teacher's best among allowed items; the true next item is moved to the front where it is one of them."""
    best: list[int] = order[allowed[order]][:count].tolist()
    return [target, *(item for item in best if item != target)] if target in best else best


def proportioned(order: Ints, inside: Bools, within: int, count: int) -> list[int]:
    """I2: the teacher's best `within` items of the category, then its best outside; `count` in all, not shuffled yet."""
    best: list[int] = [*order[inside[order]][:within], *order[~inside[order]][: count - within]]
    return [int(item) for item in best]


def anchored(anchor: int, allowed: Bools, count: int, rng: np.random.Generator) -> list[int]:
    """I3: the anchor, then random allowed items, `count` in all."""
    others = np.flatnonzero(allowed)
    others = others[others != anchor]
    return [anchor, *rng.permutation(others)[: count - 1].tolist()]


def most_frequent(best: Ints, has: Bools, target: int, enough: int | None = None) -> Longs:
    """Categories without the target that are most frequent among the teacher's best: those with the greatest count.

    With `enough` those with at least so many items, or the greatest count where none has as many (the RL stage's draw).
    """
    counts = np.where(has[target], -1, has[best].sum(0))
    return np.flatnonzero(counts >= (counts.max() if enough is None else min(enough, counts.max())))


class Builder:
    """Makes examples of single tasks.

    Args:
        has: which item has which category, bool [V, L].
        words: say controls in words.
        harness: say wishes and refusals also with the benchmark's training templates.
    """

    def __init__(self, has: Bools, words: Words, harness: bool) -> None:
        self.has, self._words, self._harness = has, words, harness
        # A category that no item has, or that all have, cannot be asked for or avoided.
        self._usable = np.flatnonzero(has.any(0) & ~has.all(0))

    def i0(self, history: Ints, target: int, order: Ints, rng: np.random.Generator) -> Example:
        """Sequential recommendation; k uniform in 1 to 10."""
        count = int(rng.integers(1, TOP + 1))
        made = Example("I0", tuple(history.tolist()), None, count, tuple(next_items(target, order, count)), target)
        return self._with_candidates(made, rng)

    def i1(self, history: Ints, target: int, order: Ints, rng: np.random.Generator) -> Example:
        """Personal control, a wish or a refusal with equal odds.

        A wish is for any category; a refusal is of one that is most frequent in the teacher's ten best and lacks the target.
        """
        refusals = most_frequent(order[:TOP], self.has, target)
        wish = rng.random() < 0.5 or not len(refusals)
        category = int(rng.choice(self._usable if wish else refusals))
        allowed = self.has[:, category] == wish
        room = int(allowed[order].sum())
        count = int(rng.integers(1, max(1, min(TOP, room)) + 1))
        control = Control("wish" if wish else "refusal", category)
        items = controlled(target, order, allowed, count)
        made = Example("I1", tuple(history.tolist()), None, len(items), tuple(items), target, control)
        return self._with_candidates(self.said(made, rng), rng)

    def i2(self, history: Ints, target: int, order: Ints, rng: np.random.Generator) -> Example:
        """A bound on how many of ten titles belong to a category: as many as it, or one within it."""
        category = int(rng.choice(self._usable))
        inside = self.has[:, category]
        most = min(int(inside[order].sum()), TOP)
        less = rng.random() < 0.5 or not most
        bound = int(rng.integers(1, max(most, 1) + 1)) if less else int(rng.integers(0, most))
        within = bound + int(rng.integers(0, 2)) * (-1 if less else 1)
        items = rng.permutation(proportioned(order, inside, within, TOP)).tolist()
        control = Control("less" if less else "more", category, bound)
        return self.said(Example("I2", tuple(history.tolist()), None, len(items), tuple(items), target, control), rng)

    def i3(self, anchor: int, rng: np.random.Generator) -> Example:
        """Control without a history: a wish that the anchor meets, or a refusal that it is free of."""
        return self._without_history("I3", anchor, TOP, rng)

    def i3_re(self, anchor: int, rng: np.random.Generator) -> Example:
        """One of three: I3 with one title, the same from candidates, or the question for the anchor's category."""
        own = np.flatnonzero(self.has[anchor])
        if len(own) and rng.random() < 1 / 3:
            category = int(rng.choice(own))
            return Example("I3-re", (), None, 0, (), anchor, Control("none", category), question=anchor)
        return self._without_history("I3-re", anchor, 1, rng)

    def rl(self, kind: str, history: Ints, target: int, order: Ints, rng: np.random.Generator) -> Example:
        """A prompt of the RL stage, `kind` of `CONTROLS`: k in 6 to 10, and categories that the target has, or for a refusal and
        `less` lacks. Its list is left empty: the reward judges what the model writes.
        """
        count = int(rng.integers(TOP // 2 + 1, TOP + 1))
        made = Example("RL", tuple(history.tolist()), None, count, (), target)
        own = np.flatnonzero(self.has[target])
        choice = most_frequent(order[:count], self.has, target, 2) if kind in ("refusal", "less") else own
        if kind == "I0" or not len(choice):
            return made
        category = int(rng.choice(choice))
        most = min(int(self.has[order, category].sum()), count)
        bound = int(rng.integers(0, most + 1)) if kind in ("less", "more", "about") else 0
        return self.said(replace(made, control=Control(kind, category, bound)), rng)

    def said(self, example: Example, rng: np.random.Generator) -> Example:
        """The example with its control in words."""
        control, kind = example.control, example.control.kind
        if kind in ("less", "more", "about"):
            kind += " share" if rng.random() < 0.5 else " count"
        said = self._words.intentions(
            kind, control.category, control.bound, max(example.count, 1), harness=self._harness
        )
        return replace(example, intention=said[rng.integers(len(said))])

    def _without_history(self, task: str, anchor: int, most: int, rng: np.random.Generator) -> Example:
        own, others = np.flatnonzero(self.has[anchor]), np.setdiff1d(self._usable, np.flatnonzero(self.has[anchor]))
        wish = bool(len(own)) and (rng.random() < 0.5 or not len(others))
        category = int(rng.choice(own if wish else others))
        allowed = self.has[:, category] == wish
        count = int(rng.integers(1, min(most, int(allowed.sum())) + 1))
        control = Control("wish" if wish else "refusal", category)
        made = Example(task, (), None, count, tuple(anchored(anchor, allowed, count, rng)), anchor, control)
        return self._with_candidates(self.said(made, rng), rng)

    def _with_candidates(self, example: Example, rng: np.random.Generator) -> Example:
        """In half of the cases a list to select from: the answer among random other items, ten in all."""
        if rng.random() < 0.5:
            return example
        drawn = rng.integers(len(self.has), size=4 * CANDIDATES).tolist()
        barred = {*example.items, *example.history}
        others = [item for item in dict.fromkeys(drawn) if item not in barred][: CANDIDATES - len(example.items)]
        return replace(example, candidates=tuple(rng.permutation([*example.items, *others]).tolist()))


class Cuts:
    """Histories out of the train events: a true next item drawn uniformly, and one to ten events before it.

    Args:
        events: train events, a row a user.
    """

    def __init__(self, events: Ragged) -> None:
        self._events = events
        self.users = np.flatnonzero(events.lengths >= 2)

    def draw(self, users: npt.NDArray[Any], rng: np.random.Generator) -> tuple[Ragged, Ints]:
        """Histories and the items that followed them, int32 [len(users)]."""
        first = self._events.offsets[users]
        target = 1 + (rng.random(len(users)) * (self._events.lengths[users] - 1)).astype(np.int64)
        earliest = np.maximum(0, target - LENGTH)
        start = earliest + (rng.random(len(users)) * (target - earliest)).astype(np.int64)
        rows = [self._events.values[at + begin : at + end] for at, begin, end in zip(first, start, target, strict=True)]
        return Ragged.of(rows), self._events.values[first + target]

    def before(self, users: npt.NDArray[Any], targets: Ints) -> Ragged:
        """All train events before the given one of each user."""
        rows = (self._events[user] for user in users)
        return Ragged.of([row[: np.flatnonzero(row == target)[0]] for row, target in zip(rows, targets, strict=True)])


class Instructions:
    """The examples of fine-tuning: of every epoch one a user and user task, and one an item and item task.

    Args:
        dataset: its train events and labels are read.
        teacher: orders the catalogue.
        builder: makes the examples.
        tasks: of `USER_TASKS` and `ITEM_TASKS`.
        seed: of the draws.
        users: most users of an epoch.
    """

    def __init__(
        self, dataset: Dataset, teacher: Orders, builder: Builder, tasks: Collection[str], seed: int, users: int
    ) -> None:
        self._teacher, self._builder, self._tasks, self._seed, self._most = teacher, builder, tuple(tasks), seed, users
        self._cuts, self._items = Cuts(dataset.train_events()), len(dataset.catalogue)
        self.examples: list[Example] = []
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]

    @property
    def lengths(self) -> Longs:
        """How many titles each example shows or writes, int64: what its number of tokens grows with."""
        return np.array([len(each.history) + len(each.items) + len(each.candidates) for each in self.examples])

    def set_epoch(self, epoch: int) -> None:
        """Draw the examples of an epoch."""
        self.examples = [made for task in self._tasks for made in self._of(task, epoch)]

    def _of(self, task: str, epoch: int) -> Iterator[Example]:
        rng = named_generator(self._seed, "reclm", task, f"epoch {epoch}")
        if task in ITEM_TASKS:
            make = self._builder.i3 if task == "I3" else self._builder.i3_re
            yield from (make(item, rng) for item in range(self._items))
            return
        users = self._cuts.users
        if len(users) > self._most:
            users = np.sort(rng.choice(users, self._most, replace=False))
        histories, targets = self._cuts.draw(users, rng)
        build: Callable[..., Example] = {"I0": self._builder.i0, "I1": self._builder.i1, "I2": self._builder.i2}[task]
        for row, order in enumerate(self._teacher.orders(histories, self._cuts.before(users, targets))):
            yield build(histories[row], int(targets[row]), order, rng)


def held_out(dataset: Dataset, teacher: Orders, builder: Builder, seed: int, most: int) -> list[Example]:
    """Examples of I0 and I1, in turn, whose true next item is a user's first validation event; of at most `most` users."""
    ends = dataset.train_end
    users = np.flatnonzero((dataset.valid_end > ends) & (ends > 0))
    rng = named_generator(seed, "reclm", "held out")
    if len(users) > most:
        users = np.sort(rng.choice(users, most, replace=False))
    before = [dataset.events[user][: ends[user]] for user in users]
    histories = Ragged.of([row[-LENGTH:] for row in before])
    made = []
    for row, order in enumerate(teacher.orders(histories, Ragged.of(before))):
        target = int(dataset.events[users[row]][ends[users[row]]])
        make = builder.i0 if row % 2 == 0 else builder.i1
        made.append(make(histories[row], target, order, rng))
    return made
