"""The weights that `dpr_sas_plus` gives its experts, one set for each prompt, learned on the validation slice."""

from __future__ import annotations

import torch
from torch import nn

from bench.contracts import NEGATIVE, POSITIVE
from dpr.evidence import EXPERTS

SIDES = (POSITIVE, NEGATIVE, 0)


class Gates(nn.Module):
    """Weights [B, experts] = a start for each polarity + a small network of the prompt.

    A wish starts as DPR alone; the network may turn to labels or texts as the words suggest.
    """

    def __init__(self, encoder_dim: int, labels: int, inner: int = 32, noise: float = 0.5) -> None:
        super().__init__()
        self.noise, self.labels = noise, labels
        self.start = nn.Parameter(torch.zeros(len(SIDES), len(EXPERTS)))
        with torch.no_grad():
            self.start[:, 0] = 1.0
        self.read = nn.Linear(encoder_dim, inner)
        self.mix = nn.Linear(inner + 4 + len(SIDES), inner)
        self.out = nn.Linear(inner, len(EXPERTS))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, vectors: torch.Tensor, named: torch.Tensor, polarity: torch.Tensor) -> torch.Tensor:
        """Weights of every request.

        Args:
            vectors: sentence vectors of the prompts, [B, dimension]; zeros without one.
            named: labels that the prompts name, [B, L].
            polarity: int64 [B] of 1, -1 and 0.
        """
        width = vectors.shape[1] ** 0.5
        if self.training:
            vectors = vectors + torch.randn_like(vectors) * self.noise / width
        side = torch.where(polarity == POSITIVE, 0, torch.where(polarity == NEGATIVE, 1, 2))
        count = nn.functional.one_hot(named.sum(1).long().clamp(max=3), 4).float()
        read = torch.tanh(self.read(vectors * width))
        inner = torch.relu(self.mix(torch.cat([read, count, nn.functional.one_hot(side, len(SIDES)).float()], 1)))
        weights: torch.Tensor = self.start[side] + self.out(inner)
        return weights
