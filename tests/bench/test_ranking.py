"""Top-k and the central mask, against plain sorting."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.contracts import NO_ITEM, Ragged, Ranking, Requests
from bench.ranking import clean, top_k
from bench.rng import named_generator, pick, uniform_draws


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 12))
def test_top_k_is_a_stable_sort_of_what_is_unseen(seed: int, n_items: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (5, n_items)).astype(np.float32)  # many ties
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    seen = [rng.permutation(n_items)[: rng.integers(0, n_items + 1)] for _ in range(5)]
    found = top_k(scores.copy(), Ragged.of(seen), k)
    for b in range(5):
        left = [v for v in range(n_items) if v not in set(seen[b].tolist()) and scores[b, v] > -np.inf]
        best = sorted(left, key=lambda v: (-scores[b, v], v))[:k]
        assert found.items[b].tolist() == best + [NO_ITEM] * (k - len(best))
        assert found.scores[b, : len(best)].tolist() == [scores[b, v] for v in best]


def test_clean_takes_out_seen_repeated_and_unknown_items() -> None:
    given_items = np.array([[5, 1, 1, 99, 2, NO_ITEM], [0, 1, 2, 3, 4, 5]], np.int32)
    requests = Requests(np.arange(2, dtype=np.int32), Ragged.of([[2], [7]]))
    ranking, counts = clean(Ranking(given_items, np.zeros((2, 6), np.float32)), requests, 10, 4)
    assert ranking.items.tolist() == [[5, 1, NO_ITEM, NO_ITEM], [0, 1, 2, 3]]
    assert counts == {"seen": 1, "duplicate": 1, "out_of_catalogue": 1, "short": 1}


def test_draws_are_the_same_on_any_machine() -> None:
    # Pinned: the stored targets of every published result hang on these.
    assert uniform_draws(0, "pos/test/target/3", 4).tolist() == PINNED
    assert pick(np.array([0.0, 0.999999999]), np.array([3, 3])).tolist() == [0, 2]
    assert uniform_draws(1, "a", 3).tolist() != uniform_draws(1, "b", 3).tolist()
    assert named_generator(0, "a").integers(1 << 40) != named_generator(1, "a").integers(1 << 40)


PINNED = [0.3254194475909028, 0.9307209716924958, 0.4440701665796879, 0.9944023125424603]
