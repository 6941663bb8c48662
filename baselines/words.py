"""What every model that reads prompts shares: its sentence encoder and its router, loaded when they are first needed."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from bench import registry
from bench.contracts import Encoder, Router


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
