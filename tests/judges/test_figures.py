"""The statistics of audits against independent implementations, and self-preference that was planted."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bench.contracts import Lists, Ragged, Requests
from judges import controls
from judges.agreement import alpha, between, spearman, weighted_kappa
from judges.audit import join, take
from judges.effects import consistency, paired
from judges.families import Judgement, family, preference
from judges.pairwise import Choices, position, ranking, rotation, strengths, tally
from judges.resampling import Resampler

GRADES = st.lists(st.tuples(st.integers(1, 10), st.integers(1, 10)), min_size=3, max_size=30)


def plain_alpha(table):
    """Krippendorff 2011, ordinal: 1 - observed / expected disagreement, from the coincidences, with no library."""
    units = [[value for value in unit if not math.isnan(value)] for unit in table.T]
    coincidences = np.zeros((11, 11))
    for unit in (unit for unit in units if len(unit) > 1):
        for one, other in itertools.permutations(range(len(unit)), 2):
            coincidences[int(unit[one]), int(unit[other])] += 1 / (len(unit) - 1)
    n = coincidences.sum(0)

    def distance(a, b):
        low, high = min(a, b), max(a, b)
        return (n[low : high + 1].sum() - (n[low] + n[high]) / 2) ** 2

    pairs = list(itertools.product(range(11), repeat=2))
    observed = sum(coincidences[a, b] * distance(a, b) for a, b in pairs)
    expected = sum(n[a] * n[b] * distance(a, b) for a, b in pairs) / (n.sum() - 1)
    return 1 - observed / expected


@given(st.lists(st.lists(st.integers(1, 10) | st.just(math.nan), min_size=3, max_size=3), min_size=4, max_size=20))
@settings(max_examples=60, deadline=None)
def test_alpha_is_krippendorffs(rows):
    table = np.array(rows, float).T
    rated = table[:, (~np.isnan(table)).sum(0) > 1]
    assume(len(np.unique(rated[~np.isnan(rated)])) > 1)
    assert alpha(table) == pytest.approx(plain_alpha(table), abs=1e-9)


@given(GRADES)
@settings(max_examples=60, deadline=None)
def test_kappa_and_spearman_are_those_of_their_formulas(pairs):
    one, other = np.array(pairs, float).T
    gap = one.var() + other.var() + (one.mean() - other.mean()) ** 2
    if gap > 0:
        assert weighted_kappa(one, other) == pytest.approx(1 - ((one - other) ** 2).mean() / gap, abs=1e-9)
    if np.ptp(one) and np.ptp(other):
        ranks = [
            np.array([((values < value).sum() + (values <= value).sum()) / 2 for value in values])
            for values in (one, other)
        ]
        assert spearman(one, other) == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-9)


def test_what_is_not_defined_is_no_number():
    same = np.full(5, 3.0)
    assert math.isnan(alpha(np.stack([same, same]))) and math.isnan(spearman(same, same))
    found = between(same, np.array([1, 2, 3, 4, np.nan]), Resampler(np.arange(5), 0, 20))
    assert found["spearman"]["value"] is None and found["leniency"] | {"low": 0, "high": 0} == {
        "value": 0.5,
        "low": 0,
        "high": 0,
        "n": 4,
        "failed": 1,
    }


def test_users_are_resampled_whole():
    users = np.array([4, 7, 4, 9, 7, 4])
    for rows in Resampler(users, 0, 50).resamples(np.arange(6)):
        counts = np.bincount(rows, minlength=6)
        assert len(set(counts[[0, 2, 5]])) == len(set(counts[[1, 4]])) == 1


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    values = np.random.default_rng(0).normal(5, 2, 400)
    figure = Resampler(np.arange(400), 0).figure(lambda rows: float(values[rows].mean()))
    arm = 1.96 * values.std() / 20
    assert figure.value == pytest.approx(values.mean())
    assert (figure.high - figure.low) / 2 == pytest.approx(arm, rel=0.1)


def test_effect_sizes():
    one, other = np.array([5.0, 7, 9, np.nan]), np.array([4.0, 6, 8, 8])
    found = paired(one, other, Resampler(np.arange(4), 0, 50))
    assert found["difference"]["value"] == 1 and found["d"]["value"] == pytest.approx(0.5)
    assert (found["difference"]["n"], found["difference"]["failed"]) == (3, 1)
    assert found["shares"] == {"higher": 1.0, "equal": 0.0, "lower": 0.0}
    again = consistency([one, one - np.array([0, 0, 2, 0])], Resampler(np.arange(4), 0, 50))
    # Two judgements 2 apart have variance 2; the mean over three lists is 2/3.
    assert again["sd"]["value"] == pytest.approx(math.sqrt(2 / 3)) and again["same"]["value"] == pytest.approx(2 / 3)


@given(st.integers(2, 6), st.integers(1, 40), st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_all_pairs_meet_equally_often(systems, rows, each):
    pairing = rotation(systems, rows, each)
    met = list(zip(pairing.one.tolist(), pairing.other.tolist(), strict=True))
    pairs = systems * (systems - 1) // 2
    counts = [met.count(pair) for pair in itertools.combinations(range(systems), 2)]
    assert len(met) == rows * min(each, pairs) and max(counts) - min(counts) <= 1
    by_row = [
        set(zip(*[column[pairing.row == row].tolist() for column in (pairing.one, pairing.other)], strict=True))
        for row in range(rows)
    ]
    assert all(len(own) == min(each, pairs) for own in by_row)


def test_strengths_are_those_of_bradley_and_terry():
    """Against the maximum of the likelihood, found by another road."""
    from scipy.optimize import minimize

    draw = np.random.default_rng(0)
    wins = draw.integers(1, 30, (4, 4)).astype(float)
    np.fill_diagonal(wins, 0)

    def loss(s):
        return sum(wins[i, j] * np.log1p(np.exp(s[j] - s[i])) for i in range(4) for j in range(4)) + 1e-9 * (s**2).sum()

    best = minimize(loss, np.zeros(4), tol=1e-12).x
    assert strengths(wins) == pytest.approx(best - best.mean(), abs=0.02)


def test_ties_are_half_a_win_each_and_position_is_told_from_preference():
    pairing = rotation(2, 4, 1)
    # One always wins, once ties, and in the last the first shown is taken both times.
    choices = Choices(pairing, np.array([1.0, 1, 0, 1]), np.array([1.0, 1, 1, -1]))
    assert tally(choices, 2).tolist() == [[0, 6.5], [1.5, 0]]
    resampler = Resampler(np.arange(4), 0, 50)
    found = position(choices, resampler)
    assert found["first"]["value"] == pytest.approx(4 / 7) and found["same"]["value"] == 0.5
    assert found["ties"]["value"] == 1 / 8
    assert [
        row["system"] for row in ranking(choices, ["a", "b"], np.array([[1.0] * 4, [5.0] * 4]), resampler)["systems"]
    ] == ["a", "b"]
    assert ranking(choices, ["a", "b"], np.array([[1.0] * 4, [5.0] * 4]), resampler)["swapped"] == [["a", "b"]]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("openai/gpt-5.2", "gpt"),
        ("hosted_vllm/Qwen/Qwen2.5-7B-Instruct", "qwen"),
        ("openai/o3-mini", "gpt"),
        ("mistral/open-mixtral-8x7b", "open"),
        ("deepseek/deepseek-chat", "deepseek"),
        ("meta-llama/Llama-3.1-8B", "llama"),
        ("gemini/gemma-3", "gemini"),
        (None, None),
        ("", None),
    ],
)
def test_families(model, expected):
    assert family(model) == expected


def test_self_preference_that_was_planted_is_found_beyond_leniency():
    """Judge a is lenient by 1 and adds 0.8 for its kin; kin is worse by 1.5 in everybody's eyes."""
    draw, users = np.random.default_rng(1), np.arange(200, dtype=np.int32)
    judgements = [
        Judgement(judge, run, 6 + bonus + draw.normal(0, 1, 200), users)
        for judge, run, bonus in [("a", "kin", 1 + 0.8 - 1.5), ("a", "other", 1), ("b", "kin", -1.5), ("b", "other", 0)]
    ]
    found = preference(judgements, {"a": "qwen", "b": "gpt"}, {"kin": "qwen", "other": None}, 0)
    effect = found["effects"]["a"]
    assert effect["low"] <= 0.8 <= effect["high"] and effect["low"] > 0.3 and found["kin"] == [("a", "kin")]
    alone = preference(judgements[:2], {"a": "qwen"}, {"kin": "qwen", "other": None}, 0)
    assert not alone["effects"] and "no judge of another family" in alone["unknown"]["a"]
    only = preference(judgements[:1], {"a": "qwen"}, {"kin": "qwen"}, 0)
    assert "every run is of its family" in only["unknown"]["a"]


def made(rows=6, users=3):
    history = Ragged.of([[row] for row in range(rows)])
    requests = Requests(
        (np.arange(rows) % users).astype(np.int32), history, tuple(f"wish {row}" for row in range(rows))
    )
    items = np.arange(rows * 4, dtype=np.int32).reshape(rows, 4) % 40
    items[0, 2:] = -1
    return Lists(requests, items)


def test_controls_hold_what_they_say(small):
    lists = made()
    counts = np.bincount(small.train_events().values, minlength=40)
    for row, own in enumerate(controls.popularity(small, lists).items):
        free = np.delete(counts, row)
        assert counts[own].tolist() == sorted(free, reverse=True)[:4] and row not in own
    one, again = controls.random(small, lists, 0).items, controls.random(small, lists, 0).items
    assert (one == again).all() and all(row not in own and len(set(own)) == 4 for row, own in enumerate(one))
    other = controls.mismatched(lists).requests
    assert (other.users == lists.requests.users).all()
    for row, prompt in enumerate(other.prompts):
        source = lists.requests.prompts.index(prompt)
        assert lists.requests.users[source] != lists.requests.users[row]
    turned = controls.reversed_lists(lists).items
    assert turned[0].tolist() == [1, 0, -1, -1] and turned[1].tolist() == lists.items[1][::-1].tolist()
    mixed = controls.shuffled_lists(lists, 0).items
    assert (np.sort(mixed) == np.sort(lists.items)).all() and mixed[0, 2:].tolist() == [-1, -1]


def test_lists_are_joined_and_taken_apart(small):
    lists = made()
    whole, bounds = join([lists, take(lists, np.array([4, 1]))])
    assert len(whole) == 8 and bounds.tolist() == [6]
    assert whole.requests.prompts[6:] == ("wish 4", "wish 1") and whole.requests.history[7].tolist() == [1]
    assert whole.repeat.tolist() == [0] * 8
