"""The fine-tuned controls of Table 1: +f trains a backbone on, as long as DPR is; +f+a then trains it on DPR's target sets.

The table only says "+f: fine-tuning on next-item prediction (low rate)" and "+f+a: implicit fine-tuning". Here +f continues the
backbone's own objective at a tenth of its rate for as many updates as DPR's Stages 2 and 3, so that DPR's lead cannot be one of
training time; +f+a meets the instances that DPR learns from with the prompt removed, so that it cannot be one of targets either.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from baselines.sequential import SequentialRecommender, over
from bench.cards import ModelCard, Settings
from bench.contracts import Dataset, FitContext

if TYPE_CHECKING:
    from baselines.backbones.base import Backbone


class FineSettings(Settings):
    """How +f trains; an epoch has as many updates as one of DPR's stages."""

    epochs: int = Field(28, ge=1, description="epochs; those of DPR's Stages 2 and 3 together")
    rate: float = Field(0.1, gt=0, description="learning rate relative to the backbone's own")
    patience: int = Field(28, ge=1, description="epochs without a better validation value before training stops")


class TargetSettings(Settings):
    """How +f+a trains on."""

    epochs: int = Field(12, ge=1, description="most epochs")
    rate: float = Field(0.1, gt=0, description="learning rate relative to the backbone's own")
    patience: int = Field(4, ge=1, description="epochs without a better validation value before training stops")
    loss: Literal["full", "pos", "neg"] = Field("full", description="which target sets are trained on")
    share: float = Field(0.5, gt=0, le=1, description="share of positions that become an instance of each polarity")
    next_item: bool = Field(False, description="keep the next-item loss beside them")


class Tuned(SequentialRecommender):
    """Base of both: settings of the stages behind it, each a nested group, are passed down as they are."""

    first: ClassVar[type[SequentialRecommender]]
    before: ClassVar[type[SequentialRecommender]]
    groups: ClassVar[tuple[str, ...]]

    @classmethod
    def built_on(cls, values: dict[str, Any]) -> tuple[str, ...]:
        """The model that this one trains on; its version is part of a run's identity."""
        return (cls.before.card.name,)

    def build(self, n_items: int) -> Backbone:
        """The encoder of Stage 1."""
        return self.first(self.settings.backbone, self.device).build(n_items)

    @classmethod
    def beneath(cls) -> dict[str, tuple[type[Settings], Any]]:
        """All nested groups."""
        fields = cls.Settings.model_fields
        return {
            name: (
                _settings_class(fields[name].annotation),
                Field(fields[name].default, description=fields[name].description),
            )
            for name in cls.groups
        }

    @classmethod
    def passed_down(cls, settings: Any) -> dict[str, Any]:
        """The nested groups of a model that stands on this one."""
        return {name: getattr(settings, name).model_dump() for name in cls.groups}

    @classmethod
    def quick_beneath(cls) -> dict[str, Any]:
        """The groups have the same names there."""
        return dict(cls.quick_settings)


class _Rated:
    """A stage's settings as training reads them: the backbone's, but for what the stage says itself."""

    def __init__(self, stage: Any, backbone: Any) -> None:
        self.epochs, self.patience, self.batch = stage.epochs, stage.patience, backbone.batch
        self.learning_rate, self.weight_decay = stage.rate * backbone.learning_rate, backbone.weight_decay
        if isinstance(stage, TargetSettings):
            self.loss, self.share = stage.loss, stage.share


def fine_tuned(stage1: type[SequentialRecommender], name: str) -> type[Tuned]:
    """+f of a backbone, as a model of that name."""

    class FineTuned(Tuned):
        first = before = stage1
        groups = ("backbone", "fine")
        Settings = over(stage1, _with("fine", FineSettings, f"how {name} trains on"))
        quick_settings = stage1.quick_beneath() | {"fine.epochs": 1}
        card = ModelCard(
            name=name,
            summary=f"{stage1.card.name} trained on with its own objective at a tenth of the rate (+f of Table 1).",
            information="none",
            settings=Settings.described(),
            citation=stage1.card.citation,
        )

        def fit(self, dataset: Dataset, context: FitContext) -> None:
            """Take Stage 1 and go on with its objective."""
            from baselines.backbones.next_item import train_further

            self.device = context.device
            before = context.fitted(stage1.card.name, dataset, self.settings.backbone.model_dump())
            assert isinstance(before, SequentialRecommender)
            self.net = copy.deepcopy(before.net)
            train_further(name, self.net, dataset, _Rated(self.settings.fine, self.settings.backbone), context)

    return FineTuned


def target_tuned(fine: type[Tuned], name: str) -> type[Tuned]:
    """+f+a of a backbone, on top of its +f, as a model of that name."""

    class TargetTuned(Tuned):
        first, before = fine.first, fine
        groups = ("backbone", "fine", "targets")
        Settings = over(fine, _with("targets", TargetSettings, f"how {name} trains on the target sets"))
        quick_settings = fine.quick_settings | {"targets.epochs": 1}
        card = ModelCard(
            name=name,
            summary=f"{fine.card.name} trained on the target sets of DPR with the prompt removed (+f+a of Table 1).",
            information="none",
            settings=Settings.described(),
            citation=fine.card.citation,
        )

        def fit(self, dataset: Dataset, context: FitContext) -> None:
            """Take +f and go on with the target sets."""
            from baselines.target_training import BareNet, TargetStage

            self.device = context.device
            before = context.fitted(fine.card.name, dataset, fine.passed_down(self.settings))
            assert isinstance(before, SequentialRecommender)
            bare, own = BareNet(copy.deepcopy(before.net)), self.settings.targets
            stage = TargetStage(name, bare, dataset, _Rated(own, self.settings.backbone), next_item=own.next_item)
            stage.run(own.epochs, context)
            self.net = bare.backbone

    return TargetTuned


def _with(group: str, kind: type[Settings], description: str) -> type[Settings]:
    from pydantic import create_model

    fields: dict[str, Any] = {group: (kind, Field(kind(), description=description))}
    return create_model(f"With{kind.__name__}", __base__=Settings, **fields)


def _settings_class(annotation: Any) -> type[Settings]:
    assert isinstance(annotation, type) and issubclass(annotation, Settings)
    return annotation
