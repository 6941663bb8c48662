"""BERT4Rec (Sun et al. 2019): two-way self-attention, trained to fill in masked events, asked with a mask at the end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from baselines.backbones.base import Backbone, Cuts
from baselines.backbones.batches import Windows, padded
from baselines.backbones.dropout import dropout
from baselines.backbones.transformer import Block, initialise
from bench.contracts import Bools, Longs, Ragged

# Cut points a window in training on what follows (Stages 2 and 3): each costs a pass of its own here.
CUTS = 2


@dataclass(frozen=True)
class Cloze:
    """Windows and which of their slots are masked, bool [rows, longest]."""

    windows: Windows
    masked: Bools


class BERT4RecNet(Backbone):
    """The encoder: h is the state at a mask that stands after the newest `length` - 1 events."""

    def __init__(
        self,
        n_items: int,
        dim: int = 64,
        layers: int = 2,
        heads: int = 2,
        length: int = 200,
        dropout: float = 0.2,
        mask: float = 0.2,
    ) -> None:
        super().__init__(length - 1)
        self.rate, self.mask_share = dropout, mask
        self.table = nn.Parameter(torch.randn(n_items, dim) * 0.02)
        self.mask = nn.Parameter(torch.randn(dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(length, dim) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, heads, 4 * dim, dropout, gelu=True) for _ in range(layers))
        self.norm, self.head, self.head_norm = nn.LayerNorm(dim), nn.Linear(dim, dim), nn.LayerNorm(dim)
        initialise(self)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Interest after every event, [B, T, d]: a pass for every prefix, which training never needs."""
        batch, length = items.shape
        prefixes = items.repeat_interleave(length, 0)
        ends = torch.arange(length, device=items.device).repeat(batch)
        return self.last(prefixes, ends).view(batch, length, -1)

    def last(self, items: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """The state at a mask behind position `last` (int64 [B]) of every row, [B, d]."""
        batch, place = len(items), last + 1
        slots = F.pad(items, (0, 1))
        masked = torch.zeros_like(slots, dtype=torch.bool)
        masked[torch.arange(batch, device=items.device), place] = True
        real = torch.arange(slots.shape[1], device=items.device) <= place[:, None]
        x = self._embed(slots, masked)
        for block in self.blocks[:-1]:
            x = block(x, real)
        return self._read(self.blocks[-1].at(x, place, real))

    def cuts(self, windows: Windows, rng: np.random.Generator) -> Cuts:
        """A few random places in every window: two-way attention needs a pass for each."""
        size = windows.stop - windows.start - 1
        place = np.sort((rng.random((len(size), CUTS)) * size[:, None]).astype(np.int64), 1)
        return Cuts(np.repeat(np.arange(len(size)), CUTS), (windows.start[:, None] + place).reshape(-1))

    def interests(self, events: Ragged, windows: Windows, cuts: Cuts) -> torch.Tensor:
        """H at the cut points, [T, d]."""
        device = self.table.device
        start, stop = windows.start[cuts.row], cuts.last + 1
        items, real = padded(events.values, np.maximum(start, stop - self.length), stop)
        return self.last(torch.from_numpy(items).to(device), torch.from_numpy(real.sum(1) - 1).to(device))

    def draw(self, windows: Windows, rng: np.random.Generator) -> Cloze:
        """Mask a share of the slots; of every second window the last event, as at prediction."""
        size = windows.stop - windows.start
        longest = int(size.max(initial=1))
        real = np.arange(longest) < size[:, None]
        masked = (rng.random((len(size), longest)) < self.mask_share) & real
        row = np.arange(len(size))
        masked[row, size - 1] |= (rng.random(len(size)) < 0.5) | ~masked.any(1)
        return Cloze(windows, masked)

    def loss(self, events: Ragged, step: Cloze) -> torch.Tensor:
        """Cross-entropy over the catalogue at the masked slots."""
        device = self.table.device
        items, real = padded(events.values, step.windows.start, step.windows.stop)
        hidden = torch.from_numpy(step.masked).to(device)
        slots, seen = torch.from_numpy(items).to(device), torch.from_numpy(real).to(device)
        x = self._embed(slots, hidden)
        for block in self.blocks:
            x = block(x, seen)
        return self.cross_entropy(self._read(x[hidden]), slots[hidden])

    def part(self, step: Cloze, rows: Longs) -> Cloze:
        """The given windows; the mask is as wide as the longest of them."""
        windows = step.windows.take(rows)
        return Cloze(windows, step.masked[rows, : int((windows.stop - windows.start).max(initial=0))])

    def rows(self, step: Cloze) -> int:
        """How many windows there are."""
        return len(step.masked)

    def targets(self, step: Cloze) -> int:
        """How many slots are masked."""
        return int(step.masked.sum())

    def _embed(self, items: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        scale = self.table.shape[1] ** 0.5
        x = torch.where(masked[..., None], self.mask, F.embedding(items, self.table)) * scale
        return dropout(x + self.positions[: items.shape[1]], self.rate, self.training)

    def _read(self, x: torch.Tensor) -> torch.Tensor:
        read: torch.Tensor = self.head_norm(F.gelu(self.head(self.norm(x))))
        return read
