"""`proxy`: a stand-in for a judge that needs no language model. It measures nearness of texts, and understands nothing.

Likeness is the cosine of a sentence encoder. With u the requests' text, T_v the tags of item v (its text where it has none), x_v its
text and H the newest titles of the history:

    intent(v)  = max over t in T_v of cos(u, t)          history(v) = mean of the 3 largest cos(x_v, x_h), h in H

A list's raw value is the mean over its items. The scale is the example's own and exact, with nothing drawn: 1 is the raw value of
the worst list of that length that could be made of the items the user has not seen, 10 that of the best, linear in between.
`overall_score` = (2 intent + history) / 3, the weight that fits the four rows of the paper's Table 4 best by least squares (0.667).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bench.cards import JudgeCard, Settings
from bench.contracts import ASPECTS, NO_ITEM, Dataset, Floats, Ints, Lists, Longs, Progress, Verdict
from bench.encoding_cache import CachedEncoder
from judges.tags import tag_vectors

NEAREST = 3
INTENT_WEIGHT = 2 / 3
LOWEST, HIGHEST = 1.0, 10.0
# Why there is no score: every list that could be made is worth the same, so there is no scale.
NO_SCALE = "no_scale"
# Nearnesses to all items that are kept at a time: 15 MB for MovieLens-1M.
KEPT = 1024


class ProxySettings(Settings):
    """Settings of the proxy judge."""

    encoder: str = Field("all-minilm-l6-v2", description="sentence encoder")
    history: int = Field(20, ge=1, description="newest items of the history that count")


class Proxy:
    """Embedding similarity in a judge's seat. The order of a list changes nothing."""

    card: ClassVar[JudgeCard] = JudgeCard(
        name="proxy",
        summary="NOT a language model: nearness of the request to the items' tags, and of the list to the history, on 1 to 10.",
        is_llm=False,
        reads_refusals=False,
        settings=ProxySettings.described(),
        notes=(
            "1 is the worst and 10 the best list that could be made of the items the user has not seen, example by example, in "
            "the encoder's cosine; linear in between, exact, nothing drawn. A random list lies where the catalogue's mean "
            "lies (about 5), not at 1.",
            "Intent: mean over the list of the largest cosine between the request and one of the item's training tags. "
            "History: mean over the list of the mean cosine with the 3 nearest of the 20 newest items. Overall: 2/3 intent + 1/3 "
            "history, the weights that fit Table 4 of the paper best.",
            "History by nearest items was chosen on MovieLens-1M: for 300 users it separates their own next ten items from "
            "those of another user by 0.75 standard deviations (centroids 0.70, tags instead of texts 0.57).",
            "It favours systems that rank by the same encoder and tags (text retrieval, DPR on MiniLM), and reads no negation: "
            "runs that ask to leave something out are refused. Never compare its numbers with those of a language model.",
        ),
    )
    Settings: ClassVar[type[Settings]] = ProxySettings

    def __init__(self, settings: ProxySettings | None = None) -> None:
        self.settings = settings or ProxySettings.parse("proxy", {})
        self._tags = self._texts = np.empty((0, 0), np.float32)
        self._first: Longs = np.empty(0, np.int64)

    @cached_property
    def encoder(self) -> CachedEncoder:
        """The sentence encoder, with its vectors kept on disk."""
        return CachedEncoder(self.settings.encoder)

    def prepare(self, dataset: Dataset, progress: Progress) -> None:
        """Encode what is written about the catalogue."""
        self._tags, self._first = tag_vectors(dataset.catalogue, self.encoder, progress)
        self._texts = self.encoder.encode(list(dataset.catalogue.texts), progress)

    def judge(self, lists: Lists) -> Iterator[tuple[int, Verdict]]:
        """Verdicts in the order of the lists; scores are real numbers from 1 to 10."""
        prompts = lists.requests.prompts or ("",) * len(lists)
        distinct = list(dict.fromkeys(prompts))
        words = dict(zip(distinct, self.encoder.encode(distinct), strict=True))
        # The same histories and requests come again and again: several requests a user, several lists a request.
        intent = lru_cache(KEPT)(lambda prompt: self.intent(words[prompt]))
        history = lru_cache(KEPT)(lambda newest: self.history(np.array(newest)))
        for row, prompt in enumerate(prompts):
            items, seen = lists.items[row][lists.items[row] != NO_ITEM], lists.requests.history[row]
            newest = tuple(seen[-self.settings.history :].tolist())
            yield row, self._verdict(items, seen, history(newest), intent(prompt))

    def intent(self, words: Floats) -> Floats:
        """Nearness of a request's vector [d] to every item, float32 [V]."""
        return np.maximum.reduceat(self._tags @ words, self._first)

    def history(self, items: Ints) -> Floats:
        """Nearness of the items of a history, at least one, to every item, float32 [V]."""
        near = self._texts @ self._texts[items].T
        count = min(NEAREST, near.shape[1])
        nearest: Floats = np.partition(near, near.shape[1] - count, axis=1)[:, -count:].mean(1)
        return nearest

    def _verdict(self, items: Ints, seen: Ints, history: Floats, intent: Floats) -> Verdict:
        free = np.ones(len(self._texts), bool)
        free[seen] = False
        # What was recommended counts as free, or a list with a seen item could pass the best one.
        free[items] = True
        placed = [_placed(near, items, free) for near in (history, intent)]
        if any(place is None for place in placed):
            return Verdict(None, failure=NO_SCALE)
        (alignment, first), (fulfilment, second) = [place for place in placed if place is not None]
        overall = INTENT_WEIGHT * fulfilment + (1 - INTENT_WEIGHT) * alignment
        reasons = (first, second, "two thirds intent, one third history")
        scores = (alignment, fulfilment, overall)
        return Verdict(dict(zip(ASPECTS, scores, strict=True)), dict(zip(ASPECTS, reasons, strict=True)))


def _placed(near: Floats, items: Ints, free: npt.NDArray[np.bool_]) -> tuple[float, str] | None:
    """A list's score between the worst and the best list of its length, and the three raw values in words; None without a scale."""
    sorted_near = np.sort(near[free].astype(np.float64))
    size = len(items)
    worst, best = float(sorted_near[:size].mean()), float(sorted_near[-size:].mean())
    if best - worst < 1e-6:
        return None
    own = float(near[items].astype(np.float64).mean())
    score = LOWEST + (HIGHEST - LOWEST) * (own - worst) / (best - worst)
    # Sums in another order differ in the last bits.
    bounded = round(min(max(score, LOWEST), HIGHEST), 6)
    return bounded, f"mean cosine {own:.3f}; worst list {worst:.3f}, best {best:.3f}"
