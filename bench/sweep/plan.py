"""From a grid to cells: each is a run with its identity, what it trains, how far it is and how long it will take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench import language, registry, runner, scoring
from bench.contracts import Dataset, Progress
from bench.errors import CheckError, InputError
from bench.reproduce import estimate
from bench.reproduce.estimate import Timings
from bench.runner import RunConfig
from bench.runs import JOURNAL, MODELS, finished
from bench.store import MARKER, Wanted
from bench.sweep.grid import Grid, Resources

Status = Literal["done", "begun", "new"]


@dataclass(frozen=True)
class Cell:
    """One run of the grid. `trainings` are the keys of the fitted models that it needs, `seconds` the guess for what is left."""

    config: RunConfig
    resources: Resources
    run: str
    directory: Path
    condition: str
    protocol: str
    status: Status
    trainings: frozenset[str]
    seconds: float

    @property
    def name(self) -> str:
        """The cell as a person says it."""
        strict = ", strict" if self.protocol == "strict" else ""
        told = "" if self.condition == "none" else f" [{self.condition}{strict}]"
        llm = "" if self.config.llm is None else f" with {self.config.llm}"
        own = "".join(f" {key}={value}" for key, value in sorted(self.config.settings.items()))
        return (
            f"{self.config.model}{own}{llm} on {self.config.task}{told}, {self.config.dataset}, seed {self.config.seed}"
        )


def plan_cells(grid: Grid, out: Path, progress: Progress) -> list[Cell]:
    """Every cell, those that train the least first, so that what several share is trained by the simplest of them.

    Raises:
        InputError: a wrong name, setting or flag in any cell; nothing has been run then.
        CheckError: a plugin does not load.
    """
    timings = estimate.read_timings(out)
    loaded: dict[tuple[str, Path | None], Dataset] = {}
    cells: dict[str, Cell] = {}
    counted: set[str] = set()
    for config, resources in grid.configs(out):
        where = (config.dataset, config.data_dir)
        if where not in loaded:
            loaded[where] = scoring.load_dataset(config.dataset, config.data_dir, progress)
        cell = _cell(config, resources, loaded[where], timings, counted, progress)
        # Two combinations may come to the same run: a filter that ignores a setting, a name that stands twice.
        cells.setdefault(cell.run, cell)
    return sorted(cells.values(), key=lambda cell: len(cell.trainings))


def _cell(
    config: RunConfig,
    resources: Resources,
    dataset: Dataset,
    timings: Timings,
    counted: set[str],
    progress: Progress,
) -> Cell:
    try:
        with language.opened(config, progress, send=False) as llm:
            plan = runner.make_plan(config, progress, llm, dataset)
    except InputError as error:
        raise InputError(f"{config.model} on {config.task} ({config.dataset}): {error}") from None
    done = finished(plan.directory, plan.identity) is not None
    begun = (plan.directory / JOURNAL).is_file()
    wanted = list(trained_for(plan))
    seconds = 0.0 if done else _seconds(plan, wanted, timings, counted)
    return Cell(
        config,
        resources,
        plan.run,
        plan.directory,
        plan.condition,
        plan.protocol,
        "done" if done else "begun" if begun else "new",
        frozenset(part.key for part in wanted),
        seconds,
    )


def trained_for(plan: runner.Plan) -> Iterator[Wanted]:
    """The fitted models that a run needs: its own, then those that it stands on, as far as their settings can be told."""
    name, model, settings = plan.config.model, plan.model, plan.model_settings
    while True:
        yield Wanted(name, model, settings, plan.dataset, plan.config.seed, "cpu")
        if not hasattr(model, "built_on"):
            return
        below = model.built_on(settings.model_dump(mode="json"))
        if not below:
            return
        name = below[0]
        model = registry.get("models", name)
        # What stands on another model keeps that one's settings in groups of the same names, or, for a plain backbone, in one.
        values = settings.model_dump(mode="json")
        inner = values.get("backbone") or {}
        groups = {key: values[key] for key in values if model.Settings.has(key) and isinstance(values[key], dict)}
        own = groups or model.Settings.fitting(inner)
        try:
            settings = model.Settings.parse(name, own)
        except (InputError, CheckError):
            return


def _seconds(plan: runner.Plan, wanted: list[Wanted], timings: Timings, counted: set[str]) -> float:
    """Training that cells share is counted once."""
    seconds = 0.0
    for part in wanted:
        if part.key in timings.trained:
            break
        if part.key not in counted:
            counted.add(part.key)
            events = len(plan.dataset.events.values)
            seconds += timings.training(part.name, part.key, plan.dataset.name, part.trained_settings, events).seconds
    config, users = plan.config, len(plan.dataset.user_ids)
    windows = len(getattr(plan.task_settings, "windows", None) or (1,))
    examples = timings.sizes.get((config.task, config.dataset, config.limit)) or windows * min(
        users, config.limit or users
    )
    reads = plan.condition not in ("none", "oracle")
    llm = None if plan.llm is None else plan.llm["name"]
    guess = timings.ranking(config.model, config.task, config.dataset, plan.condition, examples, reads, llm)
    return seconds + guess.seconds * (1.0 - estimate.ranked_share(plan.directory / JOURNAL))


def fitted_keys(out: Path) -> set[str]:
    """Keys of the models that lie complete under OUT."""
    return {path.parent.name for path in (out / MODELS).glob(f"*/{MARKER}")}
