"""SASRec as a contestant: training on the train slice, early stopping on validation NDCG@10, ranking by h_u . E."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from baselines.scorer import CatalogueScorer
from bench.cards import ModelCard, Settings
from bench.contracts import Dataset, FitContext, Floats, Ragged, Requests

if TYPE_CHECKING:
    from baselines.backbones.base import Backbone


class SASRecSettings(Settings):
    """Shape and training of SASRec; the defaults are those of the README's figures."""

    dim: int = Field(64, ge=2, description="width d of the hidden states and the item table")
    layers: int = Field(2, ge=1, description="attention blocks")
    heads: int = Field(2, ge=1, description="attention heads")
    length: int = Field(200, ge=2, description="newest events of a history that are read")
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout after embedding, attention and inner layer")
    epochs: int = Field(40, ge=1, description="most epochs; the learning rate falls to zero over them")
    batch: int = Field(40, ge=1, description="full-length histories in a step (shorter ones come in larger batches)")
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate of AdamW")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    patience: int = Field(10, ge=1, description="epochs without a better validation NDCG@10 before training stops")


class SASRec(CatalogueScorer):
    """Self-attentive sequential recommendation (Kang and McAuley 2018) with full-softmax cross-entropy (Eq. 1)."""

    card = ModelCard(
        name="sasrec",
        version=2,
        summary="SASRec: causal self-attention over the history, full softmax over the catalogue.",
        information="none",
        settings={name: field.description or "" for name, field in SASRecSettings.model_fields.items()},
        citation="Kang and McAuley 2018, Self-Attentive Sequential Recommendation, ICDM",
    )
    Settings: ClassVar[type[Settings]] = SASRecSettings
    quick_settings: ClassVar[dict[str, Any]] = {"epochs": 2, "length": 50}
    settings: SASRecSettings
    net: Backbone

    def build(self, n_items: int) -> Backbone:
        """The untrained encoder."""
        from baselines.backbones.sasrec import SASRecNet

        s = self.settings
        return SASRecNet(n_items, s.dim, s.layers, s.heads, s.length, s.dropout).to(self.device)

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """Train from scratch on the train slice; keep the epoch that ranks the first validation event best."""
        from baselines.backbones.next_item import fit_next_item

        self.device = context.device
        self.net = fit_next_item(self.card.name, self.build, dataset, self.settings, context)

    def encode(self, history: Ragged) -> npt.NDArray[np.float32]:
        """h_u, float32 [B, d]."""
        import torch

        self.net.eval()
        with torch.inference_mode():
            hidden: npt.NDArray[np.float32] = self.net.encode(history).cpu().numpy()
        return hidden

    def score(self, requests: Requests) -> tuple[Floats, dict[str, npt.NDArray[Any]]]:
        """h_u . e_v for every item."""
        import torch

        self.net.eval()
        with torch.inference_mode():
            return (self.net.encode(requests.history) @ self.net.table.t()).cpu().numpy(), {}

    def save(self, directory: Path) -> None:
        """Write the weights as safetensors."""
        from safetensors.torch import save_file

        save_file(
            {key: value.contiguous() for key, value in self.net.state_dict().items()}, directory / "net.safetensors"
        )

    @classmethod
    def load(cls, directory: Path, settings: Settings, device: str = "cpu") -> SASRec:
        """Read what `save` wrote."""
        from safetensors.torch import load_file

        model = cls(settings, device)
        state = load_file(directory / "net.safetensors", device=device)
        model.net = model.build(state["table"].shape[0])
        model.net.load_state_dict(state)
        return model
