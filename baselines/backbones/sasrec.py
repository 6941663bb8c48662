"""SASRec (Kang and McAuley 2018): causal self-attention over the history, item table tied with the output."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from baselines.backbones.base import Backbone
from baselines.backbones.dropout import dropout
from baselines.backbones.transformer import Block, initialise


class SASRecNet(Backbone):
    """The encoder f_theta of Eq. 2.

    Histories are left-aligned: padding stands at the right end, where causal attention keeps it from every real position.
    """

    def __init__(
        self, n_items: int, dim: int = 64, layers: int = 2, heads: int = 2, length: int = 200, dropout: float = 0.2
    ) -> None:
        super().__init__(length)
        self.rate = dropout
        self.table = nn.Parameter(torch.randn(n_items, dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(length, dim) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, heads, 4 * dim, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        initialise(self)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Interest after every event: items int64 [B, T] with T <= length, to h float [B, T, d]."""
        x = self._embed(items)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def last(self, items: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """Interest at the end of every history, [B, d]; the last block is worked out there alone."""
        x = self._embed(items)
        for block in self.blocks[:-1]:
            x = block(x)
        seen = torch.arange(items.shape[1], device=items.device) <= last[:, None]
        return self.norm(self.blocks[-1].at(x, last, seen))

    def _embed(self, items: torch.Tensor) -> torch.Tensor:
        # Scaled up, so that who the item is outweighs where it stands and what the blocks add at the start of training.
        x = F.embedding(items, self.table) * self.table.shape[1] ** 0.5 + self.positions[: items.shape[1]]
        return dropout(x, self.rate, self.training)
