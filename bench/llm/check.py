"""Does a language model answer, and which of its features work? Found by trying: servers drop parameters silently."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import Any

from bench.errors import CheckError
from bench.llm import structured
from bench.llm.config import Endpoint
from bench.llm.contracts import ChatRequest, Failure, Message, Sampling
from bench.llm.core import Model
from bench.llm.failures import RequestError
from bench.llm.remote import run_once
from bench.llm.stats import price, prices_of
from bench.llm.transport import Transport, open_transport
from bench.llm.wire import Reply

TINY = ChatRequest((Message("user", "Answer with the single word yes."),), Sampling(max_tokens=64))
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["answer"],
    "additionalProperties": False,
}
SECONDS = 60.0
WORKS, IGNORED = "works", "ignored by the server"


@dataclass
class Checked:
    """What a check found. `features` says of JSON mode, n, logprobs and seed "works", or why not; `price` in US dollars."""

    name: str
    model: str
    api_base: str
    latency_s: float
    prompt_tokens: int | None
    completion_tokens: int | None
    price: float | None
    answer: str
    features: dict[str, str] = field(default_factory=dict)


def check_endpoint(endpoint: Endpoint) -> Checked:
    """Send one tiny request, and then a few that each try a feature.

    Raises:
        CheckError: the tiny request failed; the line says what to mend.
    """
    checked: Checked = run_once(_check(endpoint))
    return checked


def check_model(model: Model) -> Checked:
    """The same of an engine in this process.

    Raises:
        CheckError: it gives no answer.
    """
    start = time.monotonic()
    ((_, answer),) = model.answer([replace(TINY, sampling=Sampling(max_tokens=8))])
    latency = time.monotonic() - start
    if answer.failure not in (None, Failure.EMPTY):
        raise CheckError(f"{model.identity.name} gives no answer: {answer.detail}")
    usage, able = answer.usage, model.capabilities
    sampled = Sampling(temperature=1.0, max_tokens=8, n=2, seed=7)
    ((_, two),) = model.answer([replace(TINY, sampling=sampled)])
    features = {
        "JSON mode": WORKS if able.json_schema else "not by this engine: parsed and repaired instead",
        "n > 1": WORKS if len(two.texts) == 2 else f"gave {len(two.texts)} of 2",
        "logprobs": WORKS if able.logprobs else "not by this engine",
        "seed": WORKS if able.seed else "not by this engine",
        "beam search": WORKS if able.beams else "not by this engine",
    }
    text = answer.texts[0] if answer.texts else ""
    identity = model.identity
    return Checked(
        identity.name, identity.model, "", latency, usage.prompt_tokens, usage.completion_tokens, None, text, features
    )


async def _check(endpoint: Endpoint) -> Checked:
    transport = open_transport(endpoint)
    try:
        start = time.monotonic()
        try:
            reply = await transport.send(TINY, SECONDS)
        except RequestError as error:
            raise CheckError(_advice(endpoint, error)) from None
        latency = time.monotonic() - start
        features = {
            "JSON mode": await _json(transport),
            "n > 1": await _several(transport),
            "logprobs": await _logprobs(transport),
            "seed": await _seed(transport),
        }
    finally:
        await transport.close()
    identity = endpoint.identity
    return Checked(
        identity.name,
        identity.model,
        identity.api_base,
        round(latency, 4),
        reply.prompt_tokens,
        reply.completion_tokens,
        price(prices_of(endpoint), reply.prompt_tokens, reply.completion_tokens),
        reply.texts[0],
        features,
    )


def _advice(endpoint: Endpoint, error: RequestError) -> str:
    name, place = endpoint.identity.name, endpoint.identity.api_base or endpoint.provider
    said = {
        Failure.AUTHENTICATION: f"the key for {name} is not accepted by {place}: check api_key",
        Failure.NOT_FOUND: f"{place} knows no model {endpoint.identity.model.partition('/')[2]!r}, or no such route: check model and api_base",
        Failure.CONNECTION: f"{place} cannot be reached: check api_base, and whether the server runs",
        Failure.TIMEOUT: f"{place} gave no answer within {SECONDS:.0f} s",
        Failure.RATE_LIMIT: f"{place} accepts no more requests of this account now",
    }
    return f"{said.get(error.failure, f'{name} failed ({error.failure})')} ({error.detail})"


async def _try(transport: Transport, request: ChatRequest, **options: Any) -> Reply | str:
    try:
        return await transport.send(request, SECONDS, **options)
    except RequestError as error:
        return (
            f"refused: {error.detail}" if error.failure is Failure.BAD_REQUEST else f"{error.failure}: {error.detail}"
        )


async def _json(transport: Transport) -> str:
    request = ChatRequest((Message("user", "Is water wet?"),), Sampling(max_tokens=100), SCHEMA)
    reply = await _try(transport, request, native_schema=True)
    if isinstance(reply, str):
        return reply
    reading = structured.read(reply.texts[0], SCHEMA)
    return WORKS if reading.error is None and not reading.repaired else IGNORED


async def _several(transport: Transport) -> str:
    request = replace(TINY, sampling=Sampling(temperature=1.0, max_tokens=16, n=2))
    reply = await _try(transport, request)
    return (
        reply if isinstance(reply, str) else WORKS if len(reply.texts) == 2 else f"{IGNORED}: asked one by one instead"
    )


async def _logprobs(transport: Transport) -> str:
    reply = await _try(transport, TINY, extra={"logprobs": True, "top_logprobs": 1})
    return reply if isinstance(reply, str) else WORKS if reply.logprobs else IGNORED


async def _seed(transport: Transport) -> str:
    """Equal seeds must give equal texts; where different ones do too, nothing is shown."""
    prompt = (Message("user", "Write a random word and a random number."),)

    def drawn(seed: int) -> ChatRequest:
        return ChatRequest(prompt, Sampling(temperature=1.0, max_tokens=16, seed=seed))

    replies = await asyncio.gather(*(_try(transport, drawn(seed)) for seed in (7, 7, 8, 9)))
    texts = []
    for reply in replies:
        if isinstance(reply, str):
            return reply
        texts.append(reply.texts[0])
    if texts[0] != texts[1]:
        return IGNORED
    return WORKS if len(set(texts)) > 1 else "cannot be told: other seeds give the same text"
