"""What every sequential encoder offers: h at the end of a history, h at training cut points, its training objective, its items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from baselines.backbones.batches import Windows, padded
from baselines.backbones.sampled_softmax import negatives_for, sampled_cross_entropy
from baselines.backbones.softmax import catalogue_cross_entropy
from bench.contracts import Longs, Ragged
from bench.precision import Precision

# Slots (histories x longest) encoded at once: large enough for the processor, small enough to stay below 100 MB.
SLOTS = 1 << 15


@dataclass(frozen=True)
class Cuts:
    """Places in a batch of windows after which h is formed: `row` int64 [T] names the window, `last` int64 [T] the flat index
    of the last event that is seen there; the event at `last + 1` follows it. Sorted by row, then by place.
    """

    row: Longs
    last: Longs


class Backbone(nn.Module):
    """A sequential encoder f_theta (Eq. 2) with a tied item table.

    A causal encoder sets `table`, an nn.Parameter [V, d], and defines `forward`; all else follows from that. `last` may be
    overridden where the end of a history can be had for less than all of it; an encoder that is not causal overrides `cuts`,
    `interests` and `last`, and `draw` with `loss` where it is not trained on the next item.
    """

    table: nn.Parameter
    # The model's setting (`sampled_softmax.negatives_for`).
    negatives: int | None = None
    # In what the logits are multiplied out; training sets it (`bench.precision`).
    precision: Precision = "fp32"

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Interest after every event: items int64 [B, T] left-aligned, T <= length, to h float [B, T, d]."""
        raise NotImplementedError

    def last(self, items: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """H at position `last` (int64 [B]) of every row, [B, d]."""
        return self(items)[torch.arange(len(items), device=items.device), last]

    def cuts(self, windows: Windows, rng: np.random.Generator) -> Cuts:
        """Where training on sets of targets forms h in these windows: here after every event but the last, in one pass."""
        return self._everywhere(windows)

    @staticmethod
    def _everywhere(windows: Windows) -> Cuts:
        count = windows.stop - windows.start - 1
        row = np.repeat(np.arange(len(count)), count)
        return Cuts(row, np.repeat(windows.start - count.cumsum() + count, count) + np.arange(count.sum()))

    def interests(self, events: Ragged, windows: Windows, cuts: Cuts) -> torch.Tensor:
        """H at the cut points that `cuts` gave for these windows, [T, d]."""
        device = self.table.device
        items, real = padded(events.values, windows.start, windows.stop - 1)
        hidden: torch.Tensor = self(torch.from_numpy(items).to(device)).flatten(0, 1)
        if not real.all():
            hidden = hidden.index_select(0, torch.from_numpy(np.flatnonzero(real)).to(device))
        return hidden

    def draw(self, windows: Windows, rng: np.random.Generator) -> Any:
        """What one step of Stage 1 trains on, made of windows; `loss` takes it."""
        return windows

    def loss(self, events: Ragged, step: Any) -> torch.Tensor:
        """Stage 1's objective: here next-item cross-entropy after every event (Eq. 1)."""
        cuts = self._everywhere(step)
        return self.cross_entropy(self.interests(events, step, cuts), self.following(events, cuts))

    def cross_entropy(
        self,
        h: torch.Tensor,
        targets: torch.Tensor,
        owner: torch.Tensor | None = None,
        weight: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Softmax cross-entropy against the item table: over the catalogue, or over a sample of a very large one."""
        count = negatives_for(self.negatives, len(self.table))
        if count:
            return sampled_cross_entropy(h, self.table, targets, count, owner=owner, weight=weight)
        half = self.precision == "bf16"
        return catalogue_cross_entropy(h, self.table, targets, owner=owner, weight=weight, half=half)

    def part(self, step: Any, rows: Longs) -> Any:
        """The given windows of a step of Stage 1."""
        return step.take(rows)

    def rows(self, step: Any) -> int:
        """How many windows a step of Stage 1 has."""
        return len(step.start)

    def targets(self, step: Any) -> int:
        """How many targets a step of Stage 1 has in its loss."""
        return int((step.stop - step.start - 1).sum())

    def following(self, events: Ragged, cuts: Cuts) -> torch.Tensor:
        """The event after every cut point, int64 [T]."""
        return torch.from_numpy(events.values[cuts.last + 1].astype(np.int64)).to(self.table.device)

    def encode(self, history: Ragged) -> torch.Tensor:
        """h_u of every history (Eq. 2), float [B, d]; the newest `length` events count, rows are batched by length."""
        device = self.table.device
        size = np.minimum(history.lengths, self.length)
        stop = history.offsets[1:]
        out = torch.zeros(len(history), self.table.shape[1], device=device)
        order = np.argsort(size, kind="stable")
        order = order[size[order] > 0]
        at = 0
        while at < len(order):
            # Rows are sorted, so the longest of the next n rows is the n-th: take as many as the slots allow.
            fits = np.arange(1, len(order) - at + 1) * size[order[at:]] <= SLOTS
            rows = order[at : at + max(1, int(fits.sum()))]
            items, real = padded(history.values, stop[rows] - size[rows], stop[rows])
            last = torch.from_numpy(real.sum(1) - 1).to(device)
            out[torch.from_numpy(rows).to(device)] = self.last(torch.from_numpy(items).to(device), last)
            at += len(rows)
        return out
