"""The weights that `dpr_sas_plus` gives its experts, one set for each request, learned on the validation slice."""

from __future__ import annotations

import torch
from torch import nn

from dpr.evidence import ENCODERS, EXPERTS, PLAIN

KINDS = PLAIN + 1
MOST_NAMED = 3


class Gates(nn.Module):
    """Weights [B, experts] = a start for each kind of request + a small network of the prompt.

    Args:
        encoder_dim: length of sentence vectors.
        inner: width of the network.
        noise: deviation of the noise that training adds to sentence vectors, relative to their length.
        reads: whether the network is used; without it every request of a kind has the same weights.
    """

    def __init__(self, encoder_dim: int, inner: int = 32, noise: float = 0.5, reads: bool = True) -> None:
        super().__init__()
        self.noise, self.reads = noise, reads
        # Half of what the encoders say is DPR's, the rest is shared; without a prompt all have the same share.
        start = torch.zeros(KINDS, len(EXPERTS))
        start[:, 0], start[:, 1 : len(ENCODERS)] = 0.5, 0.5 / (len(ENCODERS) - 1)
        start[PLAIN, : len(ENCODERS)] = 1 / len(ENCODERS)
        self.start = nn.Parameter(start)
        self.read = nn.Linear(encoder_dim, inner)
        self.mix = nn.Linear(inner + MOST_NAMED + 1 + 4 + KINDS, inner)
        self.out = nn.Linear(inner, len(EXPERTS))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, vectors: torch.Tensor, named: torch.Tensor, sure: torch.Tensor, kind: torch.Tensor
    ) -> torch.Tensor:
        """Weights of every request.

        Args:
            vectors: sentence vectors of the prompts, [B, dimension]; zeros without one.
            named: labels that the prompts name, [B, L].
            sure: how sure text retrieval is, [B, 4].
            kind: kinds of requests, int64 [B].
        """
        weights = self.start[kind]
        if not self.reads:
            return weights
        width = vectors.shape[1] ** 0.5
        if self.training:
            vectors = vectors + torch.randn_like(vectors) * self.noise / width
        count = nn.functional.one_hot(named.sum(1).long().clamp(max=MOST_NAMED), MOST_NAMED + 1).float()
        kinds = nn.functional.one_hot(kind, KINDS).float()
        inner = torch.relu(self.mix(torch.cat([torch.tanh(self.read(vectors * width)), count, 3.0 * sure, kinds], 1)))
        read: torch.Tensor = weights + self.out(inner)
        return read
