"""What every sequential recommender without words shares: fitting, h_u, ranking by h_u . E, saving; and what stands on one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field, create_model

from baselines.scorer import CatalogueScorer
from bench.cards import Settings
from bench.contracts import Dataset, FitContext, Floats, Ragged, Ranking, Requests

if TYPE_CHECKING:
    from torch import nn

    from baselines.backbones.base import Backbone
    from baselines.item_index import ItemIndex


class TrainingSettings(Settings):
    """How a backbone is trained; shapes are the subclasses'."""

    length: int = Field(200, ge=2, description="newest events of a history that are read")
    epochs: int = Field(40, ge=1, description="most epochs; the learning rate falls to zero over them")
    batch: int = Field(40, ge=1, description="full-length histories in a step (shorter ones come in larger batches)")
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate of AdamW")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    patience: int = Field(10, ge=1, description="epochs without a better validation NDCG@10 before training stops")
    # Left out of identities where it is not given, so that models trained before it was there are still found.
    negatives: int | None = Field(
        None,
        ge=0,
        exclude_if=lambda value: value is None,
        description="items drawn a step for a sampled softmax; 0: never sampled; not given: 8,192 above 200,000 items",
    )
    retrieval: Literal["exact", "flat", "ivf", "hnsw"] | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="search of the catalogue: one matrix, or FAISS; not given: flat (exact) above 200,000 items",
    )


class SequentialRecommender(CatalogueScorer):
    """A backbone as a contestant. A subclass sets `card`, `Settings` and `build`."""

    quick_settings: ClassVar[dict[str, Any]] = {"epochs": 2, "length": 50}
    serving_settings: ClassVar[frozenset[str]] = frozenset({"retrieval"})
    settings: Any
    net: Backbone
    _index: ItemIndex | None = None

    def build(self, n_items: int) -> Backbone:
        """The untrained encoder, on this model's device."""
        raise NotImplementedError

    def placed(self, net: Backbone) -> Backbone:
        """The encoder on this model's device, with the settings of its loss."""
        net.negatives = self.settings.negatives
        return net.to(self.device)

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

    def rank(self, requests: Requests, k: int) -> Ranking:
        """The k best unseen items; of a very large catalogue without scoring all of it in one matrix."""
        from baselines.item_index import ItemIndex, kind_for

        own = getattr(self.settings, "backbone", self.settings)
        kind = kind_for(own.retrieval, len(self.net.table))
        if kind == "exact":
            return super().rank(requests, k)
        if self._index is None:
            self._index = ItemIndex(self.net.table.detach().cpu().numpy(), kind)
        return self._index.rank(self.encode(requests.history), requests.history, k)

    def save(self, directory: Path) -> None:
        """Write the weights as safetensors."""
        save_net(self.net, directory)

    @classmethod
    def load(cls, directory: Path, settings: Settings, device: str = "cpu") -> Self:
        """Read what `save` wrote."""
        from safetensors.torch import load_file

        model = cls(settings, device)
        state = load_file(directory / "net.safetensors", device=device)
        model.net = model.build(state["table"].shape[0])
        model.net.load_state_dict(state)
        return model

    @classmethod
    def beneath(cls) -> dict[str, tuple[type[Settings], Any]]:
        """Settings of whatever stands on this model, as fields for `over`; `passed_down` turns them into this model's own."""
        return {"backbone": (cls.Settings, Field(cls.Settings(), description=f"settings of {cls.card.name}"))}

    @classmethod
    def passed_down(cls, settings: Any) -> dict[str, Any]:
        """This model's settings, taken out of those of a model that stands on it."""
        values: dict[str, Any] = settings.backbone.model_dump()
        return values

    @classmethod
    def quick_beneath(cls) -> dict[str, Any]:
        """Quick settings, as a model that stands on this one has them."""
        return {f"backbone.{key}": value for key, value in cls.quick_settings.items()}


def save_net(net: nn.Module, directory: Path) -> None:
    """Write a network's weights to `net.safetensors`."""
    from safetensors.torch import save_file

    save_file({key: value.contiguous() for key, value in net.state_dict().items()}, directory / "net.safetensors")


def over(beneath: type[SequentialRecommender], base: type[Settings] = Settings) -> type[Settings]:
    """Settings of a model that stands on `beneath`: those of `base`, and the ones that are passed down."""
    fields = cast(dict[str, Any], beneath.beneath())
    return create_model(f"{base.__name__}Over{beneath.__name__}", __base__=base, **fields)


class OverBackbone(CatalogueScorer):
    """Base of models that stand on a trained sequential recommender, which is shared with that recommender itself."""

    stands_on: ClassVar[type[SequentialRecommender]]
    settings: Any
    backbone: SequentialRecommender

    @classmethod
    def built_on(cls, values: dict[str, Any]) -> tuple[str, ...]:
        """Names of the models underneath; their versions are part of a run's identity."""
        return (cls.stands_on.card.name,)

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """Train the backbone, or take the one that is there."""
        model = context.fitted(self.stands_on.card.name, dataset, self.stands_on.passed_down(self.settings))
        assert isinstance(model, SequentialRecommender)
        self.backbone = model

    def score(self, requests: Requests) -> tuple[Floats, dict[str, npt.NDArray[Any]]]:
        """The backbone's scores."""
        return self.backbone.score(requests)

    def save(self, directory: Path) -> None:
        """Write arrays and backbone."""
        super().save(directory)
        (directory / "backbone").mkdir(exist_ok=True)
        self.backbone.save(directory / "backbone")

    @classmethod
    def load(cls, directory: Path, settings: Settings, device: str = "cpu") -> Self:
        """Read what `save` wrote."""
        model = super().load(directory, settings, device)
        assert isinstance(model, cls)
        own = cls.stands_on.Settings.parse(cls.stands_on.card.name, cls.stands_on.passed_down(settings))
        model.backbone = cls.stands_on.load(directory / "backbone", own, device)
        return model
