"""One client for every call to a language model: `open_llm` opens one, `bench.llm.contracts` has the shapes."""

from bench.llm.contracts import Answer, ChatRequest, Failure, LanguageModel, Message, Sampling, Usage
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
