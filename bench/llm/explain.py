"""What is in the cache, and why a request is not."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.errors import InputError, unknown_name
from bench.llm.cache import Cache
from bench.llm.keys import differences, key_of_parts


@dataclass(frozen=True)
class Explained:
    """A key, what it is made of, and its entry; where there is none, the nearest entry and the fields that differ."""

    key: str
    parts: dict[str, Any]
    entry: dict[str, Any] | None
    nearest: dict[str, Any] | None
    differing: list[str]


def explain_key(cache: Cache, prefix: str) -> Explained:
    """Explain a key that is in the cache, or the beginning of one.

    Raises:
        InputError: none, or several, begin so.
    """
    found = [entry for entry in cache.entries() if entry["key"].startswith(prefix.lower())]
    if not found:
        raise unknown_name("key in the cache", prefix, [entry["key"][:12] for entry in _few(cache)])
    if len(found) > 1:
        raise InputError(f"{len(found)} keys begin with {prefix}: give more of it.")
    return Explained(found[0]["key"], found[0]["parts"], found[0], None, [])


def explain_parts(cache: Cache, parts: Mapping[str, Any]) -> Explained:
    """Explain a request by its parts, as pending files and cache entries hold them."""
    key = key_of_parts(parts)
    entry = cache.get(key)
    if entry is not None:
        return Explained(key, dict(parts), entry, None, [])
    best = min(cache.entries(), key=lambda other: _distance(parts, other["parts"]), default=None)
    return Explained(key, dict(parts), None, best, differences(parts, best["parts"]) if best else [])


def statistics(cache: Cache) -> dict[str, Any]:
    """Entries, bytes, and per model: entries, failures, tokens, and what was paid where that is known."""
    models: dict[str, dict[str, Any]] = {}
    for entry in cache.entries():
        model, answer = entry["parts"]["model"], entry["answer"]
        name = f"{model['model']} at {model['api_base']}" if model.get("api_base") else str(model["model"])
        row = models.setdefault(
            name, {"entries": 0, "failures": Counter(), "prompt_tokens": 0, "completion_tokens": 0, "price": 0.0}
        )
        usage = answer.get("usage") or [None, None, None]
        row["entries"] += 1
        if answer.get("failure"):
            row["failures"][answer["failure"]] += 1
        row["prompt_tokens"] += usage[0] or 0
        row["completion_tokens"] += usage[1] or 0
        row["price"] = None if row["price"] is None or usage[2] is None else row["price"] + usage[2]
    for row in models.values():
        row["failures"] = dict(row["failures"])
    return {"entries": len(cache), "bytes": cache.size(), "models": models}


def _distance(left: Mapping[str, Any], right: Mapping[str, Any]) -> tuple[int, int]:
    """Fields that differ, and whether the question is another one."""
    found = differences(left, right)
    return len(found), sum(path.startswith("messages") for path in found)


def _few(cache: Cache) -> list[dict[str, Any]]:
    return heapq.nsmallest(5, cache.entries(), key=lambda entry: str(entry["key"]))
