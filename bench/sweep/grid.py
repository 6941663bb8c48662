"""A grid file: which tasks, models, datasets, seeds and language models are crossed, and what each run may use."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field

from bench import registry
from bench.cards import Settings
from bench.errors import InputError, unknown_name
from bench.runner import RunConfig
from bench.scoring import folder_for

Kind = Literal["genre", "genres", "tag"]


def _named(key: str) -> BeforeValidator:
    """A plain name stands for an entry that says nothing else."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


class Resources(Settings):
    """What one run occupies while it goes."""

    cpus: int = Field(default=1, ge=1, description="processor cores; as many threads are used")
    gpus: float = Field(default=0, ge=0, description="GPUs; a fraction shares one (Ray), on one machine whole numbers")
    llm_slots: int = Field(
        default=1, ge=1, description="slots of its language model, of those in `llm_slots` of the grid"
    )


class TaskAxis(Settings):
    """A task, the readings and the kinds of prompts in which it is asked. A model without words is asked in the first kind alone."""

    task: str
    protocols: tuple[Literal["paper", "strict"], ...] = ()
    prompt_kinds: tuple[Kind, ...] = ()
    windows: tuple[int, ...] | None = None


class ModelAxis(Settings):
    """A model, its settings (dotted keys as of `--set`) and what a run of it occupies."""

    model: str
    settings: dict[str, Any] = Field(
        default={}, description="its own settings; keys that begin with task. are the task's"
    )
    resources: Resources | None = None


class DatasetAxis(Settings):
    """A dataset and where its files lie."""

    dataset: str
    data_dir: Path | None = None

    def placed(self, home: Path, data_dir: Path | None) -> Self:
        """With an absolute folder: its own, which is relative to `home`, or `data_dir`."""
        if self.data_dir is not None:
            return self.model_copy(update={"data_dir": (home / self.data_dir).resolve()})
        where = None if data_dir is None else folder_for(self.dataset, data_dir.resolve())
        return self.model_copy(update={"data_dir": where})


class Grid(Settings):
    """The whole file. Every combination is a run, but models that ask no language model are not crossed with `llms`."""

    tasks: tuple[Annotated[TaskAxis, _named("task")], ...] = Field(min_length=1)
    models: tuple[Annotated[ModelAxis, _named("model")], ...] = Field(min_length=1)
    datasets: tuple[Annotated[DatasetAxis, _named("dataset")], ...] = Field(
        default=(DatasetAxis(dataset="mini"),), min_length=1
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0,), min_length=1)
    llms: tuple[str, ...] = ()
    llm_config: Path | None = None
    llm_slots: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={}, description="runs' slots of a language model; one"
    )
    max_cost_per_run: float | None = Field(default=None, gt=0)
    max_requests_per_run: int | None = Field(default=None, ge=1)
    limit: int | None = Field(default=None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    resources: Resources = Resources()
    retries: int = Field(default=2, ge=0, description="how often a run whose worker died is tried again")

    @classmethod
    def read(cls, path: Path, data_dir: Path | None = None) -> Self:
        """Read and check a file. Paths in it are relative to it.

        Args:
            path: the file.
            data_dir: folder of the datasets that read files, where the grid names none.

        Raises:
            InputError: it is missing, is no YAML mapping, or a key or value in it is wrong.
        """
        try:
            values = yaml.safe_load(path.read_text("utf-8"))
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}.") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not readable as YAML: {' '.join(str(error).split())}") from None
        if not isinstance(values, dict):
            raise InputError(f"{path}: expected keys such as tasks, models, datasets and seeds.")
        for key in values:
            if key not in cls.model_fields:
                raise unknown_name(f"key of {path}", str(key), cls.model_fields)
        grid = cls.parse(str(path), values)
        home = path.parent
        return grid.model_copy(
            update={
                "llm_config": None if grid.llm_config is None else (home / grid.llm_config).resolve(),
                "datasets": tuple(axis.placed(home, data_dir) for axis in grid.datasets),
            }
        )

    def configs(self, out: Path) -> Iterator[tuple[RunConfig, Resources]]:
        """The configuration of every run, and what it occupies. Folders are absolute, since workers may stand elsewhere.

        Raises:
            InputError: an unknown name, or a language model that is missing or that nobody asks.
        """
        asks = {axis.model: "llm" in registry.get("models", axis.model).card.needs for axis in self.models}
        if any(asks.values()) and not self.llms:
            asking = next(name for name, needs in asks.items() if needs)
            raise InputError(f"model {asking!r} asks a language model: name one under `llms`.")
        unknown = set(self.llm_slots) - set(self.llms)
        if unknown:
            raise unknown_name("language model under `llm_slots`", min(unknown), self.llms)
        for data, seed, model, task in product(self.datasets, self.seeds, self.models, self.tasks):
            llms = self.llms if asks[model.model] else (None,)
            for llm, (protocol, kind) in product(llms, self._conditions(task, model.model)):
                config = RunConfig.build(
                    task=task.task,
                    model=model.model,
                    dataset=data.dataset,
                    data_dir=data.data_dir,
                    protocol=protocol,
                    prompt_kind=kind,
                    windows=task.windows,
                    seed=seed,
                    limit=self.limit,
                    out=out.resolve(),
                    settings=dict(model.settings),
                    llm=llm,
                    llm_config=None if llm is None else self.llm_config,
                    max_cost=None if llm is None else self.max_cost_per_run,
                    max_requests=None if llm is None else self.max_requests_per_run,
                    device=self.device,
                )
                yield config, model.resources or self.resources

    @staticmethod
    def _conditions(task: TaskAxis, model: str) -> Iterator[tuple[str | None, str | None]]:
        registry.get("tasks", task.task)
        reads = registry.get("models", model).card.information == "prompt"
        kinds: tuple[str | None, ...] = task.prompt_kinds or (None,)
        for protocol in task.protocols or (None,):
            for kind in kinds if reads else kinds[:1]:
                yield protocol, kind
