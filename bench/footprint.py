"""What a model takes besides its quality: parameters and training time of its checkpoint, and time for a request."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

# A few requests for the caches and the allocator, then so many one at a time, or as many as fit into the time.
WARM_UP, REQUESTS, SECONDS, FEWEST = 3, 100, 2.0, 10
MARKER = "model.json"


def parameters(checkpoint: Path) -> int:
    """Floating-point numbers in all safetensors files of a checkpoint; a frozen encoder or an LLM is not among them.

    Only the headers are read. Tables that a model keeps (popularity counts, vectors of item texts) count as they are
    stored; a model that stores none has 0.

    Raises:
        OSError, ValueError: a file is not readable.
    """
    return sum(_floats(path) for path in sorted(checkpoint.rglob("*.safetensors")))


def training_seconds(checkpoint: Path) -> float:
    """Wall time of fitting a checkpoint and, each once, those that it is built on (which lie beside it).

    Raises:
        OSError, ValueError, KeyError: a marker is missing or not readable.
    """
    seconds: dict[str, float] = {}
    wanted = [checkpoint.name]
    while wanted:
        key = wanted.pop()
        if key in seconds:
            continue
        marker = json.loads((checkpoint.parent / key / MARKER).read_text("utf-8"))
        seconds[key] = float(marker["fit_seconds"])
        wanted += [part["key"] for part in marker["built_on"]]
    return round(math.fsum(seconds.values()), 3)


def of_checkpoint(checkpoint: Path) -> dict[str, float]:
    """`parameters` and `training_seconds` of a checkpoint, without what cannot be read."""
    found: dict[str, float] = {}
    with suppress(OSError, ValueError):
        found["parameters"] = parameters(checkpoint)
    with suppress(OSError, ValueError, KeyError):
        found["training_seconds"] = training_seconds(checkpoint)
    return found


def batch_latency(batches: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Seconds of a request at p50 and p95 where every request is charged its share of its batch, and the largest batch.

    Args:
        batches: a journal's batch records.
    """
    shares = [(record["seconds"] / n, n) for record in batches if (n := record["stop"] - record["start"]) > 0]
    if not shares:
        return {}
    seconds, sizes = (np.array(column) for column in zip(*sorted(shares), strict=True))
    reached = sizes.cumsum() / sizes.sum()

    def at(share: float) -> float:
        return round(float(seconds[np.searchsorted(reached, share)]), 7)

    return {"batch_p50_s": at(0.5), "batch_p95_s": at(0.95), "batch_size": float(sizes.max())}


def request_latency(rank_one: Callable[[int], object], n: int) -> dict[str, float]:
    """Seconds of requests that are asked one at a time, at p50 and p95, and how many were timed.

    Args:
        rank_one: ranks the example of a number below n.
        n: number of examples; those that are timed lie evenly among them.
    """
    picked = np.unique(np.linspace(0, n - 1, min(n, WARM_UP + REQUESTS)).astype(int)).tolist()
    # Where there are too few to spare some, those of the warm-up are timed as well.
    warm_up, timed = picked[:WARM_UP], picked[WARM_UP:] or picked
    for example in warm_up:
        rank_one(example)
    seconds: list[float] = []
    stop = time.perf_counter() + SECONDS
    for example in timed:
        began = time.perf_counter()
        rank_one(example)
        seconds.append(time.perf_counter() - began)
        if time.perf_counter() > stop and len(seconds) >= FEWEST:
            break
    p50, p95 = np.percentile(seconds, [50, 95])
    return {
        "request_p50_s": round(float(p50), 7),
        "request_p95_s": round(float(p95), 7),
        "requests_timed": len(seconds),
    }


def _floats(path: Path) -> int:
    with path.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return sum(
        math.prod(tensor["shape"])
        for name, tensor in header.items()
        if name != "__metadata__" and tensor["dtype"].startswith(("F", "BF"))
    )
