"""Training of a backbone on its own objective (Stage 1 of DPR), from scratch or further, and the validation it stops by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch

from baselines.backbones.base import Backbone
from baselines.backbones.batches import bucket, cut_windows
from baselines.training import Loop, Schedule, Steps, seeded
from bench.contracts import Dataset, FitContext, Ragged
from bench.metrics import hits, ndcg
from bench.ranking import top_k

# Users whose scores over the catalogue are held at once in validation, and the most scores (1 GiB).
ROWS, SCORES = 1024, 1 << 28


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
    net.precision = context.precision

    def batches(epoch: int, rng: np.random.Generator) -> Steps:
        windows = cut_windows(events, net.length, rng)
        rows = list(bucket(windows.stop - windows.start, settings.batch, rng))
        return Steps(len(rows), (net.draw(windows.take(row), rng) for row in rows))

    def share(step: Any, rank: int, processes: int) -> tuple[Any, float]:
        # Rows of a step are of like length, so every n-th gives all processes the same work.
        rows = np.arange(rank, net.rows(step), processes)
        if not len(rows):
            return None, 0.0
        part = net.part(step, rows)
        return part, net.targets(part) / net.targets(step)

    schedule = Schedule(
        settings.epochs, settings.learning_rate, patience=settings.patience, weight_decay=settings.weight_decay
    )
    return Loop(
        name,
        net,
        schedule=schedule,
        batches=batches,
        loss=lambda step: net.loss(events, step),
        validate=lambda: validation.ndcg(net),
        context=context,
        share=share,
    ).run()


class Validation:
    """The first validation event of every user, to be ranked after the train events."""

    def __init__(self, dataset: Dataset) -> None:
        users = np.flatnonzero((dataset.valid_end > dataset.train_end) & (dataset.train_end > 0))
        self.history = dataset.train_events().take(users)
        target = dataset.events.values[dataset.events.offsets[users] + dataset.train_end[users]]
        self.target = Ragged(np.arange(len(users) + 1, dtype=np.int64), target)

    def ndcg(self, net: Backbone) -> float:
        """Mean NDCG@10 of h_u . E."""
        return mean_ndcg(net.encode(self.history), net.table, self.history, self.target)


def mean_ndcg(vectors: torch.Tensor, table: torch.Tensor, history: Ragged, targets: Ragged) -> float:
    """Mean NDCG@10 of ranking the catalogue by vectors [B, d] . table [V, d], seen items masked; scores are held in parts."""
    values = []
    size = max(1, min(ROWS, SCORES // len(table)))
    for start in range(0, len(vectors), size):
        rows = np.arange(start, min(start + size, len(vectors)))
        scores = (vectors[start : start + size] @ table.t()).float().cpu().numpy()
        mine = targets.take(rows)
        values.append(ndcg(hits(top_k(scores, history.take(rows), 10).items, mine), mine.lengths, 10))
    return float(np.concatenate(values).mean()) if values else 0.0
