"""Cells on a Ray cluster. Every node needs this package, and the folders of results and data under the same paths."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from bench.errors import InputError
from bench.sweep.plan import Cell
from bench.sweep.work import Outcome, carry_out

# Cells hand over a configuration and a few numbers: there is nothing to store.
OBJECT_STORE = 200 << 20
KNOCK_SECONDS = 5.0


class RayPool:
    """Ray queues what does not fit at once; what a dead worker or node leaves is told, and tried again by the scheduler.

    Args:
        address: a running cluster ("auto": the one of this machine, or HOST:PORT); None starts one on this machine.

    Raises:
        InputError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, address: str | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise InputError("--executor ray needs Ray: pip install 'promptrec-bench[cluster]'.") from None
        self._ray: Any = ray
        if address is not None:
            _reach(address)
        own = {"object_store_memory": OBJECT_STORE, "include_dashboard": False} if address is None else {}
        try:
            self._ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **own)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"no Ray cluster at {address or 'this machine'}: {_line(error)}") from None
        # Trying again is the scheduler's: it knows how often, and writes it down.
        self._task = self._ray.remote(max_retries=0)(carry_out)
        self._under_way: dict[Any, Cell] = {}

    def room(self, cell: Cell) -> bool:
        """Always, where some node is large enough.

        Raises:
            InputError: none is.
        """
        wants = cell.resources
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(wants.cpus <= node.get("CPU", 0) and wants.gpus <= node.get("GPU", 0) for node in nodes):
            raise InputError(
                f"{cell.name} asks for {wants.cpus} cores and {wants.gpus:g} GPUs; no node of the cluster has as many."
            )
        return True

    def submit(self, cell: Cell) -> None:
        """See `bench.sweep.work.Pool`."""
        wants = cell.resources
        ref = self._task.options(num_cpus=wants.cpus, num_gpus=wants.gpus, name=cell.run).remote(cell.config)
        self._under_way[ref] = cell

    def wait(self, seconds: float) -> list[tuple[Cell, Outcome]]:
        """See `bench.sweep.work.Pool`."""
        if not self._under_way:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(self._under_way), num_returns=1, timeout=seconds)
        return [(self._under_way.pop(ref), self._outcome(ref)) for ref in ready]

    def close(self) -> None:
        """See `bench.sweep.work.Pool`."""
        for ref in self._under_way:
            self._ray.cancel(ref, force=True)
        self._ray.shutdown()

    def _outcome(self, ref: Any) -> Outcome:
        errors = self._ray.exceptions
        try:
            outcome: Outcome = self._ray.get(ref)
        except errors.RayTaskError as error:
            return Outcome("failed", _line(error))
        except errors.RayError as error:
            return Outcome("died", f"{type(error).__name__}: {_line(error)}")
        return outcome


def _reach(address: str) -> None:
    """Knock at HOST:PORT, since Ray itself tries for minutes; "auto" is looked up by Ray at once.

    Raises:
        InputError: nobody listens there.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not colon or not port.isdigit():
        raise InputError(f"--address takes auto or HOST:PORT, got {address!r}.")
    try:
        socket.create_connection((host, int(port)), KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster at {address}: {_line(error)}") from None


def _line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0][:300]
