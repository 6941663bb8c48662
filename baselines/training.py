"""The training loop of every model trained by gradient here: epochs, schedule, early stopping, resumable at epoch boundaries.

Randomness of epoch e comes from the streams (seed, name, e) alone, so a run that was killed and goes on from its last
checkpoint meets the same batches and dropout masks as one that was not.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from baselines.gradients import add_up
from bench import parallel
from bench.atomic import atomic_path
from bench.contracts import FitContext
from bench.rng import named_generator

Batch = Any
# Rank and number of processes to this process's rows of a batch (None: it has none) and their share of the loss.
Share = Callable[[Batch, int, int], tuple[Batch | None, float]]


@dataclass(frozen=True)
class Steps:
    """An epoch's batches, `count` of them, each made when its turn comes: an epoch is never in memory as a whole."""

    count: int
    made: Iterator[Batch]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        return self.made


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Linear warm-up over `warmup` steps, then a cosine to zero over `epochs`; training stops early when the validation value
    has not risen for `patience` epochs.
    """

    epochs: int
    learning_rate: float
    warmup: int = 200
    patience: int = 10
    weight_decay: float = 0.0
    clip: float = 5.0


@dataclass
class Progressed:
    """Where training stands at an epoch boundary; `log` has one record an epoch."""

    epoch: int = 0
    step: int = 0
    best: float = -math.inf
    best_epoch: int = -1
    done: bool = False
    log: list[dict[str, float]] | None = None


class Loop:
    """Trains `net` until the schedule ends; leaves the weights of the best validation epoch in it.

    Args:
        name: names the checkpoint in the scratch folder, the random streams and the progress bar.
        net: what is trained.
        groups: parameter groups for AdamW; a group's `lr` is relative to the schedule (1 is the full rate).
        batches: epoch and generator to the epoch's batches.
        loss: one batch to its scalar loss.
        validate: the value to maximise, called without gradients in evaluation mode.
        share: divides a batch among processes; without it every process computes the whole of it.

    In several processes (`bench.parallel`) each draws the same batches and computes its share; the gradients are added up, so
    the losses and weights are those of one process up to rounding. Only dropout differs: its masks are drawn row by row, and
    every process has a stream of its own. Rank 0 validates and writes checkpoints, all go on from them.
    """

    def __init__(
        self,
        name: str,
        net: torch.nn.Module,
        *,
        schedule: Schedule,
        batches: Callable[[int, np.random.Generator], Steps],
        loss: Callable[[Batch], torch.Tensor],
        validate: Callable[[], float],
        context: FitContext,
        groups: list[dict[str, Any]] | None = None,
        share: Share | None = None,
    ) -> None:
        self.share = share
        self.name, self.net, self.schedule, self.context = name, net, schedule, context
        self.batches, self.loss, self.validate = batches, loss, validate
        groups = groups or [{"params": [p for p in net.parameters() if p.requires_grad]}]
        self.scales = [group.get("lr", 1.0) for group in groups]
        self.optimizer = torch.optim.AdamW(
            groups, lr=schedule.learning_rate, betas=(0.9, 0.98), weight_decay=schedule.weight_decay, fused=True
        )
        self.at, self.best_state = Progressed(log=[]), _copy(net)
        self.total_steps = 0

    def run(self) -> list[dict[str, float]]:
        """Train to the end and return the log, a record an epoch: loss, validation value, seconds, positions."""
        keep_memory()
        if parallel.world() > 1:
            # A launcher that quietly started one process is told by the missing line.
            self.context.progress.note(f"{self.name}: trained by {parallel.world()} processes")
        self._resume()
        advance = self.context.progress.track(self.name, self.schedule.epochs, self.at.epoch)
        while not self.at.done and self.at.epoch < self.schedule.epochs:
            self._epoch()
            if parallel.rank() == 0:
                self._checkpoint()
            advance(1)
        advance(self.schedule.epochs - self.at.epoch)
        self.net.load_state_dict(self.best_state)
        return list(self.at.log or [])

    def _epoch(self) -> None:
        epoch, started = self.at.epoch, time.perf_counter()
        batches = self.batches(epoch, named_generator(self.context.seed, self.name, f"epoch {epoch}"))
        self.total_steps = self.total_steps or len(batches) * self.schedule.epochs
        losses = torch.zeros((), dtype=torch.float64)
        own = (f"rank {parallel.rank()}",) if parallel.rank() and self.share is not None else ()
        with seeded(self.context.seed, self.name, f"dropout {epoch}", *own, device=self.context.device):
            self.net.train()
            for batch in batches:
                self._set_rate()
                self.optimizer.zero_grad(set_to_none=True)
                loss = self._backward(batch)
                torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.schedule.clip)
                self.optimizer.step()
                losses += loss.detach().double().cpu()
                self.at.step += 1
        trained = time.perf_counter() - started
        self.net.eval()
        with torch.inference_mode():
            value = parallel.agree(0.0 if parallel.rank() else self.validate())
        record = {"epoch": epoch, "loss": float(losses) / max(len(batches), 1), "validation": value, "seconds": trained}
        assert self.at.log is not None
        self.at.log.append(record)
        if value > self.at.best:
            self.at.best, self.at.best_epoch, self.best_state = value, epoch, _copy(self.net)
        self.at.epoch += 1
        self.at.done = epoch - self.at.best_epoch >= self.schedule.patience or self.at.epoch >= self.schedule.epochs
        if not math.isfinite(record["loss"]):
            raise FloatingPointError(
                f"{self.name}: the loss is {record['loss']} after epoch {epoch}; lower the learning rate."
            )

    def _backward(self, batch: Batch) -> torch.Tensor:
        """The loss of a batch; leaves its gradients in the network, in every process the same."""
        processes = parallel.world()
        if processes == 1 or self.share is None:
            loss = self._loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss
        part, weight = self.share(batch, parallel.rank(), processes)
        loss = torch.zeros((), device=self.context.device)
        if part is not None:
            loss = self._loss(part) * weight
            loss.backward()  # type: ignore[no-untyped-call]
        return add_up(list(self.net.parameters()), loss.detach())

    def _loss(self, batch: Batch) -> torch.Tensor:
        # On a CPU only the products with the catalogue gain by bf16 (`Backbone.precision`): the encoder's are as fast without.
        half = self.context.precision == "bf16" and self.context.device.startswith("cuda")
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            return self.loss(batch)

    def _set_rate(self) -> None:
        warm = min(1.0, (self.at.step + 1) / max(self.schedule.warmup, 1))
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, self.at.step / max(self.total_steps, 1))))
        for group, scale in zip(self.optimizer.param_groups, self.scales, strict=True):
            group["lr"] = self.schedule.learning_rate * scale * warm * fall

    @property
    def _path(self) -> Path:
        return self.context.scratch / f"{self.name.replace(' ', '-')}.safetensors"

    def _checkpoint(self) -> None:
        tensors = {f"net/{key}": value for key, value in self.net.state_dict().items()}
        tensors |= {f"best/{key}": value for key, value in self.best_state.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{key}": value for key, value in state.items()}
        record = json.dumps(asdict(self.at) | {"total_steps": self.total_steps})
        with atomic_path(self._path) as temporary:
            save_file({key: value.contiguous() for key, value in tensors.items()}, temporary, {"state": record})

    def _resume(self) -> None:
        if not parallel.agree(self._path.is_file()):
            return
        from safetensors import safe_open

        with safe_open(self._path, "pt") as file:
            record = json.loads(file.metadata()["state"])
        tensors = load_file(self._path, device=self.context.device)
        self.total_steps = record.pop("total_steps")
        self.at = Progressed(**record)
        part = lambda prefix: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}  # noqa: E731
        self.net.load_state_dict(part("net/"))
        self.best_state = part("best/")
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in part("optimizer/").items():
            index, field = key.split("/")
            state.setdefault(int(index), {})[field] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        # Nobody overwrites what another still reads.
        parallel.agree(None)
        self.context.progress.note(f"{self.name}: going on after epoch {self.at.epoch}")


def _copy(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().clone() for key, value in net.state_dict().items()}


@contextlib.contextmanager
def seeded(seed: int, *names: str, device: str = "cpu") -> Iterator[None]:
    """Inside, torch's random numbers come from the named stream; outside, they are as they were."""
    devices: Iterable[int] = range(torch.cuda.device_count()) if device.startswith("cuda") else ()
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(int(named_generator(seed, *names).integers(2**62)))
        yield


def keep_memory() -> None:
    """Ask glibc to keep freed blocks: a training step allocates the same sizes again, and mapping them anew costs time."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)
