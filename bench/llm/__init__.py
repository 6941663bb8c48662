"""One client for every call to a language model: `open_llm` opens one, `bench.llm.contracts` has the shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.llm.contracts import Answer, ChatRequest, Failure, LanguageModel, Message, Sampling, Usage

if TYPE_CHECKING:
    from bench.llm.core import Model, Plan
    from bench.llm.opening import open_llm

__all__ = [
    "Answer",
    "ChatRequest",
    "Failure",
    "LanguageModel",
    "Message",
    "Model",
    "Plan",
    "Sampling",
    "Usage",
    "open_llm",
]


def __getattr__(name: str) -> Any:
    # The client is imported when it is first used: whoever needs the shapes alone should not wait for it.
    if name in ("Model", "Plan"):
        from bench.llm import core

        return getattr(core, name)
    if name == "open_llm":
        from bench.llm.opening import open_llm

        return open_llm
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
