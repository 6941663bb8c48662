"""What every model that reads prompts shares: its sentence encoder and its router, loaded when they are first needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import registry
from bench.contracts import Encoder, Floats, Longs, Router


@dataclass(frozen=True)
class Routed:
    """The distinct prompts of B requests: `texts` [P], the `index` int64 [B] of each request's own, and of every text the routed
    `polarity` int8 [P] with its `confidence` float32 [P].
    """

    texts: list[str]
    index: Longs
    polarity: npt.NDArray[np.int8]
    confidence: Floats

    @property
    def extras(self) -> dict[str, npt.NDArray[Any]]:
        """What a ranking reports of every request: polarity and confidence, [B]."""
        return {"polarity": self.polarity[self.index], "confidence": self.confidence[self.index]}


def route_distinct(prompts: tuple[str, ...], router: Router) -> Routed:
    """Route every distinct prompt once."""
    unique, index = np.unique(np.asarray(prompts, object).astype(str), return_inverse=True)
    texts = [str(text) for text in unique]
    return Routed(texts, index, *router.route(texts))


class ReadsWords:
    """Mixin for classes whose `settings` name an `encoder` and a `router`."""

    settings: Any

    @cached_property
    def encoder(self) -> Encoder:
        """The sentence encoder, with its vectors kept on disk."""
        from baselines.encoders import CachedEncoder, default_cache_directory

        return CachedEncoder(self.settings.encoder, default_cache_directory())

    @cached_property
    def router(self) -> Router:
        """What decides the polarity of a prompt."""
        router: Router = registry.get("routers", self.settings.router)()
        return router
