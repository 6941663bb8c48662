"""What every language model here has in common, remote or local: the cache, the reading of replies, counts and plans."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

from bench.llm import structured
from bench.llm.cache import Cache
from bench.llm.contracts import Answer, Capabilities, ChatRequest, Failure, Identity, Usage
from bench.llm.keys import Keyer
from bench.llm.stats import Tally, estimated_tokens, price
from bench.llm.wire import Reply

# What asking again would repeat. Other failures may heal and are never kept.
KEPT_FAILURES = (None, Failure.UNPARSEABLE, Failure.REFUSAL)


@dataclass(frozen=True)
class Plan:
    """What a run would ask, before the first request is sent. Tokens are estimates; the price is the most it can cost.

    `price` is None where the model's is unknown.
    """

    requests: int
    cached: int
    repeated: int
    to_send: int
    prompt_tokens: int
    completion_tokens_at_most: int
    price_at_most: float | None


class Core:
    """Cache, keys, counts and prices of one model."""

    def __init__(self, identity: Identity, cache: Cache | None, prices: tuple[float, float] | None) -> None:
        self.identity, self.cache, self.prices = identity, cache, prices
        self.keyer, self.tally = Keyer(identity), Tally()

    def lookup(self, key: str) -> Answer | None:
        """The cached answer of a key."""
        entry = None if self.cache is None else self.cache.get(key)
        return None if entry is None else decode(entry["answer"])

    def store(self, key: str, request: ChatRequest, answer: Answer, earlier: tuple[str, ...] = ()) -> None:
        """Put one answer into the cache: see `store_many`."""
        self.store_many([(key, request, answer, earlier)])

    def store_many(self, rows: Iterable[tuple[str, ChatRequest, Answer, tuple[str, ...]]]) -> None:
        """Put answers into the cache, those that are kept, in one write.

        Args:
            rows: key, what was asked, the outcome, and texts that the model gave before it was asked once more.
        """
        kept = [
            (
                key,
                self.keyer.parts_text(request),
                encode(answer) | ({"earlier_texts": list(earlier)} if earlier else {}),
            )
            for key, request, answer, earlier in rows
            if answer.failure in KEPT_FAILURES
        ]
        if self.cache is not None and kept:
            self.cache.put_many(kept)

    def usage(self, reply: Reply) -> Usage:
        """Tokens and price of a reply."""
        tokens = (reply.prompt_tokens, reply.completion_tokens)
        return Usage(*tokens, price(self.prices, *tokens))

    def most_expensive(self, request: ChatRequest) -> float | None:
        """The most a request can cost in US dollars, its prompt's tokens estimated from above."""
        sampling = request.sampling
        return price(self.prices, 2 * estimated_tokens(request), sampling.max_tokens * sampling.n)


class Model(ABC):
    """A language model as `open_llm` gives it. Use as a context manager, or close it."""

    identity: Identity
    capabilities: Capabilities

    def __init__(self, core: Core) -> None:
        self.core, self.identity = core, core.identity

    @abstractmethod
    def answer(self, requests: Iterable[ChatRequest]) -> Iterator[tuple[int, Answer]]:
        """See `bench.llm.contracts.LanguageModel`. Several calls, one after another, share cache, limits and budget.

        With n > 1 and a schema, `parsed` is a list with an entry for each text, None for one that does not meet the
        schema; the answer is UNPARSEABLE where none does, and is not asked for once more.

        Raises:
            InputError: a request's schema is no JSON Schema, or asks for what the engine cannot do.
        """

    def plan(self, requests: Iterable[ChatRequest]) -> Plan:
        """Count what `answer` would send, without sending anything."""
        seen: set[str] = set()
        total = cached = repeated = prompt = completion = 0
        for request in requests:
            total += 1
            key = self.core.keyer.key(request)
            if self.core.cache is not None and key in self.core.cache:
                cached += 1
            elif key in seen:
                repeated += 1
            else:
                seen.add(key)
                prompt += estimated_tokens(request)
                completion += request.sampling.max_tokens * request.sampling.n
        money = price(self.core.prices, prompt, completion)
        return Plan(total, cached, repeated, len(seen), prompt, completion, money)

    def report(self) -> dict[str, Any]:
        """See `bench.llm.contracts.LanguageModel`."""
        return {"llm": self.identity.name, "model": self.identity.model, **self.core.tally.report()}

    def close(self) -> None:
        """Release the cache; engines and connections too where there are any."""
        if self.core.cache is not None:
            self.core.cache.close()
            self.core.cache = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_reply(
    request: ChatRequest, reply: Reply, usage: Usage, latency_s: float, attempts: int
) -> tuple[Answer, str | None]:
    """The answer in a reply, and, where its only text does not meet the schema, what is wrong with it.

    Args:
        request: what was asked.
        reply: n texts.
        usage: tokens and price of all replies that it took.
        latency_s: seconds of the last attempt.
        attempts: how many there were.
    """
    answer = Answer(
        texts=reply.texts,
        scores=reply.scores,
        finish=reply.finish,
        usage=usage,
        latency_s=latency_s,
        attempts=attempts,
    )
    if reply.refused is not None:
        return replace(answer, failure=Failure.REFUSAL, detail=reply.refused[:300], texts=reply.texts or ("",)), None
    if not any(text.strip() for text in reply.texts):
        why = f" (finish: {', '.join(sorted({*reply.finish} - {''}))})" if any(reply.finish) else ""
        return replace(answer, failure=Failure.EMPTY, detail=f"the model gave no text{why}"), None
    if request.schema is None:
        return answer, None
    readings = [structured.read(text, request.schema) for text in reply.texts]
    good = [reading for reading in readings if reading.error is None]
    if not good:
        error = readings[0].error or ""
        broken = replace(answer, failure=Failure.UNPARSEABLE, detail=error)
        return broken, error if len(readings) == 1 else None
    values = [None if reading.error is not None else reading.value for reading in readings]
    repaired = any(reading.repaired for reading in good)
    return replace(answer, parsed=values if len(values) > 1 else values[0], repaired=repaired), None


def add_usage(first: Usage, second: Usage) -> Usage:
    """Tokens and price of two replies; unknown where either is."""

    def both(a: Any, b: Any) -> Any:
        return None if a is None or b is None else a + b

    return Usage(
        both(first.prompt_tokens, second.prompt_tokens),
        both(first.completion_tokens, second.completion_tokens),
        both(first.price, second.price),
    )


def encode(answer: Answer) -> dict[str, Any]:
    """An answer for the cache: JSON without what is empty."""
    usage = answer.usage
    row: dict[str, Any] = {
        "texts": answer.texts,
        "usage": (usage.prompt_tokens, usage.completion_tokens, usage.price),
        "latency_s": round(answer.latency_s, 4),
        "attempts": answer.attempts,
    }
    if answer.parsed is not None:
        row["parsed"] = answer.parsed
    if answer.repaired:
        row["repaired"] = True
    if answer.scores is not None:
        row["scores"] = answer.scores
    if answer.finish:
        row["finish"] = answer.finish
    if answer.failure is not None:
        row["failure"], row["detail"] = answer.failure.value, answer.detail
    return row


def decode(row: dict[str, Any]) -> Answer:
    """An answer from the cache."""
    usage = row.get("usage") or [None, None, None]
    scores = row.get("scores")
    return Answer(
        texts=tuple(row["texts"]),
        parsed=row.get("parsed"),
        repaired=bool(row.get("repaired", False)),
        scores=None if scores is None else tuple(scores),
        finish=tuple(row.get("finish", ())),
        usage=Usage(*usage),
        attempts=int(row.get("attempts", 1)),
        cached=True,
        failure=Failure(row["failure"]) if row.get("failure") else None,
        detail=row.get("detail", ""),
    )
