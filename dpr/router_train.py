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


def train(progress: Progress | None = None, seed: int = 0) -> dict[str, Any]:
    """Train on the pool, write weights and report, and return the report. Takes some minutes on one core.

    Raises:
        InputError: the packaged encoder is missing.
    """
    from dpr.router_adapter import PolarityModel, fit_adapter, save_tensors

    pool = training_prompts()
    save_tensors(fit_adapter(list(pool.prompts), pool.polarity, seed=seed, progress=progress), WEIGHTS)
    model = PolarityModel.load(WEIGHTS)
    logits = {name: model.logits(list(read_pool(name).prompts)) for name in ("dev", "heldout")}
    patterns = read_pool("train")
    report = {
        "encoder": PackagedMiniLM.identity,
        "pool_sha256": pool_sha256(),
        "seed": seed,
        "patterns": {"positive": int((patterns.polarity > 0).sum()), "negative": int((patterns.polarity < 0).sum())},
        "training_prompts": len(pool),
        "temperature": fitted_temperature(read_pool("dev"), logits["dev"]),
        "dev": accuracy_by_difficulty(read_pool("dev"), logits["dev"]),
        "heldout": accuracy_by_difficulty(read_pool("heldout"), logits["heldout"]),
    }
    atomic_write(POOL / "report.json", json.dumps(report, indent=2) + "\n")
    return report


def main() -> None:
    """Train and print the report."""
    with for_terminal() as progress:
        report = train(progress)
    print(json.dumps(report, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
