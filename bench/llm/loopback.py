"""A server on this machine that speaks as much OpenAI as a measurement needs: fixed latency, answers without a model."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


@dataclass
class Response:
    """What the server does with a request: wait, send, and maybe hang up. `raw` replaces head and body."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    raw: bytes | None = None
    cut: bool = False


Respond = Callable[[str, str, dict[str, str], bytes], Response]


class Server(asyncio.Protocol):
    """One connection; requests on it are answered in their order."""

    def __init__(self, respond: Respond) -> None:
        self._respond, self._buffer = respond, bytearray()
        self._transport: Any = None
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect a request."""
        self._buffer += data
        if not self._busy:
            self._next()

    def _next(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        if len(self._buffer) < end + 4 + length:
            return
        body = bytes(self._buffer[end + 4 : end + 4 + length])
        del self._buffer[: end + 4 + length]
        response = self._respond(method, path, headers, body)
        self._busy = True
        if response.delay_s > 0:
            asyncio.get_running_loop().call_later(response.delay_s, self._send, response)
        else:
            self._send(response)

    def _send(self, response: Response) -> None:
        self._busy = False
        if self._transport.is_closing():
            return
        if response.raw is not None:
            self._transport.write(response.raw)
        else:
            fields = {"content-type": "application/json", "content-length": str(len(response.body))} | response.headers
            head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            reason = REASONS.get(response.status, "Status")
            self._transport.write(f"HTTP/1.1 {response.status} {reason}\r\n{head}\r\n".encode() + response.body)
        if response.cut:
            self._transport.close()
        elif self._buffer:
            self._next()


def completion(texts: list[str], prompt_tokens: int = 10, completion_tokens: int = 5, **message: Any) -> bytes:
    """The body of a chat completion."""
    choices = [
        {"index": place, "message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}
        for place, text in enumerate(texts)
    ]
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    row = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": choices, "usage": usage}
    return json.dumps(row).encode()


async def serve(respond: Respond, port: int = 0, ready: Callable[[int], None] | None = None) -> None:
    """Serve on 127.0.0.1 until cancelled; `ready` is told the port."""
    server = await asyncio.get_running_loop().create_server(lambda: Server(respond), "127.0.0.1", port, backlog=1024)
    if ready is not None:
        ready(server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()


def main() -> None:
    """`python -m bench.llm.loopback SECONDS`: answers everything after so long; the port is the first line of stdout."""
    body, delay = completion(["yes"]), float(sys.argv[1])

    def ready(port: int) -> None:
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()

    asyncio.run(serve(lambda *_: Response(body, delay_s=delay), ready=ready))


if __name__ == "__main__":
    main()
