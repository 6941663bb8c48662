"""What a cached answer is filed under: everything that changes the answer, and nothing else.

Not in the key: the caller's `id`, the name in the configuration, credentials, the order of a dictionary, time-outs,
limits, prices.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from bench.llm.contracts import ChatRequest, Identity, Sampling

# Raised when the form of the parts changes, so that no older answer is taken for one of today.
KEY_VERSION = 1


class Keyer:
    """Keys of one model's requests. The model's part is hashed once, a request then takes microseconds."""

    def __init__(self, identity: Identity) -> None:
        self.model = model_parts(identity)
        self._model_text = _dumps(self.model)
        self._prefix = f'{{"key":{KEY_VERSION},"model":{self._model_text}}}'

    def key(self, request: ChatRequest) -> str:
        """SHA-256 of the parts, hexadecimal."""
        return hashlib.sha256((self._prefix + _request_text(request)).encode()).hexdigest()

    def parts(self, request: ChatRequest) -> dict[str, Any]:
        """What the key is made of, readable."""
        return {"model": self.model, **request_parts(request)}

    def parts_text(self, request: ChatRequest) -> str:
        """The same as JSON."""
        return f'{{"model":{self._model_text},{_request_text(request)[1:]}'


def model_parts(identity: Identity) -> dict[str, Any]:
    """The model's part: all of its identity but the name a person gave it."""
    return {
        "model": identity.model,
        "engine": identity.engine,
        "api_base": identity.api_base,
        "parameters": dict(identity.parameters),
    }


def request_parts(request: ChatRequest) -> dict[str, Any]:
    """The request's part: messages, sampling, schema."""
    return {
        "messages": _message_parts(request),
        "sampling": _sampling_parts(request.sampling),
        "schema": request.schema,
    }


def _message_parts(request: ChatRequest) -> list[list[str]]:
    return [[message.role, message.content] for message in request.messages]


def _sampling_parts(sampling: Sampling) -> dict[str, Any]:
    return {
        # 0 and 0.0 are one temperature.
        "temperature": float(sampling.temperature),
        "top_p": None if sampling.top_p is None else float(sampling.top_p),
        "max_tokens": sampling.max_tokens,
        "n": sampling.n,
        "seed": sampling.seed,
        "stop": list(sampling.stop),
        "beams": sampling.beams,
    }


def _request_text(request: ChatRequest) -> str:
    """`request_parts` as canonical JSON; put together, since all requests of a run share their sampling."""
    schema = "null" if request.schema is None else _dumps(request.schema)
    messages, sampling = _dumps(_message_parts(request)), _sampling_text(request.sampling)
    return f'{{"messages":{messages},"sampling":{sampling},"schema":{schema}}}'


@lru_cache(maxsize=64)
def _sampling_text(sampling: Sampling) -> str:
    return _dumps(_sampling_parts(sampling))


def key_of_parts(parts: Mapping[str, Any]) -> str:
    """The key again, from parts as they stand in the cache."""
    request = {name: parts.get(name) for name in ("messages", "sampling", "schema")}
    prefix = _dumps({"key": KEY_VERSION, "model": parts.get("model")})
    return hashlib.sha256((prefix + _dumps(request)).encode()).hexdigest()


def differences(left: Any, right: Any, path: str = "") -> list[str]:
    """Paths at which two sets of parts differ, such as "sampling.seed" or "messages[1][1]"."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        names = sorted({*left, *right})
        found = [
            differences(left.get(name), right.get(name), f"{path}.{name}" if path else str(name)) for name in names
        ]
        return [difference for part in found for difference in part]
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        pairs = enumerate(zip(left, right, strict=True))
        return [found for place, (a, b) in pairs for found in differences(a, b, f"{path}[{place}]")]
    return [] if left == right else [path or "everything"]


# ASCII, so that a lone surrogate in a title is a key like any other and no encoding error. Made once: it is used often.
_dumps = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
