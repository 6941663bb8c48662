"""JSON on the hot path: by orjson, and by the standard library where orjson is stricter than servers and titles are."""

from __future__ import annotations

import json
from typing import Any

import orjson

_encode = json.JSONEncoder(separators=(",", ":")).encode


def dump(value: Any) -> bytes:
    """A value as one line of JSON. A lone surrogate, which UTF-8 cannot hold, is escaped; what JSON has no number for is null.

    Raises:
        TypeError: the value is no JSON.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return _encode(value).encode()


def load(text: bytes | str) -> Any:
    """The value of a JSON text; NaN, infinities and escaped lone surrogates are taken, as some servers send them.

    A whole number beyond 64 bits is a float, as it is for most that read JSON.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text)
