"""The ways to a provider: plain OpenAI over our own connections, and everything else through litellm.

Models of OpenAI-compatible servers (`openai/...`, `hosted_vllm/...`) need no translation, and litellm's own cost of some
milliseconds a request would be most of the time that a fast server takes; so they go directly. Where the environment
names a proxy for the address, and for every other provider, litellm carries the request.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from bench.llm import quick_json, wire
from bench.llm.config import Endpoint
from bench.llm.contracts import ChatRequest, Failure
from bench.llm.failures import RequestError, Scrubber, from_litellm, from_status
from bench.llm.http import Dropped, Garbled, HttpClient


class Transport(Protocol):
    """Carries one request to a model, once."""

    async def send(
        self, request: ChatRequest, timeout: float, *, native_schema: bool = False, extra: dict[str, Any] | None = None
    ) -> wire.Reply:
        """One attempt. `extra` holds further fields of the body, for probes.

        Raises:
            RequestError: whatever went wrong, classified.
        """

    async def close(self) -> None:
        """Close connections."""


def open_transport(endpoint: Endpoint) -> Transport:
    """The way that suits an endpoint."""
    if endpoint.direct and not _proxied(endpoint.url):
        return DirectTransport(endpoint)
    return LitellmTransport(endpoint)


class DirectTransport:
    """Chat completions over `bench.llm.http`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint, self._scrubber = endpoint, Scrubber(endpoint.secrets)
        headers = {"user-agent": "promptrec-bench"}
        if endpoint.api_key:
            headers["authorization"] = f"Bearer {endpoint.api_key}"
        for name, field in (("organization", "openai-organization"), ("project", "openai-project")):
            if name in endpoint.arguments:
                headers[field] = str(endpoint.arguments[name])
        self._client = HttpClient(
            endpoint.url, headers | {key.lower(): value for key, value in endpoint.headers.items()}
        )

    async def send(
        self, request: ChatRequest, timeout: float, *, native_schema: bool = False, extra: dict[str, Any] | None = None
    ) -> wire.Reply:
        """See `Transport`."""
        body = wire.payload(request, self._endpoint, native_schema=native_schema) | (extra or {})
        try:
            reply = await self._client.post(wire.ROUTE, quick_json.dump(body), timeout)
        except TimeoutError as error:
            raise RequestError(Failure.TIMEOUT, str(error)) from None
        except Dropped as error:
            raise RequestError(Failure.CONNECTION, self._scrubber.line(str(error))) from None
        except Garbled as error:
            raise RequestError(Failure.MALFORMED, str(error)) from None
        if reply.status != 200:
            raise from_status(reply.status, reply.headers, reply.body, self._scrubber)
        try:
            return wire.read_reply(self._scrubber.body(reply.body), n=request.sampling.n)
        except RequestError as error:
            error.detail = self._scrubber.line(error.detail)
            raise

    async def close(self) -> None:
        """Close connections."""
        self._client.close()


class LitellmTransport:
    """Any provider that litellm knows. Its retries are off: the client's own are bounded and told."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint, self._scrubber = endpoint, Scrubber(endpoint.secrets)
        self._litellm = import_litellm()

    async def send(
        self, request: ChatRequest, timeout: float, *, native_schema: bool = False, extra: dict[str, Any] | None = None
    ) -> wire.Reply:
        """See `Transport`."""
        endpoint = self._endpoint
        arguments = wire.payload(request, endpoint, native_schema=native_schema) | (extra or {})
        arguments["model"] = endpoint.identity.model
        # litellm has its own field for what it shall pass on untouched.
        untouched = endpoint.identity.parameters.get("extra_body")
        if isinstance(untouched, dict):
            for name in untouched:
                arguments.pop(name, None)
            arguments["extra_body"] = untouched
        arguments |= endpoint.arguments
        for name, value in (("api_base", endpoint.url), ("api_key", endpoint.api_key)):
            if value:
                arguments[name] = value
        if endpoint.headers:
            arguments["extra_headers"] = dict(endpoint.headers)
        try:
            async with asyncio.timeout(timeout + 5.0):
                reply = await self._litellm.acompletion(**arguments, timeout=timeout, num_retries=0, max_retries=0)
            value = json.loads(self._scrubber.text(reply.model_dump_json()))
        except Exception as error:
            raise from_litellm(error, self._scrubber) from None
        return wire.read_reply(value, n=request.sampling.n)

    async def close(self) -> None:
        """Close what litellm keeps open."""
        closing = getattr(self._litellm, "close_litellm_async_clients", None)
        if closing is not None:
            await closing()


def import_litellm() -> Any:
    """litellm, quiet, and with the cost map that it ships: it would fetch one from the network otherwise."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    return litellm


def _proxied(url: str) -> bool:
    parts = urlsplit(url)
    proxies = getproxies()
    return bool(proxies.get(parts.scheme) or proxies.get("all")) and not proxy_bypass(parts.hostname or "")
