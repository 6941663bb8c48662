"""What a model's answers took: counts, failures by class, tokens, price, latency."""

from __future__ import annotations

import json
import math
from array import array
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

from bench.llm.config import Endpoint
from bench.llm.contracts import Answer, ChatRequest, Usage

# Roughly four bytes of English a token, and the marks of a turn; for plans and limits, never for a bill.
BYTES_PER_TOKEN, TOKENS_PER_MESSAGE = 4.0, 4


class Tally:
    """Counts while a model answers; may be told from any thread.

    Attributes:
        sent: attempts that went out.
        spent: US dollars of what was paid in this process and whose price is known.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self.requests = self.cached = self.answered = self.sent = self.retries = self.reasked = self.repaired = 0
        self.failures: dict[str, int] = {}
        self.prompt_tokens = self.completion_tokens = self.uncounted = self.unpriced = 0
        self.spent = self.price_cached = 0.0
        self._latencies = array("f")

    def paid(self, usage: Usage, latency_s: float) -> None:
        """A reply came and is to be paid, whatever it is worth."""
        with self._lock:
            self._latencies.append(latency_s)
            if usage.prompt_tokens is None or usage.completion_tokens is None:
                self.uncounted += 1
            self.prompt_tokens += usage.prompt_tokens or 0
            self.completion_tokens += usage.completion_tokens or 0
            if usage.price is None:
                self.unpriced += 1
            else:
                self.spent += usage.price

    def count(self, answer: Answer) -> None:
        """An answer goes to the caller."""
        with self._lock:
            self.requests += 1
            self.repaired += answer.repaired
            if answer.failure is not None:
                self.failures[answer.failure.value] = self.failures.get(answer.failure.value, 0) + 1
            else:
                self.answered += 1
            if answer.cached:
                self.cached += 1
                self.price_cached += answer.usage.price or 0.0

    def report(self) -> dict[str, Any]:
        """Plain values. `price` is None where that of any reply is unknown; latencies are seconds of single attempts."""
        with self._lock:
            known = not self.unpriced
            ordered = sorted(self._latencies)
            return {
                "requests": self.requests,
                "answered": self.answered,
                "cached": self.cached,
                "sent": self.sent,
                "retries": self.retries,
                "reasked": self.reasked,
                "repaired": self.repaired,
                "failures": dict(sorted(self.failures.items())),
                "prompt_tokens": None if self.uncounted else self.prompt_tokens,
                "completion_tokens": None if self.uncounted else self.completion_tokens,
                "price": round(self.spent, 8) if known else None,
                "price_of_cached": round(self.price_cached, 8),
                "latency_p50_s": _percentile(ordered, 0.50),
                "latency_p95_s": _percentile(ordered, 0.95),
            }


def estimated_tokens(request: ChatRequest) -> int:
    """Tokens of a request's messages, estimated from their length in bytes."""
    size = sum(len(message.content.encode("utf-8", "replace")) for message in request.messages)
    return math.ceil(size / BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE * len(request.messages)


def prices_of(endpoint: Endpoint) -> tuple[float, float] | None:
    """US dollars a prompt token and a completion token: the configuration's, else litellm's cost map's, else None."""
    if endpoint.prices is not None:
        return endpoint.prices
    if endpoint.provider == "hosted_vllm" or (endpoint.provider == "openai" and _foreign(endpoint)):
        # One's own server: it happens to serve a name from the map, at nobody knows which price.
        return None
    model = endpoint.identity.model
    table = _cost_map()
    for name in (model, model.partition("/")[2]):
        row = table.get(name)
        if row is not None:
            first, second = row.get("input_cost_per_token"), row.get("output_cost_per_token")
            if isinstance(first, int | float) and isinstance(second, int | float):
                return float(first), float(second)
    return None


def price(prices: tuple[float, float] | None, prompt: int | None, completion: int | None) -> float | None:
    """US dollars of a reply, None where a part is unknown."""
    if prices is None or prompt is None or completion is None:
        return None
    return prices[0] * prompt + prices[1] * completion


def _foreign(endpoint: Endpoint) -> bool:
    return "//api.openai.com" not in endpoint.identity.api_base


@cache
def _cost_map() -> dict[str, dict[str, Any]]:
    # The table that litellm ships, read as a file: importing litellm takes seconds and 150 MiB.
    found = find_spec("litellm")
    if found is None or found.origin is None:
        return {}
    path = Path(found.origin).parent / "model_prices_and_context_window_backup.json"
    try:
        table: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: row for name, row in table.items() if isinstance(row, dict)}


def _percentile(ordered: list[float], share: float) -> float | None:
    """Nearest rank: the smallest value that at least `share` of all do not exceed."""
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 4) if ordered else None
