"""Base of recommenders that score the whole catalogue: they differ in `score`, and share ranking, saving and loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench.cards import ModelCard, Settings
from bench.contracts import Dataset, FitContext, Floats, Ranking, Requests
from bench.ranking import top_k


class CatalogueScorer:
    """A recommender given by `score`; `arrays` are what it keeps, saved as safetensors."""

    card: ClassVar[ModelCard]
    Settings: ClassVar[type[Settings]] = Settings

    def __init__(self, settings: Settings | None = None, device: str = "cpu") -> None:
        self.settings = settings or self.Settings()
        self.device = device
        self.arrays: dict[str, npt.NDArray[Any]] = {}

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """Learn from `dataset`, the training view."""
        raise NotImplementedError

    def score(self, requests: Requests) -> tuple[Floats, dict[str, npt.NDArray[Any]]]:
        """Scores float32 [B, V], higher is better and -inf bars an item; and what to report of each example besides."""
        raise NotImplementedError

    def rank(self, requests: Requests, k: int) -> Ranking:
        """The k best unseen items of every request."""
        scores, extras = self.score(requests)
        return top_k(scores, requests.history, k, extras)

    def save(self, directory: Path) -> None:
        """Write `arrays.safetensors`."""
        from safetensors.numpy import save_file

        save_file(
            {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}, directory / "arrays.safetensors"
        )

    @classmethod
    def load(cls, directory: Path, settings: Settings, device: str = "cpu") -> CatalogueScorer:
        """Read what `save` wrote."""
        from safetensors.numpy import load_file

        model = cls(settings, device)
        model.arrays = load_file(directory / "arrays.safetensors")
        return model


def zscore(scores: Floats) -> Floats:
    """Each row to mean 0 and deviation 1 over its finite entries, float32 [B, V]."""
    finite = np.isfinite(scores)
    count = np.maximum(finite.sum(1, keepdims=True), 1)
    mean = np.where(finite, scores, 0).sum(1, keepdims=True) / count
    spread = np.sqrt((np.where(finite, scores - mean, 0) ** 2).sum(1, keepdims=True) / count)
    return ((scores - mean) / np.maximum(spread, 1e-12)).astype(np.float32)
