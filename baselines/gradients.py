"""Adding up the gradients of several processes, each of which computed its share of a batch."""

from __future__ import annotations

import torch

from bench import parallel


def add_up(parameters: list[torch.nn.Parameter], loss: torch.Tensor) -> torch.Tensor:
    """Replace every gradient by its sum over the processes, and return the sum of their losses.

    One message carries all: the gradients, whether each parameter had one (one that no process used keeps None, so that the
    optimiser passes over it as in a single process), and the loss.

    Args:
        parameters: the same in every process.
        loss: a scalar, this process's share.
    """
    parallel.join()
    used = torch.tensor([p.grad is not None for p in parameters], dtype=loss.dtype, device=loss.device)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([loss.reshape(1), used, *(gradient.reshape(-1) for gradient in gradients)])
    torch.distributed.all_reduce(flat)
    total, used, rest = flat[0], flat[1 : 1 + len(parameters)].cpu(), flat[1 + len(parameters) :]
    at = 0
    for number, parameter in enumerate(parameters):
        size = parameter.numel()
        parameter.grad = rest[at : at + size].view_as(parameter).clone() if used[number] else None
        at += size
    return total
