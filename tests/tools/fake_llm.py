"""A language model in memory: answers by a function of the request, keeps what it was asked, and can fail on purpose."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from bench.llm.contracts import Answer, Capabilities, ChatRequest, Failure, Identity, Usage

Reply = Callable[[ChatRequest], str | Answer | tuple[str, ...]]


class FakeLLM:
    """`reply` gives the text (or texts, or the whole answer) for a request. Answers come in pairs, the later one first."""

    def __init__(self, reply: Reply, name: str = "fake", price: float | None = 0.001, **capabilities: bool) -> None:
        self.identity = Identity(name, f"test/{name}", "test", "http://fake/v1")
        self.capabilities = Capabilities(**capabilities)
        self.asked: list[ChatRequest] = []
        self.closed = False
        self._reply, self._price = reply, price

    def answer(self, requests: Iterable[ChatRequest]) -> Iterator[tuple[int, Answer]]:
        held: tuple[int, Answer] | None = None
        for position, request in enumerate(requests):
            self.asked.append(request)
            given = self._reply(request)
            if not isinstance(given, Answer):
                texts = (given,) if isinstance(given, str) else given
                given = Answer(texts, usage=Usage(100, 10, self._price), latency_s=0.25)
            if held is None:
                held = (position, given)
            else:
                yield position, given
                yield held
                held = None
        if held is not None:
            yield held

    def report(self) -> dict[str, Any]:
        return {"requests": len(self.asked), "sent": len(self.asked), "latency_p50_s": 0.25, "latency_p95_s": 0.5}

    def close(self) -> None:
        self.closed = True


def failed(failure: Failure, detail: str = "said so") -> Answer:
    return Answer(failure=failure, detail=detail)


def section(request: ChatRequest, tag: str) -> list[str]:
    """The lines between `<tag ...>` and `</tag>` in what the user message says."""
    found = re.search(rf"^<{tag}(?: [^>]*)?>\n(.*?)^</{tag}>$", request.messages[-1].content, re.S | re.M)
    return found[1].splitlines() if found else []


def strings(lines: list[str]) -> list[str]:
    """The JSON string that each line begins with, after its number: what a model that heeds the quotes reads."""
    import json

    decoder = json.JSONDecoder()
    return [decoder.raw_decode(line, line.index('"'))[0] for line in lines]


class Letters:
    """An encoder whose vectors are letter counts: like words are near, and nothing has to be loaded."""

    card, identity = None, "letters"

    def encode(self, texts, progress=None):
        counts = np.array(
            [[text.lower().count(chr(97 + at)) for at in range(26)] + [1e-3] for text in texts], np.float32
        )
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)
