"""What is asked of a language model and what comes back. Everything that talks to one goes through these shapes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Message:
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn. `beams` > 1 asks for beam search (local engines only): the n best beams are the answers."""

    temperature: float = 0.0
    top_p: float | None = None
    max_tokens: int = 512
    n: int = 1
    seed: int | None = None
    stop: tuple[str, ...] = ()
    beams: int = 1


@dataclass(frozen=True)
class ChatRequest:
    """One request. `id` is the caller's own name for it (an example's number, say) and changes no answer.

    `schema` is a JSON Schema that the answer must meet; `Answer.parsed` then holds the checked value.
    """

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    schema: Mapping[str, Any] | None = None
    id: str = ""


class Failure(StrEnum):
    """Why a request has no answer. The first five cannot heal and are never tried again."""

    AUTHENTICATION = "authentication"  # 401, 403
    NOT_FOUND = "not_found"  # 404: model or route
    BAD_REQUEST = "bad_request"  # 400, 413, 422
    CONTENT_POLICY = "content_policy"
    BUDGET = "budget"  # --max-cost or --max-requests was reached; never sent
    RATE_LIMIT = "rate_limit"  # 429
    TIMEOUT = "timeout"  # 408, or no answer before the deadline
    SERVER = "server"  # 409, 5xx
    CONNECTION = "connection"  # unreachable, dropped
    MALFORMED = "malformed"  # the reply breaks the protocol
    UNPARSEABLE = "unparseable"  # text that meets no schema, after repair and one re-ask
    REFUSAL = "refusal"  # the model declined
    EMPTY = "empty"  # no text


@dataclass(frozen=True)
class Usage:
    """Tokens and price in US dollars; None is "unknown", never zero."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    price: float | None = None


@dataclass(frozen=True)
class Answer:
    """The outcome of one request: texts, or the class of the failure and a line of detail, never both empty.

    `texts` has n entries (the raw text is always kept, also beside `failure=UNPARSEABLE`); `scores` are the log-probabilities
    of beams where the engine gives them. `parsed` is the value that met the request's schema. `repaired` tells whether the
    text had to be mended, or asked for again, before it met it. `latency_s` is that of the last attempt, 0 from the cache.
    """

    texts: tuple[str, ...] = ()
    parsed: Any = None
    repaired: bool = False
    scores: tuple[float, ...] | None = None
    finish: tuple[str, ...] = ()
    usage: Usage = Usage()
    latency_s: float = 0.0
    attempts: int = 1
    cached: bool = False
    failure: Failure | None = None
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.failure is None


@dataclass(frozen=True)
class Identity:
    """Everything of the model that changes an answer. No key is ever part of it."""

    name: str  # as given to --llm
    model: str  # as the engine or provider knows it
    engine: str  # litellm, vllm, transformers, import
    api_base: str = ""  # without credentials or query
    parameters: Mapping[str, Any] = field(default_factory=dict)  # what the configuration adds to every request


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do beyond one greedy text."""

    json_schema: bool = False
    n: bool = False
    logprobs: bool = False
    seed: bool = False
    beams: bool = False


class LanguageModel(Protocol):
    """A language model behind the client: cached, limited, retried."""

    identity: Identity
    capabilities: Capabilities

    def answer(self, requests: Iterable[ChatRequest]) -> Iterator[tuple[int, Answer]]:
        """Answers as they finish, each with the position of its request; requests are drawn from the iterable as needed.

        No exception for what a provider does: a failed request is an Answer with its `failure`. An answer is in the cache
        on disk before it is yielded.
        """

    def report(self) -> dict[str, Any]:
        """Requests, cached, failures by class, tokens, price, latency percentiles so far; plain values for a result's `cost`."""

    def close(self) -> None:
        """Release connections and engines."""
