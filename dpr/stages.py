"""Stages 2 and 3 of DPR's training (Algorithm 1): training on target sets with a prompt that moves h_u first (Eq. 8 to 10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from baselines.target_sets import Instances
from baselines.target_training import Asked, TargetStage
from bench.contracts import Bools, Dataset, Longs
from dpr.net import DPRNet
from dpr.prompt_bank import Mix, PromptBank

if TYPE_CHECKING:
    from dpr.adapter import DPRSettings


@dataclass(frozen=True)
class PromptVectors:
    """What the network reads of every prompt in the bank: [prompts, T, encoder dimension], and for tokens which are real."""

    vectors: torch.Tensor
    real: torch.Tensor | None = None

    def take(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Vectors [B, T, dimension] in float32 and mask [B, T] of the given prompts."""
        return self.vectors[index].float(), None if self.real is None else self.real[index]


class Stage(TargetStage):
    """One stage: the same data, objective and backbone as the other; only the mix of prompts differs."""

    net: DPRNet
    settings: DPRSettings

    def __init__(
        self,
        name: str,
        net: DPRNet,
        dataset: Dataset,
        bank: PromptBank,
        prompts: PromptVectors,
        settings: DPRSettings,
        mix: Mix,
    ) -> None:
        super().__init__(name, net, dataset, settings)
        self.bank, self.prompts, self.mix = bank, prompts, mix

    def groups(self) -> list[dict[str, Any]]:
        """The backbone goes slower than what is new."""
        new = [*self.net.projector.parameters(), *self.net.fusion.parameters()]
        backbone = list(self.net.backbone.parameters())
        return [{"params": backbone, "lr": self.settings.backbone_rate}, {"params": new, "lr": 1.0}]

    def whole(self, size: int, rng: np.random.Generator) -> tuple[Bools, Bools]:
        """Which instances are put as a tag, and which name, or refuse, all labels of the item."""
        return self.bank.kinds(size, self.mix, rng)

    def tell(self, made: Instances, kind: Bools | None, whole: Bools, rng: np.random.Generator) -> Longs:
        """A training prompt for every instance."""
        assert kind is not None
        return self.bank.choose(made, kind, whole, rng)

    def steer(self, hidden: torch.Tensor, asked: Asked) -> torch.Tensor:
        """h_final / tau of every instance."""
        assert asked.prompt is not None
        vectors, real = self.prompts.take(torch.from_numpy(asked.prompt).to(hidden.device))
        return self.net.steer(super().steer(hidden, asked), vectors, asked.made.polarity, real)
