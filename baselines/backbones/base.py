"""What every sequential encoder offers: h after each event, h at the end of a history, and the item table."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from baselines.backbones.batches import padded
from bench.contracts import Ragged

# Slots (histories x longest) encoded at once: large enough for the processor, small enough to stay below 100 MB.
SLOTS = 1 << 15


class Backbone(nn.Module):
    """A causal sequential encoder f_theta (Eq. 2) with a tied item table.

    A subclass sets `table`, an nn.Parameter [V, d], and defines `forward`; `last` may be overridden where the end of a
    history can be had for less than all of it.
    """

    table: nn.Parameter

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Interest after every event: items int64 [B, T] left-aligned, T <= length, to h float [B, T, d]."""
        raise NotImplementedError

    def last(self, items: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """H at position `last` (int64 [B]) of every row, [B, d]."""
        return self(items)[torch.arange(len(items), device=items.device), last]

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
