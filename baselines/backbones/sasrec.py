"""SASRec (Kang and McAuley 2018): causal self-attention over the history, item table tied with the output."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from baselines.backbones.base import Backbone
from baselines.backbones.dropout import dropout


class Block(nn.Module):
    """One pre-norm transformer block: causal attention, then a two-layer ReLU network, each with dropout and a residual."""

    def __init__(self, dim: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm, self.inner_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, inner), nn.Linear(inner, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """X [B, T, d] to [B, T, d]."""
        batch, length, dim = x.shape
        q, k, v = self.qkv(self.attention_norm(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        mixed = self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        x = x + dropout(mixed, self.dropout, self.training)
        return self._feed(x)

    def at_last(self, x: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """The block's output at one position a row: x [B, T, d] and `last` int64 [B] to [B, d].

        Only keys and values are needed of the other positions, which leaves about a third of the work. `last` is the end of
        the row's history, so what lies behind it is padding and is masked.
        """
        batch, length, dim = x.shape
        normed = self.attention_norm(x)
        weight, bias = self.qkv.weight, self.qkv.bias
        row = torch.arange(batch, device=x.device)
        q = F.linear(normed[row, last], weight[:dim], bias[:dim]).view(batch, self.heads, 1, -1)
        k, v = F.linear(normed, weight[dim:], bias[dim:]).view(batch, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        real = (torch.arange(length, device=x.device) <= last[:, None])[:, None, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=real).reshape(batch, dim)
        return self._feed(x[row, last] + dropout(self.out(mixed), self.dropout, self.training))

    def _feed(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.down(F.relu(self.up(self.inner_norm(x))))
        return x + dropout(inner, self.dropout, self.training)


class SASRecNet(Backbone):
    """The encoder f_theta of Eq. 2.

    Histories are left-aligned: padding stands at the right end, where causal attention keeps it from every real position.
    """

    def __init__(
        self, n_items: int, dim: int = 64, layers: int = 2, heads: int = 2, length: int = 200, dropout: float = 0.2
    ) -> None:
        super().__init__(length)
        self.dropout = dropout
        self.table = nn.Parameter(torch.randn(n_items, dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(length, dim) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, heads, 4 * dim, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

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
        return self.norm(self.blocks[-1].at_last(x, last))

    def _embed(self, items: torch.Tensor) -> torch.Tensor:
        # Scaled up, so that who the item is outweighs where it stands and what the blocks add at the start of training.
        x = F.embedding(items, self.table) * self.table.shape[1] ** 0.5 + self.positions[: items.shape[1]]
        return dropout(x, self.dropout, self.training)
