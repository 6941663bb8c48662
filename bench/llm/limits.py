"""How many requests run at once, and how many a minute: adapts to what the provider bears.

Additive increase, multiplicative decrease: each round of good replies allows one request more, a reply that says
"too many" halves the number. A `Retry-After` holds everybody back, since the limit is the account's and not the request's.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque

FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 30.0
# Replies to requests that were sent before the last decrease say nothing about the new limit.
COOLDOWN = 1.0


def backoff(attempt: int, draw: random.Random) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 1): exponential, half of it at random."""
    full: float = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** (attempt - 1))
    return full * (0.5 + 0.5 * draw.random())


class Bucket:
    """A budget that refills evenly: `per_minute` units a minute, at most a second's worth ahead.

    It may go into debt, so that a request larger than its size passes once and is waited off afterwards.
    """

    def __init__(self, per_minute: float) -> None:
        self.rate = per_minute / 60.0
        self.size = max(1.0, self.rate)
        self.level, self.filled = self.size, time.monotonic()

    def wait(self) -> float:
        """Seconds until something may be taken."""
        now = time.monotonic()
        self.level = min(self.size, self.level + (now - self.filled) * self.rate)
        self.filled = now
        # A whole request must be there; of tokens it is enough to be out of debt.
        need = min(1.0, self.size)
        return 0.0 if self.level >= need else (need - self.level) / self.rate

    def take(self, units: float) -> None:
        """Take units; negative ones give back what was estimated too high."""
        self.level -= units


class Limiter:
    """Slots for requests of one model. For use on one event loop.

    Attributes:
        limit: requests that may run at once now, a float that grows by fractions.
        active: requests that run.
        decreases: how often the limit was cut.
    """

    def __init__(self, connections: int, rpm: int | None = None, tpm: int | None = None) -> None:
        self.most, self.limit = float(connections), float(connections)
        self.active, self.decreases, self.highest = 0, 0, 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._paused_until, self._cut_at = 0.0, -COOLDOWN
        self._requests = Bucket(rpm) if rpm else None
        self._tokens = Bucket(tpm) if tpm else None
        self._timer: asyncio.TimerHandle | None = None

    async def acquire(self, tokens: int = 0) -> None:
        """Wait for a slot; `tokens` is an estimate of what the request will use."""
        if self._waiting or self._hold() > 0.0 or self.active >= int(self.limit):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            self._wake()
            try:
                # Whoever wakes us has counted us in already.
                await future
            except asyncio.CancelledError:
                if future.done() and not future.cancelled():
                    self.release()
                raise
        else:
            self._enter()
        if self._tokens is not None:
            self._tokens.take(tokens)

    def release(self, tokens_left: int = 0) -> None:
        """Give a slot back; `tokens_left` is the estimate less what was used."""
        self.active -= 1
        if self._tokens is not None and tokens_left:
            self._tokens.take(-tokens_left)
        if self._waiting:
            self._wake()

    def good(self) -> None:
        """A reply came: allow a little more."""
        if self.limit < self.most:
            self.limit = min(self.most, self.limit + 1.0 / self.limit)

    def overloaded(self, retry_after: float | None) -> None:
        """The provider had too much: halve the limit, and pause everybody as long as it asks."""
        now = time.monotonic()
        if now - self._cut_at >= COOLDOWN:
            self._cut_at = now
            self.limit = max(1.0, self.limit / 2.0)
            self.decreases += 1
        if retry_after:
            self._paused_until = max(self._paused_until, now + retry_after)

    def _enter(self) -> None:
        self.active += 1
        self.highest = max(self.highest, self.active)
        if self._requests is not None:
            self._requests.take(1.0)

    def _hold(self) -> float:
        """Seconds until rates and pauses allow a request."""
        hold = self._paused_until - time.monotonic() if self._paused_until else 0.0
        if self._requests is not None:
            hold = max(hold, self._requests.wait())
        if self._tokens is not None:
            hold = max(hold, self._tokens.wait())
        return hold

    def _wake(self) -> None:
        while self._waiting and self.active < int(self.limit):
            hold = self._hold()
            if hold > 0.0:
                if self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(hold + 0.001, self._ring)
                return
            future = self._waiting.popleft()
            if not future.done():
                self._enter()
                future.set_result(None)

    def _ring(self) -> None:
        self._timer = None
        self._wake()
