"""DPR's fusion of interest and prompt: Eq. 3 to 6 of the paper."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from bench.contracts import NEGATIVE, POSITIVE


class Projector(nn.Module):
    """The MLP of Eq. 3: sentence vectors [.., encoder dimension] to c_p [.., d]. The sentence encoder itself is frozen.

    `noise` is the deviation of Gaussian noise, relative to the vector's own length, that training adds to the sentence
    vector: without it the projector learns the training prompts by heart, and reworded ones miss.
    """

    def __init__(self, encoder_dim: int, dim: int, kind: str, noise: float, dropout: float) -> None:
        super().__init__()
        self.noise = noise
        inner = 2 * dim
        layers = [nn.Linear(encoder_dim, inner), nn.GELU(), nn.Dropout(dropout), nn.Linear(inner, dim)]
        self.net = nn.Sequential(*layers) if kind == "mlp" else nn.Linear(encoder_dim, dim)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """c_p."""
        # Unit vectors have entries of about 1 / sqrt(dimension); bring them to the scale that layers expect.
        width = vectors.shape[-1] ** 0.5
        if self.training and self.noise:
            vectors = vectors + torch.randn_like(vectors) * (self.noise * vectors.norm(dim=-1, keepdim=True) / width)
        projected: torch.Tensor = self.net(vectors * width)
        return projected


class FusionBlock(nn.Module):
    """One tower: cross-attention, residual and feed-forward network (Eq. 4 to 6)."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query_norm, self.final_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, h: torch.Tensor, keys: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """h_final.

        Args:
            h: h_u, [B, d].
            keys: c_p as keys and values, [B, T, d]. With T = 1, the paper's case, attention weights are all 1 and z is a
                linear map of the prompt, whoever asks; with the prompt's tokens the user decides what is read.
            real: bool [B, T], which keys are not padding.
        """
        batch, dim = h.shape
        split = lambda x: x.view(batch, -1, self.heads, dim // self.heads).transpose(1, 2)  # noqa: E731
        q, k, v = split(self.query(self.query_norm(h))), split(self.key(keys)), split(self.value(keys))
        mask = None if real is None else real[:, None, None]
        z = self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).reshape(batch, dim))  # Eq. 4
        res = h + F.dropout(z, self.dropout, self.training)  # Eq. 5
        inner = self.down(F.gelu(self.up(res)))
        final: torch.Tensor = self.final_norm(res + F.dropout(inner, self.dropout, self.training))  # Eq. 6
        return final


class Fusion(nn.Module):
    """The towers: two, one for each polarity, or a single one that serves both (the ablation of Table 10)."""

    def __init__(self, dim: int, heads: int, dropout: float, towers: int) -> None:
        super().__init__()
        self.towers = nn.ModuleList(FusionBlock(dim, heads, dropout) for _ in range(towers))

    def tower(self, polarity: int) -> FusionBlock:
        """The tower of a polarity."""
        if polarity not in (POSITIVE, NEGATIVE):
            raise ValueError(f"polarity is {POSITIVE} or {NEGATIVE}, not {polarity}")
        block = self.towers[0 if polarity == POSITIVE else len(self.towers) - 1]
        assert isinstance(block, FusionBlock)
        return block
