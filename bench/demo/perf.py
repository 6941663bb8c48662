"""`bench perf demo`: milliseconds of a request to the demo, every one of them new, on one core."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.demo.conversation import Conversation, Desk
from bench.demo.loading import DEFAULT_MODELS, open_desk
from bench.progress import SilentProgress
from bench.rng import named_generator

AIM_MS = 50.0
CLICKED, LONG = 20, 200
WARM_UP = 10
PHRASES = ("something like {}, evening {}", "but nothing like {}, evening {}")


def run(
    *,
    seconds: float = 30.0,
    rounds: int = 5,
    full: bool = False,
    dataset: str = "mini",
    data_dir: str = "",
    out: str = "results",
) -> dict[str, Any]:
    """Time requests whose words nobody has said before, with one thread, from the request to the three lists.

    All recommenders of the demo are asked one after another, and the new encodings are written to the disk; a request that
    was made before takes less. What the browser and the way to it take is not in it. On a machine that does other work as
    well, the processor's time says more than the clock.

    Args:
        seconds: how long to measure; half of it goes to first requests, half to second ones, which compose with a first.
        rounds: least number of requests of each kind.
        full: histories of 200 items, all that the default models read, not of 20.
        dataset: a registered dataset.
        data_dir: folder with its files.
        out: folder of results, where fitted models are looked for.

    Returns:
        `p50_ms`, `p95_ms`, and of the processor `cpu_p50_ms` and `cpu_p95_ms`, of first requests; `second_p95_ms` and
        `second_cpu_p95_ms` of second ones; `requests` of each kind at least, `aim_ms` (50).
    """
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="bench-perf-") as cache:
        # Encodings of earlier sessions would make requests faster than a person's first ones are.
        os.environ["BENCH_CACHE_DIR"] = cache
        desk = open_desk(dataset, Path(data_dir) if data_dir else None, DEFAULT_MODELS, Path(out), SilentProgress())
        talks = _talks(desk, LONG if full else CLICKED)
        for _ in range(WARM_UP):
            _second(desk, next(talks))
        first = _many(lambda: _timed(desk, next(talks)), seconds / 2, rounds)
        second = _many(lambda: _second(desk, next(talks)), seconds / 2, rounds)
    p50, p95 = np.percentile(first, [50, 95], axis=0).tolist()
    return {
        "requests": min(len(first), len(second)),
        "p50_ms": p50[0],
        "p95_ms": p95[0],
        "cpu_p50_ms": p50[1],
        "cpu_p95_ms": p95[1],
        "second_p95_ms": float(np.percentile(second, 95, axis=0)[0]),
        "second_cpu_p95_ms": float(np.percentile(second, 95, axis=0)[1]),
        "aim_ms": AIM_MS,
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def _talks(desk: Desk, length: int) -> Iterator[Conversation]:
    """Random histories, each with one request that was never made before."""
    draws, titles = named_generator(0, "demo requests"), desk.catalogue.titles
    for number in draws.permutation(1_000_000):
        history = draws.choice(len(titles), min(length, len(titles) // 2), replace=False)
        said = PHRASES[number % 2].format(titles[number % len(titles)], number)
        yield Conversation(tuple(map(int, history))).said(said)


def _timed(desk: Desk, talk: Conversation) -> tuple[float, float]:
    """Milliseconds of the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    desk.answer(talk)
    return 1000 * (time.perf_counter() - clock), 1000 * (time.process_time() - processor)


def _second(desk: Desk, talk: Conversation) -> tuple[float, float]:
    desk.answer(talk)
    return _timed(desk, talk.said(f"but not {talk.parts[0]}"))


def _many(measure: Any, seconds: float, least: int) -> list[tuple[float, float]]:
    began = time.monotonic()
    taken: list[tuple[float, float]] = []
    while len(taken) < least or time.monotonic() - began < seconds:
        taken.append(measure())
    return taken
