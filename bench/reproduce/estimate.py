"""How long a run will take, from what earlier runs and trainings in the same folder of results took.

Where nothing was measured the stated defaults hold. They are those of MovieLens-1M on two CPU cores, scaled to the number
of events: what a plan is for is telling minutes from hours.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

from bench import journal, registry
from bench.errors import CheckError, InputError
from bench.runs import JOURNAL, MODELS, RUNS
from bench.store import MARKER

Source = Literal["done", "trained", "shared", "measured", "similar", "default"]

ML_1M_EVENTS = 1_000_153
# Seconds of training on MovieLens-1M by the beginning (or the end) of a model's name; the first that fits holds.
TRAINING_DEFAULTS: tuple[tuple[str, float], ...] = (
    ("reclm_gen", 8 * 3600.0),
    ("recgpt", 60.0),
    ("filter_", 1.0),
    ("text_retrieval", 60.0),
    ("zero_shot", 60.0),
    ("rerank_", 1.0),
    ("popularity", 1.0),
    ("random", 1.0),
    ("dpr_", 1700.0),
    ("_fa", 900.0),
    ("_f", 900.0),
    ("bert4rec", 2400.0),
    ("", 1300.0),
)
# Examples ranked in a second, by whether the model reads prompts.
RATE_DEFAULTS = {True: 250.0, False: 800.0}
# Language models of seven billion weights on one H200, reckoned from their operations at 300 TFLOP/s and 30 ms a decoding
# step, not measured: hours of training on MovieLens-1M by stage, and examples ranked in a second.
GPU_HOURS = {"reclm_gen": 8.0, "reclm_gen rl": 13.0, "recgpt": 0.0}
GPU_RATES = {"reclm_gen": 7.0, "recgpt": 4.0}
# The same for those that ask a language model: 64 requests under way, sixteen seconds each.
ASKING_RATE = 4.0


@dataclass(frozen=True)
class Guess:
    """Seconds, and where they come from."""

    seconds: float
    source: Source


@dataclass
class Timings:
    """What was measured: training seconds by model, and ranking rates (examples a second) by model and task."""

    trained: set[str] = field(default_factory=set)
    fits: dict[tuple[str, str], list[tuple[dict[str, Any], float]]] = field(default_factory=lambda: defaultdict(list))
    rates: dict[tuple[str, str, str], list[tuple[str, float]]] = field(default_factory=lambda: defaultdict(list))
    sizes: dict[tuple[str, str, int | None], int] = field(default_factory=dict)

    def training(self, name: str, key: str, dataset: str, settings: dict[str, Any], events: int) -> Guess:
        """Seconds of training a model; 0 where its checkpoint (`key`) is there."""
        if key in self.trained:
            return Guess(0.0, "trained")
        known = self.fits.get((name, dataset), [])
        same = [seconds for values, seconds in known if values == settings]
        if same or known:
            return Guess(
                median(same or [seconds for _, seconds in known]),
                "measured" if same else "similar",
            )
        default = next(
            seconds
            for part, seconds in TRAINING_DEFAULTS
            if (name.endswith(part) if part[:1] == "_" else name.startswith(part))
        )
        return Guess(default * events / ML_1M_EVENTS, "default")

    def ranking(
        self, name: str, task: str, dataset: str, condition: str, examples: int, reads: bool, llm: str | None = None
    ) -> Guess:
        """Seconds of ranking `examples` examples; `llm` is the name of the language model that is asked."""
        name = _contestant(name, llm)
        known = self.rates.get((name, task, dataset), [])
        same = [rate for kind, rate in known if kind == condition]
        if same or known:
            rate = median(same or [rate for _, rate in known])
            return Guess(examples / rate, "measured" if same else "similar")
        rate = ASKING_RATE if llm is not None else GPU_RATES.get(name, RATE_DEFAULTS[reads])
        return Guess(examples / rate, "default")


def on_gpu(model: str, settings: dict[str, Any]) -> str:
    """How long a language model of seven billion weights takes on a GPU, as a person says it."""
    stage = settings.get("stage")
    hours = GPU_HOURS.get(f"{model} {stage}", GPU_HOURS[model])
    training = f"{hours:.0f} h of training on MovieLens-1M and " if hours else ""
    return f"{training}{1000 / GPU_RATES[model] / 60:.0f} min of ranking for 1,000 examples"


def read_timings(out: Path) -> Timings:
    """Read the journals of runs, finished or not, and the markers of checkpoints; what is not readable is passed over."""
    timings = Timings()
    for path in sorted((out / MODELS).glob(f"*/{MARKER}")):
        try:
            marker = json.loads(path.read_text("utf-8"))
            pair = (marker["settings"], float(marker["fit_seconds"]))
            timings.fits[marker["name"], marker["dataset"]].append(pair)
            if all(_current(part) for part in marker["built_on"]):
                timings.trained.add(marker["key"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    for path in sorted((out / RUNS).glob(f"*/{JOURNAL}")):
        try:
            _read_run(journal.read(path), timings)
        except (InputError, CheckError, KeyError, TypeError):
            continue
    return timings


def ranked_share(path: Path) -> float:
    """The share of an interrupted run's examples that is ranked, from its journal; 0 where there is none."""
    try:
        history = journal.read(path)
    except (InputError, CheckError):
        return 0.0
    if history.start is None:
        return 0.0
    done = sum(record["stop"] - record["start"] for record in history.batches)
    return float(min(1.0, done / max(1, history.start["about"]["examples"])))


def _contestant(model: str, llm: str | None) -> str:
    return model if llm is None else f"{model} {llm}"


def _current(part: dict[str, Any]) -> bool:
    """Whether what a checkpoint was built on still has the version of then; if not, the checkpoint is trained again."""
    try:
        version: int = registry.get("models", part["name"]).card.version
    except (InputError, CheckError):
        return False
    return version == part["version"]


def _read_run(history: journal.Journal, timings: Timings) -> None:
    if history.start is None:
        return
    about = history.start["about"]
    timings.sizes[about["task"], about["dataset"], about["limit"]] = int(about["examples"])
    ranked = sum(record["stop"] - record["start"] for record in history.batches)
    seconds = sum(record["seconds"] for record in history.batches)
    if ranked and seconds > 0:
        rate = (str(about["condition"]), ranked / seconds)
        name = _contestant(about["model"], (about.get("llm") or {}).get("name"))
        timings.rates[name, about["task"], about["dataset"]].append(rate)
