"""Next-item training of a causal backbone (Eq. 1; Stage 1 of DPR) and the validation that every training stops by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from baselines.backbones.base import Backbone
from baselines.backbones.batches import Windows, bucket, cut_windows, padded
from baselines.backbones.softmax import catalogue_cross_entropy
from baselines.training import Loop, Schedule, seeded
from bench.contracts import Dataset, FitContext, Ints, Ragged
from bench.metrics import hits, ndcg
from bench.ranking import top_k


class NextItemSettings(Protocol):
    """What next-item training reads of a model's settings."""

    length: int
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
    events = dataset.train_events()
    validation = Validation(dataset)

    def batches(epoch: int, rng: np.random.Generator) -> list[Windows]:
        windows = cut_windows(events, settings.length, rng)
        rows = bucket(windows.stop - windows.start, settings.batch, rng)
        return [Windows(windows.user[row], windows.start[row], windows.stop[row]) for row in rows]

    def loss(batch: Windows) -> torch.Tensor:
        hidden, targets = positions(net, events, batch)
        return catalogue_cross_entropy(hidden, net.table, targets)

    Loop(
        name,
        net,
        schedule=Schedule(
            settings.epochs, settings.learning_rate, patience=settings.patience, weight_decay=settings.weight_decay
        ),
        batches=batches,
        loss=loss,
        validate=lambda: validation.ndcg(net.encode(validation.history) @ net.table.t()),
        context=context,
    ).run()
    return net


def positions(net: Backbone, events: Ragged, batch: Windows) -> tuple[torch.Tensor, torch.Tensor]:
    """H after every event of the windows but the last, [T, d], and the events that follow, int64 [T]; no padding in either."""
    device = net.table.device
    items, real = padded(events.values, batch.start, batch.stop - 1)
    following = events.values[(batch.start[:, None] + 1 + np.arange(items.shape[1]))[real]].astype(np.int64)
    hidden = net(torch.from_numpy(items).to(device)).flatten(0, 1)
    if not real.all():
        hidden = hidden.index_select(0, torch.from_numpy(np.flatnonzero(real)).to(device))
    return hidden, torch.from_numpy(following).to(device)


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
