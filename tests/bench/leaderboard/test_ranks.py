"""Ties and paired tests of many systems at once, against scipy, ranx, and the comparison of two."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench import statistics
from bench.contracts import Scores


def systems(users=80, windows=(3, 5), shifts=(0.0, 0.02, 0.3), seed=0):
    draws = np.random.default_rng(seed)
    who = np.tile(np.arange(users), len(windows)).astype(np.int32)
    window = np.repeat(windows, users).astype(np.int32)
    common = draws.random(len(who))
    values = np.stack([np.clip(common + shift + draws.normal(0, 0.2, len(who)), 0, 1) for shift in shifts], 1)
    return values, who, window


def test_pairs_of_many_are_the_comparison_of_two():
    values, users, windows = systems()
    paired = statistics.pair_up(values, users, windows, seed=3)
    for one, other in ((0, 1), (2, 0), (1, 2)):
        mine = paired.difference(one, other, "m")
        columns = [Scores({"m": values[:, place]}) for place in (one, other)]
        (two,) = statistics.compare(*columns, users, windows, seed=3)
        assert (mine.value, mine.low, mine.high, mine.p, mine.n) == pytest.approx(
            (two.value, two.low, two.high, two.p, two.n), abs=1e-12
        )


@pytest.mark.parametrize("users", [5, 12])
def test_p_values_are_those_of_scipy_exactly_on_few_users(users):
    values, who, windows = systems(users, (0,))
    paired = statistics.pair_up(values, who, windows, seed=0)
    theirs = stats.permutation_test(
        (values[:, 2], values[:, 1]),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
    )
    assert paired.p_value(2, 1) == pytest.approx(theirs.pvalue, abs=1e-12)


def test_intervals_and_p_values_agree_with_scipy_on_many_users():
    values, who, windows = systems(400, (0,), (0.0, 0.03), seed=4)
    mine = statistics.pair_up(values, who, windows, seed=0, replicates=10_000).difference(1, 0, "m")
    apart = values[:, 1] - values[:, 0]
    theirs = stats.bootstrap((apart,), np.mean, n_resamples=10_000, method="percentile", rng=1).confidence_interval
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=0.04 * (theirs.high - theirs.low))
    test = stats.permutation_test(
        (apart,),
        lambda a, axis: np.mean(a, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=10_000,
        rng=2,
    )
    assert mine.p == pytest.approx(test.pvalue, abs=0.02)


@pytest.mark.slow
def test_p_values_agree_with_ranx():
    """Compiling it takes longer than all other tests here."""
    fisher = pytest.importorskip("ranx.statistical_tests.fisher_randomization_test").fisher_randomization_test
    values, who, windows = systems(300, (0,), (0.0, 0.02), seed=9)
    mine = statistics.pair_up(values, who, windows, seed=0).p_value(1, 0)
    theirs, _ = fisher(values[:, 0].copy(), values[:, 1].copy(), n_permutations=10_000, random_seed=1)
    assert 0.001 < theirs < 0.999 and mine == pytest.approx(theirs, abs=0.02)


def test_several_seeds_are_the_mean_over_seeds_and_flip_a_user_in_all_of_them():
    first, users, windows = systems(60, (0,), (0.0, 0.1), seed=1)
    second, _, _ = systems(60, (0,), (0.0, 0.1), seed=2)
    both = statistics.pair_up(
        np.concatenate([first, second]), np.tile(users, 2), np.repeat([1, 2], 60).astype(np.int32), seed=0
    )
    mean = statistics.pair_up((first + second) / 2, users, windows, seed=0)
    assert both.difference(1, 0, "m").value == pytest.approx(mean.difference(1, 0, "m").value)
    assert both.p_value(1, 0) == pytest.approx(mean.p_value(1, 0))


def test_an_example_without_the_metric_in_one_system_is_left_out_of_all():
    values, users, windows = systems()
    values[5, 0] = np.nan
    paired = statistics.pair_up(values, users, windows, seed=0)
    without = statistics.pair_up(np.delete(values, 5, 0), np.delete(users, 5), np.delete(windows, 5), seed=0)
    assert paired.n == len(values) - 1 and paired.observed == pytest.approx(without.observed)


def test_systems_inside_the_noise_share_a_rank():
    values, users, windows = systems(400, shifts=(0.0, 0.004, 0.3, 0.302, -0.3))
    paired = statistics.pair_up(values, users, windows, seed=0)
    assert statistics.tie_ranks(list(paired.observed), paired.p_value) == [3, 3, 1, 1, 5]


def reference_ranks(values, p, alpha):
    """The rule as it is written down, step by step."""
    left, ranks, placed = set(range(len(values))), {}, 0
    while left:
        best = min(left, key=lambda place: (-values[place], place))
        others = sorted(left - {best})
        order = sorted(others, key=lambda place: p(place, best))
        share, apart = {best}, set()
        for step, place in enumerate(order):
            # Holm: from the smallest p on, told apart until the first that is not.
            if min(1.0, p(place, best) * (len(order) - step)) >= alpha:
                break
            apart.add(place)
        share |= set(others) - apart
        ranks |= dict.fromkeys(share, placed + 1)
        placed += len(share)
        left -= share
    return [ranks[place] for place in range(len(values))]


@settings(max_examples=200)
@given(st.data())
def test_ranks_follow_the_rule(data):
    count = data.draw(st.integers(1, 7))
    values = data.draw(st.lists(st.floats(0, 1), min_size=count, max_size=count))
    table = data.draw(st.lists(st.sampled_from([0.0001, 0.004, 0.01, 0.02, 0.04, 0.2, 1.0]), min_size=49, max_size=49))

    def p(one, other):
        return table[min(one, other) * 7 + max(one, other)]

    assert statistics.tie_ranks(values, p) == reference_ranks(values, p, 0.05)
