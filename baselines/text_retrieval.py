"""Text retrieval: the prompt against what is written about each item, alone and added to a backbone's scores."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from baselines.sasrec import SASRec
from baselines.scorer import CatalogueScorer, zscore
from baselines.sequential import OverBackbone, over
from baselines.words import ReadsWords, route_distinct
from bench.cards import ModelCard, Settings
from bench.contracts import Dataset, FitContext, Floats, Requests


class TextRetrievalSettings(Settings):
    """Settings of text retrieval."""

    encoder: str = Field("all-minilm-l6-v2", description="frozen sentence encoder")
    router: str = Field("offline", description="what decides the polarity of a prompt")
    pool: Literal["max", "mean"] = Field("max", description="how similarities with an item's several texts become one")


class TextIndex(ReadsWords):
    """Item texts as vectors: `vectors` float32 [M, d] of text m, which belongs to item `owner[m]`.

    An item is written about by its text, its labels alone (so that a wish for a genre is not drowned by the plot) and each
    of its training tags.
    """

    def __init__(self, settings: TextRetrievalSettings, arrays: dict[str, npt.NDArray[Any]]) -> None:
        self.settings, self.arrays = settings, arrays

    @classmethod
    def build(cls, settings: TextRetrievalSettings, dataset: Dataset, context: FitContext) -> TextIndex:
        """Encode the catalogue."""
        catalogue, index = dataset.catalogue, cls(settings, {})
        tags = catalogue.train_tags or ((),) * len(catalogue)
        labels = [
            ", ".join(catalogue.label_names[label] for label in catalogue.labels[v]) for v in range(len(catalogue))
        ]
        texts = [text for v, whole in enumerate(catalogue.texts) for text in (whole, labels[v], *tags[v])]
        counts = np.array([2 + len(mine) for mine in tags], np.int64)
        start = (counts.cumsum() - counts).astype(np.int64)
        index.arrays = {"text_vectors": index.encoder.encode(texts, context.progress), "text_start": start}
        return index

    def similarity(self, requests: Requests) -> tuple[Floats, dict[str, npt.NDArray[Any]]]:
        """Cosine of each request with each item, sign turned for refusals, float32 [B, V]; and the routed polarity.

        Without a prompt the query is the text of the last item.
        """
        vectors, start = self.arrays["text_vectors"], self.arrays["text_start"]
        if requests.prompts is None:
            last = requests.history.values[requests.history.offsets[1:] - 1]
            return self._pool(vectors[start[last]] @ vectors.T), {}
        routed = route_distinct(requests.prompts, self.router)
        near = self._pool(self.encoder.encode(routed.texts) @ vectors.T) * routed.polarity[:, None]
        return near[routed.index].astype(np.float32), routed.extras

    def _pool(self, cosine: Floats) -> Floats:
        start = self.arrays["text_start"]
        if self.settings.pool == "max":
            return np.maximum.reduceat(cosine, start, axis=1)
        size = np.diff(np.append(start, cosine.shape[1]))
        return np.add.reduceat(cosine, start, axis=1) / size.astype(np.float32)


class TextRetrieval(CatalogueScorer):
    """Ranks items by how near their texts are to the prompt; knows nothing of the user but what was seen."""

    card = ModelCard(
        name="text_retrieval",
        summary="Prompt against item text and training tags by cosine; no history, no training.",
        information="prompt",
        settings=TextRetrievalSettings.described(),
    )
    Settings: ClassVar[type[Settings]] = TextRetrievalSettings
    serving_settings: ClassVar[frozenset[str]] = frozenset({"router", "pool"})
    settings: TextRetrievalSettings

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """Encode the catalogue."""
        self.arrays = TextIndex.build(self.settings, dataset, context).arrays

    @cached_property
    def index(self) -> TextIndex:
        """The catalogue's vectors, ready to be asked."""
        return TextIndex(self.settings, self.arrays)

    def score(self, requests: Requests) -> tuple[Floats, dict[str, npt.NDArray[Any]]]:
        """Signed cosine."""
        return self.index.similarity(requests)


class SummedSettings(TextRetrievalSettings):
    """Settings of text retrieval over a backbone."""

    weight: float = Field(1.0, ge=0, description="weight of the text's z-score for wishes; the backbone's is 1")
    refusal_weight: float = Field(0.25, ge=0, description="the same for refusals")


TextRetrievalSASSettings = over(SASRec, SummedSettings)


class TextRetrievalSAS(OverBackbone):
    """z(backbone) + weight * z(text), each over the catalogue for each request."""

    card = ModelCard(
        name="text_retrieval_sas",
        summary="Text retrieval z-summed with SASRec: two lines of retrieval that a promptable model has to beat.",
        information="prompt",
        settings=TextRetrievalSASSettings.described(),
    )
    Settings: ClassVar[type[Settings]] = TextRetrievalSASSettings
    serving_settings: ClassVar[frozenset[str]] = frozenset({"router", "pool", "weight", "refusal_weight"})
    quick_settings: ClassVar[dict[str, Any]] = SASRec.quick_beneath()
    stands_on = SASRec

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """The backbone, and the catalogue's vectors."""
        super().fit(dataset, context)
        self.arrays = TextIndex.build(self.settings, dataset, context).arrays

    @cached_property
    def index(self) -> TextIndex:
        """The catalogue's vectors, ready to be asked."""
        return TextIndex(self.settings, self.arrays)

    def score(self, requests: Requests) -> tuple[Floats, dict[str, npt.NDArray[Any]]]:
        """The weighted sum; without a prompt the backbone alone."""
        scores, _ = self.backbone.score(requests)
        if requests.prompts is None:
            return scores, {}
        near, extras = self.index.similarity(requests)
        weight = np.where(extras["polarity"] > 0, self.settings.weight, self.settings.refusal_weight)[:, None]
        return (zscore(scores) + weight * zscore(near)).astype(np.float32), extras
