"""JSON on the hot path: by orjson, and by the standard library where orjson is stricter than servers and titles are."""

from __future__ import annotations

import json
from typing import Any

import orjson

_encode = json.JSONEncoder(separators=(",", ":")).encode


def dump(value: Any) -> bytes:
    """A value as one line of JSON. A lone surrogate, which UTF-8 cannot hold, is escaped; NaN and infinities have Python's names.

    Raises:
        TypeError: the value is no JSON.
    """
    try:
        text = orjson.dumps(value)
    except TypeError:
        return _encode(value).encode()
    # orjson makes null of a number that is not finite, and so loses it.
    return _encode(value).encode() if b"null" in text and _extreme(value) else text


def load(text: bytes | str) -> Any:
    """The value of a JSON text; NaN, infinities, escaped lone surrogates and whole numbers of any length are taken, as some servers
    send them.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        value = orjson.loads(text)
    except ValueError:
        return json.loads(text)
    # orjson makes a float of a whole number beyond 64 bits.
    return json.loads(text) if _extreme(value) else value


def _extreme(value: Any) -> bool:
    """Whether a float in a value is NaN, infinite, or as large as no number of 64 bits."""
    if isinstance(value, dict):
        return any(map(_extreme, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_extreme, value))
    return isinstance(value, float) and not -(2**63) < value < 2**63
