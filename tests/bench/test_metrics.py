"""Metrics against an independent implementation, and against definitions written out in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from bench import metrics
from bench.contracts import NO_ITEM, Intent, Ragged


def random_case(rng: np.random.Generator, rows: int = 40, items: int = 60, places: int = 20):
    """Rankings without repeats, some shorter than `places`, and target sets of 1 to 12 items."""
    ranked = np.full((rows, places), NO_ITEM, np.int32)
    for row in ranked:
        length = int(rng.integers(0, places + 1)) if rng.random() < 0.4 else places
        row[:length] = rng.permutation(items)[:length]
    targets = Ragged.of([rng.permutation(items)[: rng.integers(1, 13)] for _ in range(rows)])
    return ranked, targets


def test_agrees_with_trec_eval() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        ranked, targets = random_case(rng)
        qrels = {str(b): {str(v): 1 for v in targets[b]} for b in range(len(ranked))}
        # trec_eval sorts by score and breaks ties by document name; strictly falling scores keep the given order.
        run = {
            str(b): {str(v): float(100 - place) for place, v in enumerate(row) if v != NO_ITEM}
            for b, row in enumerate(ranked)
        }
        expected = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10,20", "recall.10,20"}).evaluate(run)
        hit = metrics.hits(ranked, targets)
        for k in (10, 20):
            ours = metrics.ndcg(hit, targets.lengths, k), metrics.recall(hit, targets.lengths, k)
            for b in range(len(ranked)):
                theirs = expected.get(str(b), {f"ndcg_cut_{k}": 0.0, f"recall_{k}": 0.0})
                assert abs(ours[0][b] - theirs[f"ndcg_cut_{k}"]) < 1e-9
                assert abs(ours[1][b] - theirs[f"recall_{k}"]) < 1e-9


@given(st.integers(0, 2**32 - 1), st.integers(1, 25))
def test_by_definition(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    ranked, targets = random_case(rng, rows=6, items=25, places=20)
    allowed = rng.random((4, 25)) < 0.5
    intent = Intent(rng.integers(-1, 4, 6).astype(np.int32), allowed, np.ones(6, np.int8))
    hit, comply = metrics.hits(ranked, targets), metrics.complies(ranked, intent)
    for b, row in enumerate(ranked):
        wanted, top = set(targets[b].tolist()), row[:k].tolist()
        gain = sum(1 / math.log2(place + 2) for place, v in enumerate(top) if v in wanted)
        best = sum(1 / math.log2(place + 2) for place in range(min(k, len(wanted))))
        assert abs(metrics.ndcg(hit, targets.lengths, k)[b] - gain / best) < 1e-12
        assert metrics.recall(hit, targets.lengths, k)[b] == sum(v in wanted for v in top) / len(wanted)
        follows = [v != NO_ITEM and intent.rule[b] >= 0 and bool(allowed[intent.rule[b], v]) for v in row.tolist()]
        breaks = [v != NO_ITEM and not ok for v, ok in zip(row.tolist(), follows, strict=True)]
        assert metrics.compliance(comply, k)[b] == sum(follows[:k]) / k
        assert metrics.violation(ranked, comply, k)[b] == sum(breaks[:k]) / k
        assert metrics.first_violation(ranked, comply)[b] == (breaks.index(True) + 1 if any(breaks) else 21)


def test_a_repeated_item_counts_once() -> None:
    hit = metrics.hits(np.array([[3, 3, 1]], np.int32), Ragged.of([[3, 1]]))
    assert hit.tolist() == [[True, False, True]]
