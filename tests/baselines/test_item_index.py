"""Search of large catalogues: flat is exact with seen items masked, the others are as good as their recall says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.item_index import MATRIX_UP_TO, ItemIndex, kind_for, recall
from baselines.sasrec import SASRec, SASRecSettings
from bench import ranking
from bench.contracts import Ragged, Requests


def asked(rows: int, items: int) -> Requests:
    rng = np.random.default_rng(1)
    history = Ragged.of([rng.permutation(items)[: rng.integers(1, 30)] for _ in range(rows)])
    return Requests(np.arange(rows, dtype=np.int32), history)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_a_model_ranks_through_the_index(kind: str) -> None:
    torch.manual_seed(0)
    exact = SASRec(SASRecSettings(dim=16, length=12))
    exact.net = exact.build(500)
    other = SASRec(SASRecSettings(dim=16, length=12, retrieval=kind))
    other.net = exact.net
    requests = asked(50, 500)
    wanted, found = exact.rank(requests, 10), other.rank(requests, 10)
    for row in range(50):
        assert not set(found.items[row]) & set(requests.history[row])
    if kind == "flat":
        np.testing.assert_array_equal(found.items, wanted.items)
        np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-4, atol=1e-5)
    assert recall(found.items, wanted.items) > (0.2 if kind == "ivf" else 0.95)


def test_a_catalogue_shorter_than_asked_leaves_places_empty() -> None:
    index = ItemIndex(np.eye(4, dtype=np.float32), "flat")
    ranking = index.rank(np.ones((1, 4), np.float32), Ragged.of([[2]]), 6)
    assert sorted(ranking.items[0][:3]) == [0, 1, 3] and list(ranking.items[0][3:]) == [-1] * 3


def test_size_decides_unless_told() -> None:
    assert kind_for(None, MATRIX_UP_TO) == "exact" and kind_for(None, MATRIX_UP_TO + 1) == "flat"
    assert kind_for("hnsw", 10) == "hnsw"


def test_recall_counts_what_was_found() -> None:
    assert recall(np.array([[1, 2], [3, -1]]), np.array([[2, 1], [3, 4]])) == 0.75


def test_large_catalogues_are_cleaned_without_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = asked(20, 60)
    rng = np.random.default_rng(0)
    given = ranking.top_k(rng.random((20, 60), np.float32), Ragged.of([[] for _ in range(20)]), 30)
    small = ranking.clean(given, requests, 60, 20)
    monkeypatch.setattr(ranking, "MASK_CELLS", 0)
    large = ranking.clean(given, requests, 60, 20)
    np.testing.assert_array_equal(small[0].items, large[0].items)
    assert small[1] == large[1] and small[1]["seen"] > 0
