"""Train the offline router and report its accuracy: `python -m dpr.router_train`.

Writes `weights.safetensors` and `report.json` into the pool folder. The temperature is fitted on the dev pool; the
held-out pool is only measured. With more than one core, train the members side by side and put them together afterwards:

    python -m dpr.router_train --folder DIR --member 1
    python -m dpr.router_train --folder DIR --member 2
    python -m dpr.router_train --folder DIR --merge
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from baselines.encoders import PackagedMiniLM
from bench.atomic import atomic_write
from bench.contracts import Progress
from bench.errors import CheckError
from bench.progress import for_terminal
from dpr.router import WEIGHTS
from dpr.router_prompts import DIFFICULTIES, POOL, Pool, dev_tags, pool_sha256, read_pool, training_prompts

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
    return {
        difficulty: _accuracy(right[np.array([found == difficulty for found in pool.difficulty])])
        for difficulty in DIFFICULTIES
    }


def _accuracy(right: npt.NDArray[np.bool_]) -> dict[str, Any]:
    n, hits = len(right), int(right.sum())
    low, high = wilson_interval(hits, n)
    return {"n": n, "right": hits, "accuracy": round(hits / n, 4), "wilson_95": [round(low, 4), round(high, 4)]}


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


def member_file(folder: Path, seed: int) -> Path:
    """Where a member trained on its own is kept; the name tells the pool, so that no member of another pool is merged."""
    return folder / f"router-{pool_sha256()[:16]}-member-{seed}.safetensors"


def save_member(seed: int, folder: Path, progress: Progress | None = None) -> Path:
    """Train one member, and return the file that it was written to.

    Raises:
        InputError: the packaged encoder is missing.
    """
    from dpr.router_adapter import save_tensors

    path = member_file(folder, seed)
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(train_member(seed, progress), path)
    return path


def merge(folder: Path) -> dict[str, Any]:
    """Put the members in a folder together, write weights and report, and return the report.

    Raises:
        CheckError: a member is missing, or was trained on another pool.
    """
    from safetensors.torch import load_file

    from dpr.router_adapter import save_tensors

    paths = [member_file(folder, seed) for seed in SEEDS]
    for seed, path in zip(SEEDS, paths, strict=True):
        if not path.is_file():
            raise CheckError(
                f"{path} is missing: train it with python -m dpr.router_train --folder {folder} --member {seed}."
            )
    save_tensors({name: value for path in paths for name, value in load_file(path).items()}, WEIGHTS)
    return report()


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
    tags = dev_tags()
    patterns = read_pool("train")
    measured = {
        "encoder": PackagedMiniLM.identity,
        "pool_sha256": pool_sha256(),
        "seeds": list(SEEDS),
        "patterns": {"positive": int((patterns.polarity > 0).sum()), "negative": int((patterns.polarity < 0).sum())},
        "training_prompts": len(training_prompts()),
        "temperature": fitted_temperature(read_pool("dev"), logits["dev"]),
        "dev": accuracy_by_difficulty(read_pool("dev"), logits["dev"]),
        "dev_tags": _accuracy((model.logits(list(tags.prompts)) >= 0) == (tags.polarity > 0)),
        "heldout": accuracy_by_difficulty(read_pool("heldout"), logits["heldout"]),
    }
    atomic_write(POOL / "report.json", json.dumps(measured, indent=2) + "\n")
    return measured


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and print the report; with `--member` only train that member, with `--merge` only put members together."""
    parser = argparse.ArgumentParser(prog="python -m dpr.router_train", description="Train the offline router.")
    parser.add_argument("--folder", type=Path, help="where members that are trained one at a time are kept")
    step = parser.add_mutually_exclusive_group()
    step.add_argument("--member", type=int, choices=SEEDS, help="train only this member, into the folder")
    step.add_argument("--merge", action="store_true", help="put the folder's members together and report")
    chosen = parser.parse_args(arguments)
    if (chosen.folder is None) == (chosen.merge or chosen.member is not None):
        parser.error("--folder goes with --member or --merge, and each of them needs it.")
    with for_terminal() as progress:
        if chosen.member is not None:
            print(save_member(chosen.member, chosen.folder, progress))  # noqa: T201
            return
        measured = merge(chosen.folder) if chosen.merge else train(progress)
    print(json.dumps(measured, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
