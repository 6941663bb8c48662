"""Matrix factorisation of implicit feedback by alternating least squares, through `implicit`; histories are folded in."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from baselines.scorer import CatalogueScorer
from bench import cards
from bench.cards import ModelCard, Settings
from bench.contracts import Dataset, FitContext, Floats, Ragged, Requests
from bench.errors import InputError


class MFSettings(Settings):
    """Shape and training of the factors."""

    factors: int = Field(64, ge=1, description="width of the user and item vectors")
    regularization: float = Field(1.0, ge=0, description="weight of the squared norms")
    alpha: float = Field(1.0, gt=0, description="confidence in an event, where that in its absence is 1")
    iterations: int = Field(15, ge=1, description="rounds of alternating least squares")


class MatrixFactorization(CatalogueScorer):
    """ALS on the events of the train slice (Hu, Koren and Volinsky 2008).

    A user's vector is the least-squares solution for the history of the request, so a longer history needs no training.
    """

    card = ModelCard(
        name="mf",
        summary="Matrix factorisation of implicit feedback by alternating least squares; the order of events is not read.",
        information="none",
        citation="Hu, Koren and Volinsky 2008, Collaborative Filtering for Implicit Feedback Datasets, ICDM",
        settings=MFSettings.described(),
        notes=("Needs the package implicit (extra `train`).",),
    )
    Settings: ClassVar[type[cards.Settings]] = MFSettings
    quick_settings: ClassVar[dict[str, Any]] = {"factors": 16, "iterations": 5}
    settings: MFSettings

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """Factorise; keeps the item vectors, float32 [V, factors].

        Raises:
            InputError: the package implicit is missing.
        """
        events = dataset.train_events()
        als, advance = self._als(seed=context.seed), context.progress.track("fitting mf", self.settings.iterations)
        with _one_blas_thread():
            als.fit(_matrix(events, len(dataset.catalogue)), show_progress=False, callback=lambda *_: advance(1))
        self.arrays = {"items": als.item_factors}

    def score(self, requests: Requests) -> tuple[Floats, dict[str, npt.NDArray[Any]]]:
        """Inner products of the folded-in user vectors with the item vectors."""
        table = self.arrays["items"]
        with _one_blas_thread():
            users = self._fitted.recalculate_user(np.arange(len(requests)), _matrix(requests.history, len(table)))
        return (users @ table.T).astype(np.float32), {}

    @cached_property
    def _fitted(self) -> Any:
        als = self._als(seed=0)
        als.item_factors = self.arrays["items"]
        return als

    def _als(self, seed: int) -> Any:
        try:
            from implicit.cpu.als import AlternatingLeastSquares
        except ImportError:
            raise InputError(
                "model 'mf' needs the package implicit: pip install 'promptrec-bench[train]', or pip install implicit."
            ) from None
        s = self.settings
        with _one_blas_thread():
            return AlternatingLeastSquares(
                s.factors, s.regularization, s.alpha, iterations=s.iterations, random_state=seed
            )


def _matrix(rows: Ragged, n_items: int) -> Any:
    from scipy.sparse import csr_matrix

    ones = np.ones(len(rows.values), np.float32)
    return csr_matrix((ones, rows.values, rows.offsets.astype(np.int32)), shape=(len(rows), n_items))


def _one_blas_thread() -> Any:
    # implicit has threads of its own over users; BLAS threads below them wait for each other.
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, "blas")
