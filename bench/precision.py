"""In which precision training multiplies: bfloat16 where the hardware has instructions for it, else single precision."""

from __future__ import annotations

import os
from typing import Literal, cast, get_args

from bench.errors import InputError

Precision = Literal["fp32", "bf16"]
VARIABLE = "BENCH_PRECISION"


def resolve_precision(device: str) -> Precision:
    """The precision of the large products in training on a device; weights, sums and optimiser are in single precision anyway.

    Like the device it is no part of a model's identity: it says how a model is trained, not which. The environment variable
    BENCH_PRECISION (fp32 or bf16) decides where it is set.

    Raises:
        InputError: the variable is neither.
    """
    wanted, known = os.environ.get(VARIABLE, ""), get_args(Precision)
    if wanted and wanted not in known:
        raise InputError(f"{VARIABLE}={wanted}: give fp32 or bf16, or leave it out.")
    return cast(Precision, wanted) if wanted else "bf16" if _native(device) else "fp32"


def _native(device: str) -> bool:
    """Whether bfloat16 is multiplied by instructions of its own: emulated, it is slower than single precision."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch has no public name for this yet; without it the answer is the safe one.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(check() for name in checks if (check := getattr(torch.cpu, name, None)) is not None)
