"""Rewards of the RL stage: one for each written title, one for the whole list (`microsoft/RecAI:RecLM-gen`, `rl/reward.py`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from baselines.reclm.data import Control, Example
from baselines.reclm.matching import TitleMatcher
from bench.contracts import Bools, Ints

WRONG = -1.0
LIST_SCALE = 10.0


@dataclass(frozen=True)
class Reward:
    """`titles` holds the reward of each line in turn, `whole` that of the list."""

    titles: list[float]
    whole: float


class Rewards:
    """Judges written lists.

    Args:
        matcher: from titles to items.
        has: which item has which category, bool [V, L].
        balance: alpha, the weight of the ranking; the rest is that of the control.
    """

    def __init__(self, matcher: TitleMatcher, has: Bools, balance: float) -> None:
        self._matcher, self._has, self._balance = matcher, has, balance

    def of(self, example: Example, lines: list[str], order: Ints) -> Reward:
        """The rewards of a list.

        A title beyond the number asked for, unknown, repeated or in the history gets -1; any other alpha times its rank value
        (1 for the true next item, else 1 / log2(r + 3) at place r of the teacher's order) plus 1 - alpha times what it does
        for the control. Where nothing is controlled, the rank value alone.

        The list gets 10 times: alpha times the discounted rank values over the best attainable, plus 1 - alpha times how well
        it does what was asked (`list_value`).

        Args:
            example: what was asked.
            lines: the titles as they were written.
            order: the teacher's order for the history, best first, without it.
        """
        place = {int(item): rank for rank, item in enumerate(order)}
        control, asked = example.control, example.control.kind != "none"
        titles: list[float] = []
        discounted, inside, outside, target_at = 0.0, 0, 0, None
        used: list[int] = []
        for at, line in enumerate(lines):
            item, _ = self._matcher.find(line, {*example.history, *used})
            if at >= example.count or item is None or item in used or item not in place:
                titles.append(WRONG)
                discounted += WRONG
            else:
                value = 1.0 if item == example.target else rank_value(place[item] + 1)
                target_at = at if item == example.target else target_at
                discounted += value / math.log2(at + 2)
                belongs = asked and bool(self._has[item, control.category])
                inside, outside = inside + belongs, outside + (not belongs)
                helps = title_value(control, belongs, inside, outside, example.count)
                titles.append(value if helps is None else self._balance * value + (1 - self._balance) * helps)
            if item is not None:
                used.append(item)
        ranking = discounted / sum(rank_value(at) / math.log2(at + 2) for at in range(example.count))
        room = example.count
        if control.kind == "wish":
            room = min(room, int(self._has[:, control.category].sum()))
        done = list_value(control, inside, outside, room, target_at)
        return Reward(titles, LIST_SCALE * (self._balance * ranking + (1 - self._balance) * done))


def rank_value(rank: int) -> float:
    """1 / log2(rank + 2)."""
    return 1.0 / math.log2(rank + 2)


def title_value(control: Control, belongs: bool, inside: int, outside: int, count: int) -> float | None:
    """What a title does for the control, 0 to 1; None where nothing is controlled.

    Args:
        control: what was asked.
        belongs: whether the title is of the category.
        inside: valid titles of the category so far, this one counted.
        outside: other valid titles so far, this one counted.
        count: titles of the list.
    """
    bound, others = control.bound, count - control.bound
    if control.kind == "wish":
        return float(belongs)
    if control.kind == "refusal":
        return float(not belongs)
    if control.kind == "less":
        if outside > others:
            return 0.5
        return 1.0 if not belongs else 0.5 if inside < bound else 0.0
    if control.kind == "more":
        if inside > bound:
            return 0.5
        return 1.0 if belongs else 0.5 if outside < others else 0.0
    if control.kind == "about":
        if belongs:
            return float(inside <= bound)
        return 1.0 if inside >= bound else 0.5 if outside <= others else 0.0
    return None


def list_value(control: Control, inside: int, outside: int, room: int, target_at: int | None) -> float:
    """How well a list does what was asked, 0 to 1.

    Nothing controlled: 1 / log2(p + 2) for the true next item at place p, 0 without it. A wish or refusal:
    1 / (titles that are missing + 1). A bound: 1 where it is kept, else 1 / (distance from it + 1).

    Args:
        control: what was asked.
        inside: valid titles of the category.
        outside: other valid titles.
        room: titles of the list, of a wish at most those of the category.
        target_at: place of the true next item.
    """
    if control.kind == "none":
        return 0.0 if target_at is None else rank_value(target_at)
    if control.kind in ("wish", "refusal"):
        return 1.0 / (room - (inside if control.kind == "wish" else outside) + 1)
    away = inside - control.bound
    kept = {"less": away <= 0, "more": away >= 0, "about": away == 0}[control.kind]
    return 1.0 if kept else 1.0 / (abs(away) + 1)
