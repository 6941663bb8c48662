"""z(base) + w z(v): both terms to mean 0 and deviation 1 over a request's unseen items, and w chosen on validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from baselines.scorer import zscore
from bench import metrics
from bench.contracts import Bools, Floats, Intent, Ragged
from bench.ranking import seen_mask, top_k

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def unseen_zscore(scores: Floats, seen: Bools) -> Floats:
    """Each row to mean 0 and deviation 1 over its unseen items; seen ones are 0, float32 [B, V]."""
    return np.where(seen, 0.0, zscore(np.where(seen, -np.inf, scores))).astype(np.float32)


def combine(base: Floats, approval: Floats, history: Ragged, weight: npt.ArrayLike) -> Floats:
    """z(base) + weight * z(approval), float32 [B, V]; `weight` is a number, or one for each request, [B]."""
    seen = seen_mask(history, base.shape[1])
    factor = np.broadcast_to(np.asarray(weight, np.float32), len(base))[:, None]
    return (unseen_zscore(base, seen) + factor * unseen_zscore(approval, seen)).astype(np.float32)


@dataclass(frozen=True)
class Point:
    """What a weight gives on requests of one kind: means of NDCG@10, Recall@10, and the share of the top ten that complies."""

    weight: float
    ndcg: float
    recall: float
    compliance: float


@dataclass(frozen=True)
class Trial:
    """B validation requests of one kind: scores of base and towers, float32 [B, V], and what is right and allowed."""

    base: Floats
    approval: Floats
    history: Ragged
    targets: Ragged
    intent: Intent


def curve(trial: Trial, weights: Sequence[float] = WEIGHTS) -> list[Point]:
    """Utility and compliance at each weight."""
    points = []
    for weight in weights:
        best = top_k(combine(trial.base, trial.approval, trial.history, weight), trial.history, 10).items
        hit, n = metrics.hits(best, trial.targets), trial.targets.lengths
        columns = (
            metrics.ndcg(hit, n, 10),
            metrics.recall(hit, n, 10),
            metrics.compliance(metrics.complies(best, trial.intent), 10),
        )
        points.append(Point(weight, *(float(column.mean()) for column in columns)))
    return points


def best_weight(curves: Sequence[Sequence[Point]]) -> float:
    """The weight with the highest NDCG@10, a mean over curves that count alike; the smallest such weight where several tie."""
    if not curves:
        return 1.0
    means = np.mean([[point.ndcg for point in each] for each in curves], axis=0)
    return curves[0][int(np.argmax(means))].weight


def chosen_weights(wishes: Mapping[str, Sequence[Point]], refusals: Mapping[str, Sequence[Point]]) -> dict[str, float]:
    """The weight for wishes, the one for refusals, and the one that serves both, where each of the two counts half."""
    both = [mean_curve(list(side.values())) for side in (wishes, refusals) if side]
    return {
        "pos": best_weight(list(wishes.values())),
        "neg": best_weight(list(refusals.values())),
        "shared": best_weight(both),
    }


def mean_curve(curves: Sequence[Sequence[Point]]) -> list[Point]:
    """The mean of several curves over the same weights."""
    columns = np.mean([[[p.weight, p.ndcg, p.recall, p.compliance] for p in each] for each in curves], axis=0)
    return [Point(*map(float, row)) for row in columns]
