"""Independent pieces of work, on all cores where there are many of them: a process takes a second or two to start."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

Piece = TypeVar("Piece")
Made = TypeVar("Made")

# Below so many pieces one process is done before others have started; above so many processes they wait for the disk.
ENOUGH, MOST = 200, 8


class Map(Protocol):
    """`map` over one iterable."""

    def __call__(self, make: Callable[[Piece], Made], pieces: Iterable[Piece], /) -> Iterator[Made]:
        """What `make` makes of every piece, in the order of the pieces."""


@contextmanager
def spread(pieces: int, ready: Callable[[], object]) -> Iterator[Map]:
    """A `map` for about so many pieces of work: the plain one, or one over processes.

    What is given to it and what it gives back is sent between processes, so both are plain values and the function is one of a
    module.

    Args:
        pieces: how many there will be.
        ready: called in every process at once, to import what the work needs while the caller prepares it.
    """
    processes = min(os.cpu_count() or 1, MOST)
    if pieces < ENOUGH or processes < 2:
        yield map
        return
    # Not forked: the caller may hold threads and locks.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for _ in range(processes):
            pool.submit(ready)
        yield pool.map
