"""What a run may cost: a number of requests, an amount of money. Neither is ever passed."""

from __future__ import annotations

import asyncio

from bench.llm.contracts import Failure
from bench.llm.failures import RequestError


class Budget:
    """Counts attempts and money. For use on one event loop.

    Before a request goes out, the most it can cost is set aside; when its reply is there, what it did cost is booked.

    Args:
        max_requests: attempts that may be sent, None for any number.
        max_cost: US dollars, None for any amount.
    """

    def __init__(self, max_requests: int | None, max_cost: float | None) -> None:
        self.max_requests, self.max_cost = max_requests, max_cost
        self.sent, self.spent = 0, 0.0
        self._out, self._aside = 0, 0.0
        self._waiting: list[asyncio.Future[None]] = []

    async def reserve(self, at_most: float) -> None:
        """Set aside for one attempt; waits while only the unknown price of running ones stands in the way.

        Raises:
            RequestError: BUDGET, nothing may be sent any more.
        """
        while self.max_cost is not None and self.spent + self._aside + at_most > self.max_cost:
            if self._out == 0:
                raise RequestError(
                    Failure.BUDGET,
                    f"not sent: ${self.spent:.4f} of --max-cost {self.max_cost:g} are spent, this one may cost ${at_most:.4f}",
                )
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future
        if self.max_requests is not None and self.sent >= self.max_requests:
            raise RequestError(Failure.BUDGET, f"not sent: --max-requests {self.max_requests} is reached")
        self.sent += 1
        self._out += 1
        self._aside += at_most

    def settle(self, at_most: float, price: float | None) -> None:
        """Book what an attempt cost: 0 for one that failed, None where that is unknown, which counts as the most."""
        self._out -= 1
        # Sums of fractions never come back to zero by themselves.
        self._aside = self._aside - at_most if self._out else 0.0
        self.spent += at_most if price is None else price
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
