"""Train the offline router and report its accuracy: `python -m dpr.router_train`.

Writes `weights.safetensors` and `report.json` into the pool folder. The temperature is fitted on the dev pool; the
held-out pool is only measured.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from baselines.encoders import PackagedMiniLM
from bench.atomic import atomic_write
from bench.contracts import Progress
from bench.progress import for_terminal
from dpr.router import WEIGHTS
from dpr.router_prompts import DIFFICULTIES, POOL, Pool, pool_sha256, read_pool, training_prompts

SEEDS = (1, 2)
# The normal quantile of a two-sided 95 % interval.
_Z = 1.959963984540054


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, as two shares in 0 to 1 (Wilson 1927)."""
    share, spread = right / n, _Z**2 / n
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def accuracy_by_difficulty(pool: Pool, logits: npt.NDArray[Any]) -> dict[str, dict[str, Any]]:
    """For every difficulty: number of prompts, number right, accuracy and its 95 % interval."""
    right = (logits >= 0) == (pool.polarity > 0)
    table = {}
    for difficulty in DIFFICULTIES:
        rows = np.array([found == difficulty for found in pool.difficulty])
        n, hits = int(rows.sum()), int(right[rows].sum())
        low, high = wilson_interval(hits, n)
        table[difficulty] = {
            "n": n,
            "right": hits,
            "accuracy": round(hits / n, 4),
            "wilson_95": [round(low, 4), round(high, 4)],
        }
    return table


def fitted_temperature(pool: Pool, logits: npt.NDArray[Any]) -> float:
    """The temperature that makes the pool's answers likeliest, searched between 0.5 and 10."""
    margins = logits.astype(np.float64) * pool.polarity
    grid = np.geomspace(0.5, 10, 200)
    losses = [np.logaddexp(0, -margins / temperature).mean() for temperature in grid]
    return round(float(grid[int(np.argmin(losses))]), 3)


def train_member(seed: int, progress: Progress | None = None) -> dict[str, Any]:
    """Tensors of one member, under its prefix. Takes some minutes on one core."""
    from dpr.router_adapter import fit_adapter

    pool = training_prompts()
    fitted = fit_adapter(list(pool.prompts), pool.polarity, seed=seed, progress=progress)
    return {f"{seed}/{name}": value for name, value in fitted.items()}


def train(progress: Progress | None = None) -> dict[str, Any]:
    """Train every member, write weights and report, and return the report.

    Raises:
        InputError: the packaged encoder is missing.
    """
    from dpr.router_adapter import save_tensors

    members = [train_member(seed, progress) for seed in SEEDS]
    save_tensors({name: value for member in members for name, value in member.items()}, WEIGHTS)
    return report()


def report() -> dict[str, Any]:
    """Measure the weights that are there on both pools, write `report.json`, and return it."""
    from dpr.router_adapter import PolarityModels

    model = PolarityModels.load(WEIGHTS)
    logits = {name: model.logits(list(read_pool(name).prompts)) for name in ("dev", "heldout")}
    patterns = read_pool("train")
    measured = {
        "encoder": PackagedMiniLM.identity,
        "pool_sha256": pool_sha256(),
        "seeds": list(SEEDS),
        "patterns": {"positive": int((patterns.polarity > 0).sum()), "negative": int((patterns.polarity < 0).sum())},
        "training_prompts": len(training_prompts()),
        "temperature": fitted_temperature(read_pool("dev"), logits["dev"]),
        "dev": accuracy_by_difficulty(read_pool("dev"), logits["dev"]),
        "heldout": accuracy_by_difficulty(read_pool("heldout"), logits["heldout"]),
    }
    atomic_write(POOL / "report.json", json.dumps(measured, indent=2) + "\n")
    return measured


def main() -> None:
    """Train and print the report."""
    with for_terminal() as progress:
        measured = train(progress)
    print(json.dumps(measured, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
