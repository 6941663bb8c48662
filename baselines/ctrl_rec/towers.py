"""The two towers: v(request, item), what a judge would say of the item under the request, from frozen sentence vectors."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

# Approval from which an item counts as what a request is after, in the contrastive loss.
APPROVED = 0.5


class Head(nn.Module):
    """Sentence vectors [N, d] to unit vectors [N, width] through one hidden layer."""

    def __init__(self, dim: int, hidden: int, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Unit vectors."""
        return functional.normalize(self.net(vectors), dim=-1)


class Towers(nn.Module):
    """v = sigmoid(a cos(request, item) + b), a head a tower."""

    def __init__(self, request_dim: int, item_dim: int, hidden: int = 256, width: int = 128) -> None:
        super().__init__()
        self.request, self.item = Head(request_dim, hidden, width), Head(item_dim, hidden, width)
        self.scale, self.bias = nn.Parameter(torch.tensor(5.0)), nn.Parameter(torch.tensor(0.0))

    def approval(self, cosine: torch.Tensor) -> torch.Tensor:
        """V of cosines, in 0 to 1."""
        return torch.sigmoid(self.scale * cosine + self.bias)


class Distillation(nn.Module):
    """The loss of a batch of judged pairs, given by their rows in two frozen tables of what the towers read.

    BCE(v, approval) + weight * InfoNCE: each approved pair against the batch's items (the cosine over `temperature`), weighted by
    its approval. Items of the same request, and the same item under another one, are no negatives: nobody said that they are wrong.
    """

    def __init__(
        self, towers: Towers, requests: torch.Tensor, items: torch.Tensor, weight: float, temperature: float
    ) -> None:
        super().__init__()
        self.towers, self.weight, self.temperature = towers, weight, temperature
        self.requests: torch.Tensor
        self.items: torch.Tensor
        self.register_buffer("requests", requests, persistent=False)
        self.register_buffer("items", items, persistent=False)

    def forward(self, request: torch.Tensor, item: torch.Tensor, approval: torch.Tensor) -> torch.Tensor:
        """The loss; `request` and `item` int64 [B], `approval` float32 [B] in 0 to 1."""
        towers = self.towers
        asked, offered = towers.request(self.requests[request]), towers.item(self.items[item])
        logits = towers.scale * (asked * offered).sum(1) + towers.bias
        loss = functional.binary_cross_entropy_with_logits(logits, approval)
        rows = torch.nonzero(approval >= APPROVED).squeeze(1)
        if not self.weight or not len(rows):
            return loss
        near = asked[rows] @ offered.t() / self.temperature
        alike = (request[rows][:, None] == request[None]) | (item[rows][:, None] == item[None])
        alike[torch.arange(len(rows), device=rows.device), rows] = False
        own = near.gather(1, rows[:, None]).squeeze(1)
        contrast = near.masked_fill(alike, -torch.inf).logsumexp(1) - own
        return loss + self.weight * (contrast * approval[rows]).sum() / approval[rows].sum()
