"""The weights that `dpr_sas_plus` gives its experts, one set for each request, learned on the validation slice."""

from __future__ import annotations

import torch
from torch import nn

from dpr.evidence import ENCODERS, EXPERTS, PLAIN

KINDS = PLAIN + 1
MOST_NAMED = 3


class Gates(nn.Module):
    """Weights [B, experts] = a start for each kind of request + a small network of what the experts found in its words.

    It reads how many labels are named and how sure retrieval is, not the words themselves: given their sentence vector it learns
    the training templates, and a refusal in other words weighs less.

    Args:
        inner: width of the network.
        reads: whether the network is used; without it every request of a kind has the same weights.
    """

    def __init__(self, inner: int = 32, reads: bool = True) -> None:
        super().__init__()
        self.reads = reads
        # Half of what the encoders say is DPR's, the rest is shared; without a prompt all have the same share.
        start = torch.zeros(KINDS, len(EXPERTS))
        start[:, 0], start[:, 1 : len(ENCODERS)] = 0.5, 0.5 / (len(ENCODERS) - 1)
        start[PLAIN, : len(ENCODERS)] = 1 / len(ENCODERS)
        self.start = nn.Parameter(start)
        self.mix = nn.Linear(MOST_NAMED + 1 + 4 + KINDS, inner)
        self.out = nn.Linear(inner, len(EXPERTS))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, named: torch.Tensor, sure: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        """Weights of every request.

        Args:
            named: labels that the prompts name, [B, L]; zeros without one.
            sure: how sure text retrieval is, [B, 4].
            kind: kinds of requests, int64 [B].
        """
        weights = self.start[kind]
        if not self.reads:
            return weights
        count = nn.functional.one_hot(named.sum(1).long().clamp(max=MOST_NAMED), MOST_NAMED + 1).float()
        kinds = nn.functional.one_hot(kind, KINDS).float()
        found: torch.Tensor = weights + self.out(torch.relu(self.mix(torch.cat([count, 3.0 * sure, kinds], 1))))
        return found
