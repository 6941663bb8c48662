"""Controls without learning: random order, popularity, and popularity within the genre that a prompt names."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from baselines.genre_parser import HeedsGenres, RoutedSettings
from baselines.scorer import CatalogueScorer
from bench.cards import ModelCard, Settings
from bench.contracts import Dataset, FitContext, Floats, Requests
from bench.rng import uniform_draws


class Random(CatalogueScorer):
    """Scores drawn from the seed and the user: the floor of every table."""

    card = ModelCard(name="random", summary="Random order, the same for a user and seed.", information="none")

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """Keep the seed and the size of the catalogue."""
        self.arrays = {"seed": np.array([context.seed]), "items": np.array([len(dataset.catalogue)])}

    def score(self, requests: Requests) -> tuple[Floats, dict[str, npt.NDArray[Any]]]:
        """Uniform scores."""
        seed, n_items = int(self.arrays["seed"][0]), int(self.arrays["items"][0])
        rows = [uniform_draws(seed, f"random/{user}", n_items) for user in requests.users]
        return np.asarray(rows, np.float32).reshape(len(requests), n_items), {}


class Popularity(CatalogueScorer):
    """Scores an item by how many train and validation events it has."""

    card = ModelCard(name="popularity", summary="Most popular items first.", information="none")

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """Count events."""
        counts = np.bincount(dataset.events.values, minlength=len(dataset.catalogue))
        self.arrays = {"popularity": counts.astype(np.float32)}

    def score(self, requests: Requests) -> tuple[Floats, dict[str, npt.NDArray[Any]]]:
        """The same counts for everyone."""
        return np.repeat(self.arrays["popularity"][None], len(requests), axis=0), {}


class PopularityInGenre(HeedsGenres, Popularity):
    """Popularity among the items that the prompt's genre leaves; without a genre in the prompt, plain popularity."""

    card = ModelCard(
        name="popularity_in_genre",
        summary="Most popular items of the genre that the prompt names (or outside of it, when it refuses).",
        information="prompt",
        settings=RoutedSettings.described(),
    )
    Settings: ClassVar[type[Settings]] = RoutedSettings
    serving_settings: ClassVar[frozenset[str]] = frozenset({"router", "match"})
    settings: RoutedSettings
