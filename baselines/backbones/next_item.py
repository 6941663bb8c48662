"""Training of a backbone on its own objective (Stage 1 of DPR), from scratch or further, and the validation it stops by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from baselines.backbones.base import Backbone
from baselines.backbones.batches import bucket, cut_windows
from baselines.training import Loop, Schedule, seeded
from bench.contracts import Dataset, FitContext, Ints, Ragged
from bench.metrics import hits, ndcg
from bench.ranking import top_k


class NextItemSettings(Protocol):
    """What next-item training reads of a model's settings."""

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    patience: int


def fit_next_item(
    name: str, build: Callable[[int], Backbone], dataset: Dataset, settings: NextItemSettings, context: FitContext
) -> Backbone:
    """Train a backbone from scratch on the train slice of `dataset`; returns it with its best epoch's weights."""
    with seeded(context.seed, name, "weights", device=context.device):
        net = build(len(dataset.catalogue))
    train_further(name, net, dataset, settings, context)
    return net


def train_further(
    name: str, net: Backbone, dataset: Dataset, settings: NextItemSettings, context: FitContext
) -> list[dict[str, float]]:
    """Train `net` on its own objective over the train slice; leaves its best epoch's weights in it and returns the log."""
    events = dataset.train_events()
    validation = Validation(dataset)

    def batches(epoch: int, rng: np.random.Generator) -> list[Any]:
        windows = cut_windows(events, net.length, rng)
        rows = bucket(windows.stop - windows.start, settings.batch, rng)
        return [net.draw(windows.take(row), rng) for row in rows]

    schedule = Schedule(
        settings.epochs, settings.learning_rate, patience=settings.patience, weight_decay=settings.weight_decay
    )
    return Loop(
        name,
        net,
        schedule=schedule,
        batches=batches,
        loss=lambda step: net.loss(events, step),
        validate=lambda: validation.ndcg(net.encode(validation.history) @ net.table.t()),
        context=context,
    ).run()


class Validation:
    """The first validation event of every user, to be ranked after the train events."""

    def __init__(self, dataset: Dataset) -> None:
        users = np.flatnonzero((dataset.valid_end > dataset.train_end) & (dataset.train_end > 0))
        self.history = dataset.train_events().take(users)
        self.target: Ints = dataset.events.values[dataset.events.offsets[users] + dataset.train_end[users]]

    def ndcg(self, scores: torch.Tensor | npt.NDArray[np.float32]) -> float:
        """Mean NDCG@10 of scores [users, V], seen items masked (the scores are changed in place)."""
        array = scores.float().cpu().numpy() if isinstance(scores, torch.Tensor) else scores
        size = len(self.target)
        if not size:
            return 0.0
        one = Ragged(np.arange(size + 1, dtype=np.int64), self.target)
        hit = hits(top_k(array, self.history, 10).items, one)
        return float(ndcg(hit, one.lengths, 10).mean())
