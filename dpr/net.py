"""The network of DPR: a backbone, a projector on top of a frozen sentence encoder, and the fusion towers."""

from __future__ import annotations

import torch
from torch import nn

from baselines.backbones.base import Backbone
from dpr.fusion import Fusion, Projector


class DPRNet(nn.Module):
    """f_theta, the MLP of g_theta, and the towers (Fig. 2)."""

    def __init__(self, backbone: Backbone, projector: Projector, fusion: Fusion, temperature: float) -> None:
        super().__init__()
        self.backbone, self.projector, self.fusion, self.temperature = backbone, projector, fusion, temperature

    @property
    def table(self) -> torch.Tensor:
        """The item table E, [V, d]."""
        return self.backbone.table

    def steer(
        self, h: torch.Tensor, vectors: torch.Tensor, polarity: int, real: torch.Tensor | None = None
    ) -> torch.Tensor:
        """h_final / tau of Eq. 8, [B, d], for requests of one polarity.

        Args:
            h: h_u, [B, d].
            vectors: sentence vectors [B, 1, encoder dimension], or token states [B, T, encoder dimension].
            polarity: which tower.
            real: bool [B, T], which tokens are not padding; None for sentence vectors.
        """
        final: torch.Tensor = self.fusion.tower(polarity)(h, self.projector(vectors), real)
        return final / self.temperature
