"""GRU4Rec (Hidasi et al. 2016) with full-softmax training: a GRU over the history, projected to the tied item table."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from baselines.backbones.base import Backbone
from baselines.backbones.dropout import dropout


class GRU4RecNet(Backbone):
    """A GRU is causal, so padding at the right end reaches no real position."""

    def __init__(
        self, n_items: int, dim: int = 64, hidden: int = 128, layers: int = 1, length: int = 200, dropout: float = 0.3
    ) -> None:
        super().__init__(length)
        self.rate = dropout
        self.table = nn.Parameter(torch.randn(n_items, dim) * 0.02)
        self.gru = nn.GRU(dim, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.project = nn.Linear(hidden, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Interest after every event: items int64 [B, T] to h float [B, T, d]."""
        x = F.embedding(items, self.table) * self.table.shape[1] ** 0.5
        states, _ = self.gru(dropout(x, self.rate, self.training))
        return self.norm(self.project(dropout(states, self.rate, self.training)))
