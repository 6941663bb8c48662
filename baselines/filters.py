"""Hard filters on top of a backbone: the paper's Filter, told the task's own label, and one that reads it from the prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from baselines.genre_parser import HeedsGenres, RoutedSettings
from baselines.sasrec import SASRec, SASRecSettings
from baselines.scorer import CatalogueScorer
from bench.cards import ModelCard, Settings
from bench.contracts import Dataset, FitContext, Floats, Requests


class OverSASRecSettings(Settings):
    """Settings of whatever stands on a trained SASRec."""

    backbone: SASRecSettings = Field(SASRecSettings(), description="settings of the SASRec underneath")


class OverSASRec(CatalogueScorer):
    """Base of models that stand on a trained SASRec, which is shared with `sasrec` itself."""

    Settings: ClassVar[type[Settings]] = OverSASRecSettings
    quick_settings: ClassVar[dict[str, Any]] = {"backbone.epochs": 2, "backbone.length": 50}
    settings: OverSASRecSettings
    backbone: SASRec

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """Train the backbone, or take the one that is there."""
        backbone = context.fitted("sasrec", dataset, self.settings.backbone.model_dump())
        assert isinstance(backbone, SASRec)
        self.backbone = backbone

    def score(self, requests: Requests) -> tuple[Floats, dict[str, npt.NDArray[Any]]]:
        """The backbone's scores."""
        return self.backbone.score(requests)

    def save(self, directory: Path) -> None:
        """Write arrays and backbone."""
        super().save(directory)
        (directory / "backbone").mkdir(exist_ok=True)
        self.backbone.save(directory / "backbone")

    @classmethod
    def load(cls, directory: Path, settings: Settings, device: str = "cpu") -> OverSASRec:
        """Read what `save` wrote."""
        model = super().load(directory, settings, device)
        assert isinstance(model, OverSASRec)
        model.backbone = SASRec.load(directory / "backbone", model.settings.backbone, device)
        return model


class FilterSAS(OverSASRec):
    """The paper's Filter: the backbone's order among the items that the task's own rule allows."""

    card = ModelCard(
        name="filter_sas",
        summary="SASRec's order among the items that the task's own label allows (oracle: it is told that label).",
        information="oracle",
        settings={"backbone": "settings of the SASRec underneath"},
        citation="Lyu et al. 2026, Section 4.2 (Filter)",
    )

    def score(self, requests: Requests) -> tuple[Floats, dict[str, npt.NDArray[Any]]]:
        """The backbone's scores, -inf for what the rule bars."""
        scores, extras = super().score(requests)
        if requests.intent is None:
            return scores, extras
        rule = requests.intent.rule
        allowed = requests.intent.allowed[np.maximum(rule, 0)] | (rule < 0)[:, None]
        return np.where(allowed, scores, -np.inf).astype(np.float32), extras


class ParsedFilterSettings(OverSASRecSettings, RoutedSettings):
    """Settings of the parsed filter."""


class FilterSASParsed(HeedsGenres, OverSASRec):
    """A filter with the information of everyone else: it reads genre and polarity from the prompt."""

    card = ModelCard(
        name="filter_sas_parsed",
        summary="SASRec's order among the items that the prompt leaves; genre and polarity are read from the prompt.",
        information="prompt",
        settings={name: field.description or "" for name, field in ParsedFilterSettings.model_fields.items()},
    )
    Settings: ClassVar[type[Settings]] = ParsedFilterSettings
    serving_settings: ClassVar[frozenset[str]] = frozenset({"router", "match"})
    settings: ParsedFilterSettings  # type: ignore[assignment]
