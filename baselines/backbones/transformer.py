"""A pre-norm transformer block, causal or two-way, with the shortcut that computes one position alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from baselines.backbones.dropout import dropout


class Block(nn.Module):
    """Self-attention, then a two-layer network, each after a layer norm and with dropout and a residual."""

    def __init__(self, dim: int, heads: int, inner: int, rate: float, *, gelu: bool = False) -> None:
        super().__init__()
        self.heads, self.rate, self.activation = heads, rate, F.gelu if gelu else F.relu
        self.attention_norm, self.inner_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, inner), nn.Linear(inner, dim)

    def forward(self, x: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """X [B, T, d] to [B, T, d].

        Args:
            x: states.
            real: bool [B, T], what may be attended to; None for causal attention, which needs no mask where padding stands
                at the right end.
        """
        batch, length, dim = x.shape
        q, k, v = self.qkv(self.attention_norm(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mask = None if real is None else real[:, None, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=real is None)
        mixed = self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        return self._feed(x + dropout(mixed, self.rate, self.training))

    def at(self, x: torch.Tensor, place: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """The block's output at one position a row: x [B, T, d] and `place` int64 [B] to [B, d].

        Only keys and values are needed of the other positions, which leaves about a third of the work. `real` bool [B, T] is
        what may be attended to.
        """
        batch, length, dim = x.shape
        normed = self.attention_norm(x)
        weight, bias = self.qkv.weight, self.qkv.bias
        row = torch.arange(batch, device=x.device)
        q = F.linear(normed[row, place], weight[:dim], bias[:dim]).view(batch, self.heads, 1, -1)
        k, v = F.linear(normed, weight[dim:], bias[dim:]).view(batch, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=real[:, None, None]).reshape(batch, dim)
        return self._feed(x[row, place] + dropout(self.out(mixed), self.rate, self.training))

    def _feed(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.down(self.activation(self.up(self.inner_norm(x))))
        return x + dropout(inner, self.rate, self.training)


def initialise(module: nn.Module) -> None:
    """Small weights and zero biases for every linear map inside, as the published implementations have it."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)
