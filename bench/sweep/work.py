"""What a worker does: one run, and what became of it, in a form that travels between processes and machines."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from bench.errors import BusyError
from bench.runner import RunConfig
from bench.sweep.plan import Cell

# died: the worker went away without a word; busy: another process is writing the run.
Ending = Literal["done", "failed", "died", "busy"]


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a cell ended; `metrics` are the headline values of a finished run."""

    ending: Ending
    message: str = ""
    seconds: float = 0.0
    metrics: dict[str, float | None] = field(default_factory=dict)


class Pool(Protocol):
    """Where cells are carried out, side by side."""

    def room(self, cell: Cell) -> bool:
        """Whether the cell can be handed over now."""

    def submit(self, cell: Cell) -> None:
        """Begin, or queue, an attempt at the cell."""

    def wait(self, seconds: float) -> list[tuple[Cell, Outcome]]:
        """What has ended; waits up to so long for the first."""

    def close(self) -> None:
        """End what is under way; finished work is kept."""


def carry_out(config: RunConfig) -> Outcome:
    """Run, or go on with, one configuration; whatever goes wrong is told, not raised."""
    from bench.progress import SilentProgress
    from bench.runner import execute

    began = time.perf_counter()

    def took() -> float:
        return round(time.perf_counter() - began, 3)

    try:
        run = execute(config, SilentProgress())
    except BusyError as error:
        return Outcome("busy", str(error), took())
    except Exception as error:
        kind = "" if type(error).__module__ == "bench.errors" else f"{type(error).__name__}: "
        return Outcome("failed", kind + " ".join(str(error).split()), took())
    return Outcome("done", "", took(), {name: metric.value for name, metric in run.metrics.items()})


def _end_with_the_sweep() -> None:
    sweep = multiprocessing.parent_process()
    assert sweep is not None
    sweep.join()
    # At once, as if it had been killed itself: a run goes on from what is on disk, and a sweep begun anew must not find it busy.
    os._exit(1)


def in_process(pipe: Any, config: RunConfig, threads: int, devices: str | None) -> None:
    """The life of a local worker: set up before torch is loaded, run, tell; it ends with the sweep that began it, however that ends."""
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    pipe.send(carry_out(config))
    pipe.close()
