"""Several processes that train together, as `torchrun` and `accelerate launch` start them: who is who, and how they agree.

Rank 0 does all that a single process does. The others lend their hands where a model is fitted and leave no trace: no
journal, no checkpoint, no output. One process alone never loads any of this.
"""

from __future__ import annotations

import os
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

from bench.errors import InputError

T = TypeVar("T")

# Rank 0 prepares data and validates while the others wait.
PATIENCE = timedelta(days=1)


def world() -> int:
    """How many processes there are; 1 where no launcher started this one.

    Raises:
        InputError: the launcher's variables are no numbers.
    """
    return _number("WORLD_SIZE", 1)


def rank() -> int:
    """Which of them this is; 0 is the one that writes."""
    return _number("RANK", 0) if world() > 1 else 0


def agree(value: T) -> T:
    """Rank 0's value, in every process. All of them must call this at the same place; alone it is the value itself.

    Raises:
        InputError: accelerate is not installed.
    """
    if world() == 1:
        return value
    shared = [value]
    join()
    import torch.distributed

    torch.distributed.broadcast_object_list(shared, src=0)
    return shared[0]


@cache
def join() -> Any:
    """Accelerate's state of this process, joined to the others: gloo on processors, NCCL on GPUs.

    Raises:
        InputError: accelerate is not installed.
    """
    try:
        from accelerate import PartialState
    except ImportError:
        raise InputError(
            "training in several processes needs accelerate: pip install 'promptrec-bench[train]'."
        ) from None
    import torch

    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdigit():
        raise InputError(f"the environment variable {name} must be a number, not {text!r}: start with torchrun.")
    return int(text)
