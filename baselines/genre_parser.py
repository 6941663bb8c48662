"""Reads genres out of a prompt by name, and bars the items that do not fit: what a hard filter can do with the words alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from baselines.scorer import CatalogueScorer
from baselines.words import route_distinct
from bench import registry
from bench.cards import Settings
from bench.contracts import NEGATIVE, Bools, Dataset, FitContext, Floats, Requests, Router
from tasks.label_words import LabelWords


class RoutedSettings(Settings):
    """Settings of models that read a genre and a polarity from the prompt."""

    router: str = Field("offline", description="what decides the polarity of a prompt")
    match: Literal["all", "any", "exact"] = Field(
        "all", description="items meant by several genres: those with all, with any, or with exactly these"
    )


class GenreParser:
    """Turns prompts into sets of allowed items.

    Args:
        names: label names, L of them.
        has: membership of items in labels, bool [V, L].
        settings: how several genres are meant, and which router decides the polarity.
    """

    def __init__(self, names: Sequence[str], has: npt.NDArray[Any], settings: RoutedSettings) -> None:
        self.has, self.match = np.asarray(has, bool), settings.match
        self.words = LabelWords(names)
        self.router: Router = registry.get("routers", settings.router)()

    def labels(self, prompt: str) -> list[int]:
        """Labels that the prompt names, in label order."""
        return self.words.labels(prompt)

    def allowed(self, prompts: tuple[str, ...] | None, size: int) -> tuple[Bools, dict[str, npt.NDArray[Any]]]:
        """Items that each prompt leaves, bool [B, V]; and the routed polarity and its confidence.

        A prompt that names no known genre bars nothing.
        """
        if prompts is None:
            return np.ones((size, len(self.has)), bool), {}
        routed = route_distinct(prompts, self.router)
        rules = np.stack(
            [self._rule(text, int(side)) for text, side in zip(routed.texts, routed.polarity, strict=True)]
        )
        return rules[routed.index], routed.extras

    def _rule(self, prompt: str, polarity: int) -> Bools:
        labels = self.labels(prompt)
        if not labels:
            return np.ones(len(self.has), bool)
        named = self.has[:, labels]
        meant = named.any(1) if self.match == "any" else named.all(1)
        if self.match == "exact":
            meant &= self.has.sum(1) == len(labels)
        rule: Bools = ~meant if polarity == NEGATIVE else meant
        return rule


class HeedsGenres(CatalogueScorer):
    """Mixin that bars what a prompt rules out from the scores of the class behind it; its settings are `RoutedSettings`."""

    names: list[str]

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """Fit what scores, and keep the catalogue's labels."""
        super().fit(dataset, context)
        self.names, self.arrays["has"] = list(dataset.catalogue.label_names), dataset.catalogue.label_matrix()

    @cached_property
    def parser(self) -> GenreParser:
        """Reads the prompts."""
        assert isinstance(self.settings, RoutedSettings)
        return GenreParser(self.names, self.arrays["has"], self.settings)

    def score(self, requests: Requests) -> tuple[Floats, dict[str, npt.NDArray[Any]]]:
        """The scores, -inf for what the words bar; reports the routed polarity."""
        scores, _ = super().score(requests)
        allowed, extras = self.parser.allowed(requests.prompts, len(requests))
        return np.where(allowed, scores, -np.inf).astype(np.float32), extras

    def save(self, directory: Path) -> None:
        """Write what scores, and the labels' names."""
        super().save(directory)
        (directory / "labels.json").write_text(json.dumps({"names": self.names}), "utf-8")

    @classmethod
    def load(cls, directory: Path, settings: Settings, device: str = "cpu") -> Self:
        """Read what `save` wrote."""
        model = super().load(directory, settings, device)
        assert isinstance(model, cls)
        model.names = json.loads((directory / "labels.json").read_text("utf-8"))["names"]
        return model
