"""Cells in processes of this machine: one process an attempt, so that one that dies takes nothing with it."""

from __future__ import annotations

import math
import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from bench.errors import InputError
from bench.sweep.plan import Cell
from bench.sweep.work import Outcome, in_process


@dataclass(frozen=True)
class _Attempt:
    cell: Cell
    process: BaseProcess
    pipe: Connection
    devices: tuple[int, ...]


class LocalPool:
    """Bounded by cores and GPUs.

    Args:
        cpus: cores to use.
        gpus: GPUs to use, numbered from 0.

    Raises:
        InputError: a cell asks for more than there is (at `room`).
    """

    def __init__(self, cpus: int, gpus: int = 0) -> None:
        self.cpus, self.gpus = cpus, gpus
        self._spawn = multiprocessing.get_context("spawn")
        self._under_way: list[_Attempt] = []

    def room(self, cell: Cell) -> bool:
        """See `bench.sweep.work.Pool`."""
        wants = cell.resources
        if wants.cpus > self.cpus or wants.gpus > self.gpus:
            raise InputError(
                f"{cell.name} asks for {wants.cpus} cores and {wants.gpus:g} GPUs; here are {self.cpus} and {self.gpus}."
            )
        used = sum(attempt.cell.resources.cpus for attempt in self._under_way)
        return used + wants.cpus <= self.cpus and math.ceil(wants.gpus) <= len(self._free_devices())

    def submit(self, cell: Cell) -> None:
        """See `bench.sweep.work.Pool`."""
        devices = tuple(self._free_devices()[: math.ceil(cell.resources.gpus)])
        here, there = self._spawn.Pipe(duplex=False)
        shown = ",".join(map(str, devices)) if self.gpus else None
        process = self._spawn.Process(
            target=in_process, args=(there, cell.config, cell.resources.cpus, shown), daemon=True
        )
        process.start()
        # With the far end closed here, the pipe ends when the worker does.
        there.close()
        self._under_way.append(_Attempt(cell, process, here, devices))

    def wait(self, seconds: float) -> list[tuple[Cell, Outcome]]:
        """See `bench.sweep.work.Pool`."""
        if not self._under_way:
            time.sleep(seconds)
        ready = wait([attempt.pipe for attempt in self._under_way], seconds)
        ended = [attempt for attempt in self._under_way if attempt.pipe in ready]
        self._under_way = [attempt for attempt in self._under_way if attempt.pipe not in ready]
        return [(attempt.cell, _outcome(attempt)) for attempt in ended]

    def close(self) -> None:
        """See `bench.sweep.work.Pool`."""
        for attempt in self._under_way:
            attempt.process.terminate()
        for attempt in self._under_way:
            attempt.process.join()
        self._under_way = []

    def _free_devices(self) -> list[int]:
        taken = {device for attempt in self._under_way for device in attempt.devices}
        return [device for device in range(self.gpus) if device not in taken]


def _outcome(attempt: _Attempt) -> Outcome:
    try:
        outcome: Outcome = attempt.pipe.recv()
    except (EOFError, OSError):
        attempt.process.join()
        return Outcome("died", f"its process ended with code {attempt.process.exitcode}")
    attempt.process.join()
    return outcome
