"""Hard filters on top of a backbone: the paper's Filter, told the task's own label, and one that reads it from the prompt."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from baselines.genre_parser import HeedsGenres, RoutedSettings
from baselines.sequential import OverBackbone, SequentialRecommender, over
from bench.cards import ModelCard
from bench.contracts import Floats, Requests


class Filter(OverBackbone):
    """The paper's Filter: the backbone's order among the items that the task's own rule allows."""

    def score(self, requests: Requests) -> tuple[Floats, dict[str, npt.NDArray[Any]]]:
        """The backbone's scores, -inf for what the rule bars."""
        scores, extras = super().score(requests)
        if requests.intent is None:
            return scores, extras
        rule = requests.intent.rule
        allowed = requests.intent.allowed[np.maximum(rule, 0)] | (rule < 0)[:, None]
        return np.where(allowed, scores, -np.inf).astype(np.float32), extras


class ParsedFilter(HeedsGenres, OverBackbone):
    """A filter with the information of everyone else: it reads genre and polarity from the prompt."""

    serving_settings: ClassVar[frozenset[str]] = frozenset({"router", "match"})


def oracle_filter(beneath: type[SequentialRecommender], name: str) -> type[Filter]:
    """The oracle filter over a sequential recommender, as a model of that name."""

    class Made(Filter):
        stands_on = beneath
        Settings = over(beneath)
        quick_settings = beneath.quick_beneath()
        card = ModelCard(
            name=name,
            summary=f"The order of {beneath.card.name} among the items that the task's own label allows (oracle: it is told it).",
            information="oracle",
            settings=Settings.described(),
            citation="Lyu et al. 2026, Section 4.2 (Filter)",
        )

    return Made


def parsed_filter(beneath: type[SequentialRecommender], name: str) -> type[ParsedFilter]:
    """The parsed filter over a sequential recommender, as a model of that name."""

    class Made(ParsedFilter):
        stands_on = beneath
        Settings = over(beneath, RoutedSettings)
        quick_settings = beneath.quick_beneath()
        card = ModelCard(
            name=name,
            summary=f"The order of {beneath.card.name} among the items that the prompt leaves; it reads genre and polarity there.",
            information="prompt",
            settings=Settings.described(),
        )

    return Made
