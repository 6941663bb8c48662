"""Shared fixtures: the embedded dataset, a hand-sized one, and a fit context that keeps nothing but a scratch folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Tests run side by side, one thread each: two-threaded products that share two cores wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The same numbers whatever the processor; what bf16 changes has tests of its own.
os.environ.setdefault("BENCH_PRECISION", "fp32")

import hypothesis
import numpy as np
import pytest

from bench.cards import DatasetCard
from bench.contracts import Catalogue, Dataset, Ragged, Recommender
from bench.precision import resolve_precision
from bench.progress import SilentProgress

# A busy machine is no error of what is tested.
hypothesis.settings.register_profile(
    "patient",
    hypothesis.settings(),
    deadline=None,
    suppress_health_check=[*hypothesis.settings().suppress_health_check, hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("patient")

REPOSITORY = Path(__file__).resolve().parents[1]


def small_dataset(users: int = 60, items: int = 40, labels: int = 5, seed: int = 0, tags: bool = True) -> Dataset:
    """Random events without repeats; item v has label v % labels and, every third item, one more."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(items)[: rng.integers(12, 36)] for _ in range(users)]
    events = Ragged.of(rows)
    lengths = events.lengths
    own = [[v % labels] + ([(v + 1) % labels] if v % 3 == 0 else []) for v in range(items)]
    names = ("Action", "Comedy", "Drama", "Horror", "Western", "Mystery", "War")[:labels]

    def said(kind: str) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(f"{kind} {part} of number {v}" for part in ("plot", "mood", "appeal")) for v in range(items))

    catalogue = Catalogue(
        tuple(map(str, range(items))),
        tuple(f"Title {v}" for v in range(items)),
        tuple(f"A film called number {v}" for v in range(items)),
        names,
        Ragged.of(own),
        said("told") if tags else (),
        said("asked") if tags else (),
    )
    card = DatasetCard(name="small", summary="random", domain="film", source="made up", windows=(1, 2))
    return Dataset(
        card, catalogue, tuple(map(str, range(users))), events, lengths * 7 // 10, lengths * 8 // 10, "small"
    )


class ScratchContext:
    """A fit context for tests: fits nested models on the spot."""

    def __init__(self, scratch: Path, seed: int = 0, device: str = "cpu") -> None:
        self.scratch, self.seed, self.device, self.progress = scratch, seed, device, SilentProgress()
        self.precision = resolve_precision(device)
        scratch.mkdir(parents=True, exist_ok=True)

    def fitted(self, name: str, dataset: Dataset, settings: dict[str, Any]) -> Recommender:
        from bench import registry

        entry = registry.get("models", name)
        model: Recommender = entry(entry.Settings.parse(name, settings), self.device)
        model.fit(dataset, ScratchContext(self.scratch / name, self.seed, self.device))
        return model


@pytest.fixture
def small() -> Dataset:
    return small_dataset()


@pytest.fixture
def context(tmp_path: Path) -> ScratchContext:
    return ScratchContext(tmp_path / "scratch")


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process: exit code, and what stands on stdout and stderr."""
    from bench.cli import main

    def call(*arguments: Any) -> tuple[int, str, str]:
        code = main.main([*map(str, arguments)])
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    return call
