"""One request from its first attempt to its answer: retries, back-off, deadline, budget, n texts, one re-ask."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.llm import structured
from bench.llm.budget import Budget
from bench.llm.contracts import Answer, ChatRequest, Failure, Usage
from bench.llm.core import Core, add_usage, read_reply
from bench.llm.failures import RequestError
from bench.llm.limits import Limiter, backoff
from bench.llm.stats import estimated_tokens
from bench.llm.transport import Transport
from bench.llm.wire import Reply

# So many requests in a row that fail alike are the provider's state and not theirs.
STREAK = 3
EMPTY_TRIES = 2
_SCHEMA_WORDS = ("response_format", "json_schema", "structured", "guided", "grammar", "schema")


@dataclass(frozen=True)
class Patience:
    """How long a request is tried: attempts, seconds for one, seconds for all with the waiting between them."""

    attempts: int = 6
    timeout_s: float = 120.0
    deadline_s: float = 600.0


@dataclass
class Outcome:
    """A reply and what it took."""

    reply: Reply
    usage: Usage
    latency_s: float
    attempts: int


class Asker:
    """Asks one model over one transport. For use on one event loop."""

    def __init__(
        self, core: Core, transport: Transport, limiter: Limiter, budget: Budget, patience: Patience, seed: int = 0
    ) -> None:
        self._core, self._transport, self._limiter = core, transport, limiter
        self._budget, self._patience = budget, patience
        # Jitter need not be reproducible, but need not differ between runs either.
        self._draw = random.Random(seed)
        self.native_schema = self.many_texts = True
        self._succeeded = False
        self._fatal: list[RequestError] = []
        self._exhausted = 0

    async def ask(self, request: ChatRequest, wanted: Callable[[], bool]) -> tuple[Answer, tuple[str, ...], bool]:
        """The answer, the texts of before a re-ask, and whether to keep it.

        Args:
            request: what is asked.
            wanted: says whether anybody still waits; asked before every attempt.
        """
        deadline = time.monotonic() + self._patience.deadline_s
        try:
            outcome = await self._texts(request, deadline, wanted)
        except RequestError as error:
            return _failed(error), (), False
        answer, problem = read_reply(request, outcome.reply, outcome.usage, outcome.latency_s, outcome.attempts)
        if problem is None:
            return answer, (), True
        self._core.tally.reasked += 1
        again = structured.reask(request, answer.texts[0], problem)
        try:
            second = await self._texts(again, deadline, wanted)
        except RequestError as error:
            # The first text stands; it is not kept, since the second try may come about another time.
            return replace(answer, detail=f"{problem}; asking again failed: {error.detail}"), (), False
        usage = add_usage(outcome.usage, second.usage)
        better, _ = read_reply(again, second.reply, usage, second.latency_s, outcome.attempts + second.attempts)
        if better.ok:
            return replace(better, repaired=True), answer.texts, True
        if better.failure in (Failure.REFUSAL, Failure.EMPTY):
            better = replace(answer, usage=usage, attempts=better.attempts)
        return better, answer.texts, True

    async def _texts(self, request: ChatRequest, deadline: float, wanted: Callable[[], bool]) -> Outcome:
        """N texts, in one request where the server heeds n, else one by one."""
        n = request.sampling.n
        first = await self._persist(request if self.many_texts else _one(request, 0), deadline, wanted)
        missing = n - len(first.reply.texts)
        if missing <= 0 or first.reply.refused is not None:
            return first
        if self.many_texts and len(first.reply.texts) == 1:
            self.many_texts = False
        place = len(first.reply.texts)
        tasks = [
            asyncio.ensure_future(self._persist(_one(request, place + k), deadline, wanted)) for k in range(missing)
        ]
        rest = await asyncio.gather(*tasks, return_exceptions=True)
        for failed in rest:
            if isinstance(failed, BaseException):
                raise failed
        return _joined(first, [outcome for outcome in rest if isinstance(outcome, Outcome)])

    async def _persist(self, request: ChatRequest, deadline: float, wanted: Callable[[], bool]) -> Outcome:
        """Attempts until one succeeds, cannot heal, or time or number is up."""
        attempt = empty = 0
        while True:
            attempt += 1
            native = request.schema is not None and self.native_schema
            try:
                outcome = await self._attempt(request, native, deadline, wanted)
                blank = outcome.reply.refused is None and not any(text.strip() for text in outcome.reply.texts)
                empty += blank
                if not blank or empty >= EMPTY_TRIES:
                    self._succeeded, self._exhausted, self._fatal = True, 0, []
                    outcome.attempts = attempt
                    return outcome
                error = RequestError(Failure.EMPTY, "the model gave no text")
            except RequestError as raised:
                error = raised
            if self._drops_schema(native, error):
                attempt -= 1
                continue
            wait = max(backoff(attempt, self._draw), error.retry_after or 0.0)
            late = time.monotonic() + wait >= deadline
            if not error.retriable or late or attempt >= self._allowed():
                self._note(error)
                error.detail += _given_up(error, attempt, late)
                error.attempts = attempt
                raise error
            self._core.tally.retries += 1
            await asyncio.sleep(wait)

    async def _attempt(
        self, request: ChatRequest, native: bool, deadline: float, wanted: Callable[[], bool]
    ) -> Outcome:
        limit = self._budget.max_cost is not None
        at_most = (self._core.most_expensive(request) or 0.0) if limit else 0.0
        await self._budget.reserve(at_most)
        paid: float | None = 0.0
        try:
            tokens = estimated_tokens(request) + request.sampling.max_tokens * request.sampling.n
            used = 0
            await self._limiter.acquire(tokens)
            try:
                if not wanted():
                    raise RequestError(Failure.BUDGET, "not sent: nobody waits for the answer any more")
                if len(self._fatal) >= STREAK and not self._succeeded:
                    raise RequestError(self._fatal[0].failure, f"not sent, as requests before: {self._fatal[0].detail}")
                start = time.monotonic()
                if start >= deadline:
                    raise RequestError(Failure.TIMEOUT, "no answer before the deadline", retriable=False)
                self._core.tally.sent += 1
                timeout = min(self._patience.timeout_s, deadline - start)
                reply = await self._transport.send(request, timeout, native_schema=native)
                latency = time.monotonic() - start
                self._limiter.good()
                used = (reply.prompt_tokens or 0) + (reply.completion_tokens or 0)
            except RequestError as error:
                if error.overload:
                    self._limiter.overloaded(error.retry_after)
                # Of a reply that never came, nobody knows whether it is on the bill.
                paid = None if error.failure in (Failure.TIMEOUT, Failure.CONNECTION, Failure.MALFORMED) else 0.0
                raise
            finally:
                self._limiter.release(tokens - used)
            usage = self._core.usage(reply)
            paid = usage.price
            self._core.tally.paid(usage, latency)
            return Outcome(reply, usage, latency, 1)
        finally:
            self._budget.settle(at_most, paid)

    def _drops_schema(self, native: bool, error: RequestError) -> bool:
        """Whether the server refused the schema itself, so that the request goes again without it."""
        told = any(word in error.detail.lower() for word in _SCHEMA_WORDS)
        if not (native and told and error.failure is Failure.BAD_REQUEST):
            return False
        self.native_schema = False
        return True

    def _allowed(self) -> int:
        """Attempts for a request: one, while a row of requests before used up all of theirs."""
        return 1 if self._exhausted >= STREAK else self._patience.attempts

    def _note(self, error: RequestError) -> None:
        if error.failure in (Failure.AUTHENTICATION, Failure.NOT_FOUND):
            # Only the first ones are kept: later ones may just repeat them.
            self._fatal = [*self._fatal, error][:STREAK]
        elif error.retriable and error.failure in (Failure.CONNECTION, Failure.TIMEOUT, Failure.SERVER):
            self._exhausted += 1


def _one(request: ChatRequest, place: int) -> ChatRequest:
    """The request for text number `place` alone; with its own seed, or all n texts would be one."""
    sampling = request.sampling
    seed = None if sampling.seed is None else sampling.seed + place
    return replace(request, sampling=replace(sampling, n=1, seed=seed))


def _joined(first: Outcome, rest: list[Outcome]) -> Outcome:
    usage, texts, finish = first.usage, first.reply.texts, first.reply.finish
    refused = first.reply.refused
    for outcome in rest:
        usage = add_usage(usage, outcome.usage)
        texts, finish = texts + outcome.reply.texts, finish + outcome.reply.finish
        refused = refused or outcome.reply.refused
    latency, attempts = max(o.latency_s for o in [first, *rest]), sum(o.attempts for o in [first, *rest])
    return Outcome(Reply(texts, finish, refused), usage, latency, attempts)


def _given_up(error: RequestError, attempt: int, late: bool) -> str:
    if not error.retriable:
        return ""
    if late and error.retry_after:
        return f" (asked to wait {error.retry_after:.0f} s, longer than the deadline leaves)"
    return f" (given up after {attempt} attempt{'s' if attempt > 1 else ''}{', at the deadline' if late else ''})"


def _failed(error: RequestError) -> Answer:
    return Answer(failure=error.failure, detail=error.detail, attempts=error.attempts)
