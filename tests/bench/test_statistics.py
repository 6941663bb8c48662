import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench import statistics
from bench.contracts import Scores


def sample(users=60, windows=(3, 5), metrics=("ndcg@10",), seed=0, share=0.9):
    draws = np.random.default_rng(seed)
    who = np.tile(np.arange(users), len(windows)).astype(np.int32)
    window = np.repeat(windows, users).astype(np.int32)
    keep = draws.random(len(who)) < share
    columns = {name: draws.beta(1, 3, keep.sum()) for name in metrics}
    return Scores(columns), who[keep], window[keep], np.zeros(keep.sum(), bool)


def test_headline_is_the_mean_over_windows_of_their_means():
    scores, users, windows, failed = sample()
    summary = statistics.summarise(scores, users, windows, failed, seed=0)
    values = scores.columns["ndcg@10"]
    means = [values[windows == n].mean() for n in (3, 5)]
    assert summary.headline["ndcg@10"].value == pytest.approx(np.mean(means), abs=1e-12)
    assert [summary.per_window[n]["ndcg@10"].value for n in (3, 5)] == pytest.approx(means, abs=1e-12)
    assert summary.headline["ndcg@10"].n == len(values) == sum(row["ndcg@10"].n for row in summary.per_window.values())


def test_interval_agrees_with_scipy_where_each_user_has_one_example():
    scores, users, windows, failed = sample(users=300, windows=(0,), share=1)
    values = scores.columns["ndcg@10"]
    ours = statistics.summarise(scores, users, windows, failed, seed=0, replicates=20_000).headline["ndcg@10"]
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    spread = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03 * spread)
    assert statistics.summarise(scores, users, windows, failed, seed=0).per_window == {}


def test_users_not_examples_are_resampled():
    # Ten copies of each user's example tell nothing new, so the interval must not shrink.
    scores, users, windows, failed = sample(users=100, windows=(0,), share=1)
    many = Scores({"ndcg@10": np.repeat(scores.columns["ndcg@10"], 10)})
    repeated = statistics.summarise(many, np.repeat(users, 10), np.repeat(windows, 10), np.repeat(failed, 10), seed=0)
    once = statistics.summarise(scores, users, windows, failed, seed=0)
    assert repeated.headline["ndcg@10"].low == pytest.approx(once.headline["ndcg@10"].low)
    assert repeated.headline["ndcg@10"].high == pytest.approx(once.headline["ndcg@10"].high)


def test_blocks_change_nothing(monkeypatch):
    scores, users, windows, failed = sample(metrics=("ndcg@10", "recall@10"))
    whole = statistics.summarise(scores, users, windows, failed, seed=3)
    monkeypatch.setattr(statistics, "BLOCK_CELLS", 500)
    pieces = statistics.summarise(scores, users, windows, failed, seed=3)
    for name in whole.headline:
        assert pieces.headline[name].low == pytest.approx(whole.headline[name].low, abs=1e-12)


def test_failures_count_as_the_worst_value_and_are_counted_beside():
    columns = {name: np.array([0.5, 0.5, np.nan]) for name in ("ndcg@10", "violation@10", "first_violation_rank")}
    users, windows = np.arange(3, dtype=np.int32), np.zeros(3, np.int32)
    summary = statistics.summarise(Scores(columns), users, windows, np.array([False, True, True]), seed=0)
    assert summary.headline["ndcg@10"].value == 0.25
    assert summary.headline["violation@10"].value == 0.75
    assert summary.headline["first_violation_rank"].value == 0.75
    assert (summary.headline["ndcg@10"].n, summary.headline["ndcg@10"].failed) == (2, 1)


def test_a_metric_that_never_applies_has_no_value():
    users, windows = np.arange(3, dtype=np.int32), np.zeros(3, np.int32)
    found = statistics.summarise(Scores({"m": np.full(3, np.nan)}), users, windows, np.zeros(3, bool), seed=0)
    assert np.isnan([found.headline["m"].value, found.headline["m"].low]).all() and found.headline["m"].n == 0


def test_one_user_has_an_interval_of_no_width():
    found = statistics.summarise(
        Scores({"m": np.array([0.4])}), np.zeros(1, np.int32), np.zeros(1, np.int32), np.zeros(1, bool), 0
    )
    assert found.headline["m"].low == found.headline["m"].high == found.headline["m"].value == 0.4


@pytest.mark.parametrize("users", [4, 9, 12])
def test_sign_flips_are_exact_on_few_users(users):
    draws = np.random.default_rng(users)
    one, other = draws.random(users), draws.random(users)
    ours = statistics.sign_flip_test((one - other)[:, None] / users, seed=0)[0]
    theirs = stats.permutation_test(
        (one, other), lambda a, b, axis: np.mean(a - b, axis=axis), permutation_type="samples", vectorized=True
    )
    assert ours == pytest.approx(theirs.pvalue, abs=1e-12)


def test_sign_flips_on_many_users_agree_with_the_normal_test():
    draws = np.random.default_rng(5)
    difference = draws.normal(0.06, 1, 2000)
    ours = statistics.sign_flip_test(difference[:, None], seed=0)[0]
    assert ours == pytest.approx(stats.ttest_1samp(difference, 0).pvalue, abs=0.01)
    assert statistics.sign_flip_test(np.ones((2000, 1)), seed=0)[0] == pytest.approx(1 / 10_001)
    assert statistics.sign_flip_test(np.zeros((2000, 1)), seed=0)[0] == 1.0


def test_comparison_is_paired_and_leaves_out_what_applies_to_one_alone():
    scores, users, windows, _ = sample(users=200)
    values = scores.columns["ndcg@10"].copy()
    better = Scores({"ndcg@10": values + 0.01})
    found = statistics.compare(better, scores, users, windows, seed=0)[0]
    assert (found.value, found.low, found.high) == pytest.approx((0.01, 0.01, 0.01), abs=1e-9)
    assert found.p < 0.001
    values[:5] = np.nan
    assert statistics.compare(Scores({"ndcg@10": values}), scores, users, windows, seed=0)[0].n == len(values) - 5


def test_holm():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    adjusted = statistics.holm([0.5, float("nan"), 0.9])
    assert adjusted[0] == 1.0 and np.isnan(adjusted[1]) and adjusted[2] == 1.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_the_p_value_and_bonferroni(p_values):
    for p, adjusted in zip(p_values, statistics.holm(p_values), strict=True):
        assert p <= adjusted <= min(1.0, p * len(p_values)) + 1e-12


values = st.floats(-1, 1).map(lambda value: round(value, 6))
errors = st.floats(1e-3, 1)


@given(values, values, errors, errors)
def test_a_difference_by_intervals_is_the_two_sided_normal_test(one, other, error, other_error):
    estimates = [
        statistics.Estimate(value, *stats.norm.interval(0.95, value, spread), 100, 0)
        for value, spread in ((one, error), (other, other_error))
    ]
    found = statistics.unpaired_difference("m", *estimates)
    scale = np.sqrt(error**2 + other_error**2)
    assert found.value == one - other and found.n == 100
    assert (found.low, found.high) == pytest.approx(stats.norm.interval(0.95, one - other, scale), abs=1e-9)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(one - other) / scale), abs=1e-9)
    # Of very many examples it is the t test of two samples.
    n = 10**8
    theirs = stats.ttest_ind_from_stats(one, error * n**0.5, n, other, other_error * n**0.5, n, equal_var=False)
    assert found.p == pytest.approx(theirs.pvalue, abs=1e-6)
    back = statistics.unpaired_difference("m", *reversed(estimates))
    assert (back.value, back.p) == (-found.value, found.p) and (back.low, back.high) == (-found.high, -found.low)


def test_without_any_spread_equal_values_are_not_told_apart_and_others_are():
    point = statistics.Estimate(0.3, 0.3, 0.3, 5, 0)
    same = statistics.Estimate(0.1 + 0.2, 0.1 + 0.2, 0.1 + 0.2, 7, 0)
    assert point.value != same.value and statistics.unpaired_difference("m", point, same).p == 1
    apart = statistics.unpaired_difference("m", point, statistics.Estimate(0.3001, 0.3001, 0.3001, 7, 0))
    assert apart.p == 0 and apart.low == apart.value == apart.high and apart.n == 5
    unknown = statistics.Estimate(np.nan, np.nan, np.nan, 0, 0)
    assert np.isnan(statistics.unpaired_difference("m", point, unknown).p)
