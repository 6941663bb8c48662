"""Randomness from one seed through named streams, never from global state.

What defines an evaluation (which target, which genre, which template) must be the same on any machine and under any numpy
release, so those draws use the raw output of PCG64, whose stream numpy promises to keep; the methods of `Generator` carry
no such promise and are for training only.
"""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt


def _sequence(seed: int, names: tuple[str, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, *(zlib.crc32(name.encode()) for name in names)])


def named_generator(seed: int, *names: str) -> np.random.Generator:
    """A generator for the stream `names` of `seed`; for training, sampling of users and bootstraps."""
    return np.random.Generator(np.random.PCG64(_sequence(seed, names)))


def uniform_draws(seed: int, name: str, n: int) -> npt.NDArray[np.float64]:
    """`n` draws in [0, 1) with 53 random bits each, float64 [n]: the same on every platform and numpy release."""
    raw = np.random.PCG64(_sequence(seed, (name,))).random_raw(n)
    return (np.asarray(raw, np.uint64) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def pick(draws: npt.NDArray[np.float64], counts: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Turn draws in [0, 1) into uniform indices below `counts` (each at least 1), int64."""
    return np.minimum((draws * counts).astype(np.int64), counts - 1)
