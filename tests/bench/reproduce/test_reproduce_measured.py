"""Values, pooling and spread over seeds."""

from types import SimpleNamespace

import numpy as np
import pytest

from bench.reproduce import measured
from bench.results import MetricValue
from bench.statistics import Estimate, Summary


def fake_run(value, window=None):
    own = {"ndcg@10": MetricValue(value=value, low=value - 0.01, high=value + 0.01, n=10, failed=1)}
    return SimpleNamespace(result=SimpleNamespace(metrics=own, per_window={"3": window or own}))


def test_one_seed_has_the_intervals_of_its_result_and_no_spread():
    found = measured.values({4: fake_run(0.5)}, "mean", "ndcg@10", None)
    assert (found.value, found.low, found.high, found.n, found.failed) == (0.5, 0.49, 0.51, 10, 1)
    assert found.sd is None and found.seeds == (4,)


def test_several_seeds_have_the_pooled_interval_and_their_spread():
    estimate = Estimate(0.5, 0.45, 0.55, 30, 0)
    pooled = Summary({"ndcg@10": estimate}, {3: {"ndcg@10": Estimate(0.6, 0.5, 0.7, 30, 0)}})
    runs = {0: fake_run(0.4), 1: fake_run(0.5), 2: fake_run(0.6)}
    found = measured.values(runs, "mean", "ndcg@10", pooled)
    assert (found.value, found.low, found.high, found.n, found.failed) == (0.5, 0.45, 0.55, 30, 3)
    assert found.sd == pytest.approx(0.1) and found.seeds == (0, 1, 2)
    assert measured.values(runs, 3, "ndcg@10", pooled).value == 0.6


def test_a_metric_or_window_that_a_run_lacks_has_no_value():
    assert measured.values({0: fake_run(0.5)}, "mean", "map", None) is None
    assert measured.values({0: fake_run(0.5)}, 5, "ndcg@10", None) is None


def test_headlines_are_means_over_windows_of_means_over_examples():
    values = np.array([1.0, 0.0, 0.0, np.nan, 1.0])
    windows = np.array([3, 3, 3, 5, 5], np.int32)
    stored = measured.Stored({"m": values}, np.arange(5, dtype=np.int32), windows, (0,), {0: "q"}, (5,))
    assert stored.headline("m") == pytest.approx((1 / 3 + 1.0) / 2)


def test_the_scores_of_some_seeds_are_cut_out():
    column = np.arange(6.0)
    users = np.array([0, 1, 0, 1, 2, 0], np.int32)
    stored = measured.Stored({"m": column}, users, users, (7, 8, 9), {7: "a", 8: "b", 9: "c"}, (2, 3, 1))
    part = stored.only((7, 9))
    assert part.columns["m"].tolist() == [0.0, 1.0, 5.0] and part.users.tolist() == [0, 1, 0]
    assert part.seeds == (7, 9) and part.digests == {7: "a", 9: "c"} and part.lengths == (2, 1)
    assert stored.only((7, 8, 9)) is stored
