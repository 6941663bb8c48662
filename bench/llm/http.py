"""A lean HTTP/1.1 client for one address: keep-alive connections on an asyncio loop, POST and GET, nothing else.

Why not `openai` or `httpx` here: with them a request costs about a millisecond of processor time in this process, so
that 200 connections to a server of 50 ms latency, which could carry 4,000 requests a second, carry 1,000 or fewer.
This costs a tenth of that (`bench perf llm` measures it). What it lacks (proxies, HTTP/2, redirects, compression) the
caller takes elsewhere.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

CONNECT_SECONDS = 20.0
# How often time-outs are looked for: one timer for all connections, since one for each request would cost more than it.
SWEEP_SECONDS = 0.1
LARGEST_HEAD, LARGEST_BODY = 1 << 16, 1 << 26


class Dropped(Exception):
    """The connection could not be made, or ended before the reply did."""


class Garbled(Exception):
    """What came back is not HTTP, or too large."""


@dataclass(slots=True)
class HttpReply:
    """Status, headers with names in lower case, and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """Connections to one address. Use on one event loop.

    Args:
        url: address with scheme, and optionally user, password, path and query; the query goes with every request.
        headers: sent with every request.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._host, self._tls = parts.hostname or "", parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._path, self._query = parts.path.rstrip("/"), f"?{parts.query}" if parts.query else ""
        host = f"[{self._host}]" if ":" in self._host else self._host
        fields = {"host": host if parts.port is None else f"{host}:{parts.port}", "accept": "application/json"}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            fields["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        fields |= {name.lower(): value for name, value in headers.items()}
        if any("\r" in text or "\n" in text for pair in fields.items() for text in pair):
            raise ValueError("a header holds a line break")
        self._fields = "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode("latin-1")
        self._idle: deque[_Connection] = deque()
        self._open: set[_Connection] = set()
        self._context: ssl.SSLContext | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def post(self, route: str, body: bytes, timeout: float) -> HttpReply:
        """POST JSON; `timeout` in seconds is that of the whole exchange.

        Raises:
            Dropped, Garbled, TimeoutError.
        """
        head = f"POST {self._path}{route}{self._query} HTTP/1.1\r\n".encode()
        length = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        return await self._exchange(head + self._fields + length + body, timeout)

    async def get(self, route: str, timeout: float) -> HttpReply:
        """GET; otherwise as `post`."""
        head = f"GET {self._path}{route}{self._query} HTTP/1.1\r\n".encode()
        return await self._exchange(head + self._fields + b"\r\n", timeout)

    def close(self) -> None:
        """Close every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._open):
            connection.close()
        self._idle.clear()

    async def _exchange(self, data: bytes, timeout: float) -> HttpReply:
        while True:
            # The connection used last is the likeliest to be alive still.
            reused = bool(self._idle)
            connection = self._idle.pop() if reused else await self._connect(timeout)
            if connection.closed:
                continue
            if self._sweeper is None:
                self._sweep()
            try:
                reply = await connection.exchange(data, timeout)
            except Dropped:
                # A server may close an idle connection at the moment we use it; it has not seen the request then.
                if reused and not connection.heard:
                    continue
                raise
            if connection.reusable:
                self._idle.append(connection)
            else:
                connection.close()
            return reply

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self._open):
            connection.check(now)
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep) if self._open else None

    async def _connect(self, timeout: float) -> _Connection:
        loop = asyncio.get_running_loop()
        if self._tls and self._context is None:
            self._context = _tls_context()
        try:
            async with asyncio.timeout(min(timeout, CONNECT_SECONDS)):
                _, connection = await loop.create_connection(
                    lambda: _Connection(loop, self._open), self._host, self._port, ssl=self._context
                )
        except TimeoutError:
            raise Dropped(f"no connection to {self._host}:{self._port} within {CONNECT_SECONDS:.0f} s") from None
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            raise Dropped(f"no connection to {self._host}:{self._port}: {reason}") from None
        return connection


class _Connection(asyncio.Protocol):
    """One connection: one request at a time, its reply read as it comes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, open_: set[_Connection]) -> None:
        self._loop, self._open = loop, open_
        self._transport: Any = None
        self._waiter: asyncio.Future[HttpReply] | None = None
        self.closed, self.reusable, self.heard = False, True, False
        self._deadline, self._timeout = 0.0, 0.0
        self._reset()

    def _reset(self) -> None:
        self._buffer = bytearray()
        self._status = 0
        self._headers: dict[str, str] = {}
        self._length: int | None = None
        self._chunked = False
        self._chunks: list[bytes] = []

    async def exchange(self, data: bytes, timeout: float) -> HttpReply:
        """Send a request and wait for the whole reply."""
        self._reset()
        self.heard = False
        waiter = self._waiter = self._loop.create_future()
        self._deadline, self._timeout = self._loop.time() + timeout, timeout
        self._transport.write(data)
        try:
            return await waiter
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._waiter = None

    def check(self, now: float) -> None:
        """Give up on a reply that is overdue."""
        if self._waiter is not None and now >= self._deadline:
            self._fail(TimeoutError(f"no answer within {self._timeout:g} s"))

    def close(self) -> None:
        """Close at once; whoever waits is told."""
        self.closed, self.reusable = True, False
        self._open.discard(self)
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = transport
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        """Read on; a reply that nobody waits for ends the connection."""
        if self._waiter is None:
            self.close()
            return
        self.heard = True
        self._buffer += data
        try:
            if self._status == 0 and not self._read_head():
                return
            body = self._read_body()
        except (ValueError, IndexError):
            self._fail(Garbled("the reply is not HTTP"))
            return
        except Garbled as error:
            self._fail(error)
            return
        if body is not None:
            self._finish(body)

    def eof_received(self) -> bool:
        """The server is done: the end of a body without a length."""
        if self._waiter is not None and self._status and self._length is None and not self._chunked:
            self.reusable = False
            self._finish(bytes(self._buffer))
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self.closed, self.reusable = True, False
        self._open.discard(self)
        self._fail(
            Dropped("the connection ended before the answer did" if self.heard else "the connection was dropped")
        )

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        if not self.closed:
            self.close()

    def _finish(self, body: bytes) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(HttpReply(self._status, self._headers, body))

    def _read_head(self) -> bool:
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > LARGEST_HEAD:
                    raise Garbled("the reply's headers have no end")
                return False
            lines = self._buffer[:end].decode("latin-1").split("\r\n")
            del self._buffer[: end + 4]
            version, _, rest = lines[0].partition(" ")
            status = int(rest[:3])
            if not version.startswith("HTTP/1."):
                raise Garbled("the reply is not HTTP/1.1")
            # 100 Continue and its like come before the reply proper.
            if status >= 200:
                break
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        self._status, self._headers = status, headers
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        if not self._chunked:
            length = headers.get("content-length")
            self._length = int(length) if length is not None else (0 if status in (204, 304) else None)
            if self._length is not None and not 0 <= self._length <= LARGEST_BODY:
                raise Garbled("the reply is too large")
        if version == "HTTP/1.0" or "close" in headers.get("connection", "").lower():
            self.reusable = False
        return True

    def _read_body(self) -> bytes | None:
        """The body when it is whole, None before."""
        if self._chunked:
            return self._read_chunks()
        if self._length is None:
            if len(self._buffer) > LARGEST_BODY:
                raise Garbled("the reply is too large")
            return None
        if len(self._buffer) < self._length:
            return None
        if len(self._buffer) > self._length:
            # More than was announced: what follows would be taken for the next reply.
            self.reusable = False
        return bytes(self._buffer[: self._length])

    def _read_chunks(self) -> bytes | None:
        while True:
            end = self._buffer.find(b"\r\n")
            if end < 0:
                return None
            size = int(bytes(self._buffer[:end]).split(b";")[0], 16)
            if not 0 <= size <= LARGEST_BODY:
                raise Garbled("the reply is too large")
            if size == 0:
                # Trailers, if any, up to an empty line.
                if self._buffer[end : end + 4] == b"\r\n\r\n" or self._buffer.find(b"\r\n\r\n", end) >= 0:
                    return b"".join(self._chunks)
                return None
            if len(self._buffer) < end + 2 + size + 2:
                return None
            self._chunks.append(bytes(self._buffer[end + 2 : end + 2 + size]))
            if sum(map(len, self._chunks)) > LARGEST_BODY:
                raise Garbled("the reply is too large")
            del self._buffer[: end + 2 + size + 2]


def _tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not context.get_ca_certs():
        # Systems whose Python knows no authorities; certifi comes with the openai package.
        try:
            import certifi
        except ImportError:
            return context
        context.load_verify_locations(certifi.where())
    return context
