"""Titles to items, and the rewards of lists worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from baselines.grounding import Kind
from baselines.reclm.data import Control, Example
from baselines.reclm.matching import TitleMatcher
from baselines.reclm.rewards import Reward, Rewards, list_value, title_value
from baselines.reclm.rollouts import line_breaks, split_lines, spread
from tests.tools.language_models import write_model

TITLES = ("Heat", "Ran", "Alien", "Brazil", "Casablanca", "Vertigo", "Jaws", "Metropolis")
# Categories: 0 has Ran, Brazil, Vertigo; 1 has the others.
HAS = np.zeros((8, 2), bool)
HAS[[1, 3, 5], 0] = True
HAS[:, 1] = ~HAS[:, 0]
# The history is Metropolis; the teacher's order of the rest.
ORDER = np.array([3, 0, 5, 2, 6, 1, 4], np.int32)
REWARDS = Rewards(TitleMatcher(TITLES), HAS, balance=0.5)


def log(n: float) -> float:
    return 1 / math.log2(n)


def example(kind: str = "none", bound: int = 0, count: int = 3) -> Example:
    control = Control(kind, -1 if kind == "none" else 0, bound)
    return Example("RL", (7,), None, count, (), target=2, control=control)


def test_titles_are_found_exactly_or_within_three_edits():
    matcher = TitleMatcher(("Heat", "The Heat", "Brazil", "Heat"))
    assert matcher.find(" Heat ") == (0, Kind.EXACT)
    assert matcher.find("Brasil!") == (2, Kind.NORMALISED)
    # Both Heat and "The Heat" are within reach of "e Heat": the first in the catalogue counts, not the nearest.
    assert matcher.find("e Heat") == (0, Kind.NORMALISED)
    assert matcher.find("Nosferatu") == (None, Kind.OUT_OF_CATALOGUE)


def test_a_shared_title_goes_to_the_first_item_that_is_not_ruled_out():
    matcher = TitleMatcher(("Heat", "Ran", "Heat"))
    assert matcher.find("Heat") == (0, Kind.EXACT)
    assert matcher.find("Heat", {0}) == (2, Kind.EXACT)
    assert matcher.find("Heat", {0, 2}) == (0, Kind.EXACT)


def test_a_list_without_control():
    # Brazil is the teacher's first, Alien the true next item.
    made = REWARDS.of(example(), ["Brazil", "Alien", "Heat"], ORDER)
    assert made.titles == pytest.approx([log(3), 1.0, log(4)])
    attained = log(3) / math.log2(2) + 1.0 / math.log2(3) + log(4) / math.log2(4)
    best = 1.0 + log(3) ** 2 + log(4) ** 2
    assert made.whole == pytest.approx(10 * (0.5 * attained / best + 0.5 * log(3)))


def test_wrong_titles_lose_one():
    # Seen, unknown, repeated (with a slip of the pen), beyond the three that were asked for.
    made = REWARDS.of(example(), ["Metropolis", "Nosferatu", "Brazil", "Brazil"], ORDER)
    assert made.titles == pytest.approx([-1, -1, log(3), -1])
    made = REWARDS.of(example(), ["Brazil", "Brasil"], ORDER)
    assert made.titles == pytest.approx([log(3), -1])
    assert made.whole == pytest.approx(10 * 0.5 * (log(3) - 1) / (1 + log(3) ** 2 + log(4) ** 2))


@pytest.mark.parametrize(("kind", "helps", "done"), [("wish", [1, 0, 1], 1 / 2), ("refusal", [0, 1, 0], 1 / 3)])
def test_wish_and_refusal(kind, helps, done):
    # Brazil and Vertigo are of the category, Heat is not: one title short of three, or two short of refusing it.
    made = REWARDS.of(example(kind), ["Brazil", "Heat", "Vertigo"], ORDER)
    values = [log(3), log(4), log(5)]
    assert made.titles == pytest.approx([0.5 * value + 0.5 * help for value, help in zip(values, helps, strict=True)])
    attained = sum(value / math.log2(at + 2) for at, value in enumerate(values))
    best = 1.0 + log(3) ** 2 + log(4) ** 2
    assert made.whole == pytest.approx(10 * (0.5 * attained / best + 0.5 * done))


def test_a_wish_asks_for_no_more_than_there_are():
    # Three films of the category exist, so a list of four that has them all misses nothing.
    assert list_value(Control("wish", 0), inside=3, outside=1, room=3, target_at=None) == 1.0


# Lists of five titles, of the category (1) or not (0), with what each title does for the bound.
@pytest.mark.parametrize(
    ("kind", "bound", "belongs", "helps", "done"),
    [
        # No more than two: titles outside help until there are three of them, inside they are neutral below the bound.
        ("less", 2, [1, 0, 1, 1, 0], [0.5, 1, 0, 0, 1], 1 / 2),
        ("less", 2, [0, 0, 0, 0, 1], [1, 1, 1, 0.5, 0.5], 1),
        # At least two: titles inside help until it is passed; outside are neutral while there is room for them.
        ("more", 2, [1, 1, 1, 0, 0], [1, 1, 0.5, 0.5, 0.5], 1),
        ("more", 2, [0, 0, 0, 0, 1], [0.5, 0.5, 0, 0, 1], 1 / 2),
        # Just two.
        ("about", 2, [1, 1, 1, 0, 0], [1, 1, 0, 1, 1], 1 / 2),
        ("about", 2, [0, 0, 0, 0, 1], [0.5, 0.5, 0.5, 0, 1], 1 / 2),
        ("about", 2, [1, 0, 1, 0, 0], [1, 0.5, 1, 1, 1], 1),
    ],
)
def test_bounds(kind, bound, belongs, helps, done):
    control, inside, outside, made = Control(kind, 0, bound), 0, 0, []
    for each in belongs:
        inside, outside = inside + each, outside + (1 - each)
        made.append(title_value(control, bool(each), inside, outside, len(belongs)))
    assert made == helps
    assert list_value(control, inside, outside, len(belongs), None) == pytest.approx(done)


def test_rewards_lie_on_the_tokens_that_end_lines(tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(write_model(tmp_path))
    breaks = line_breaks(tokenizer)
    newline = tokenizer("\n", add_special_tokens=False).input_ids
    assert len(newline) == 1 and breaks[newline[0]] and newline[0] != 13
    text = "1. A film\n\n2. A film called\n3. number"
    answer = [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    lines = split_lines(answer, breaks, lambda tokens: tokenizer.decode(tokens, skip_special_tokens=True))
    assert [title for title, _ in lines] == ["A film", "A film called", "number"]
    assert lines[-1][1] == len(answer) - 1
    assert all(answer[at] == newline[0] for _, at in lines[:-1])
    rewards = spread(len(answer), [at for _, at in lines], Reward([0.5, -1.0, 0.25], 3.0))
    assert rewards[lines[0][1]] == 0.5 and rewards[lines[1][1]] == -1.0 and rewards[-1] == 3.25
    assert np.count_nonzero(rewards) == 3


def test_an_empty_answer_has_the_list_reward_alone():
    breaks = np.zeros(4, bool)
    assert split_lines([2], breaks, lambda tokens: "") == []
    assert spread(1, [], Reward([], 1.5)).tolist() == [1.5]
