"""From a grid to runs: which cells there are, which are done, and how long the others will take."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from bench import registry, runner, scoring
from bench.contracts import Dataset, Progress
from bench.errors import CheckError, InputError
from bench.reproduce import asking, estimate, grids, judged
from bench.reproduce.estimate import Guess, Timings
from bench.reproduce.grids import CONDITIONS, Grid, Row
from bench.runs import JOURNAL, Run, finished
from bench.store import Wanted, resolve_device

Status = Literal["done", "begun", "new", "not available", "wrong"]

PROTOCOL = "paper"
NOTHING = Guess(0.0, "done")


@dataclass(frozen=True)
class Options:
    """What `bench reproduce` is told. `overrides` are settings by model, put over those of the grid's rows.

    `max_cost` and `max_requests` are for all language models together.
    """

    dataset: str
    data_dir: Path | None = None
    seeds: tuple[int, ...] = (0,)
    only: tuple[str, ...] = ()
    out: Path = Path("results")
    limit: int | None = None
    device: str = "auto"
    batch_size: int = 512
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    llms: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()
    llm_config: Path | None = None
    max_cost: float | None = None
    max_requests: int | None = None

    def check(self, grid: Grid) -> None:
        """Refuse what cannot be meant.

        Raises:
            InputError: a repeated or negative seed, an unknown model or setting, a limit or budget that is too small, a
                flag for language models where none is named.
        """
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"--seeds takes different numbers of at least 0, got {','.join(map(str, self.seeds))!r}.")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"--limit takes a number of users of at least 1, got {self.limit}.")
        judged.judges_of(grid, self)
        asking.check_flags(self)
        grids.choose(grid.rows, self.only, grid.models)
        for model, values in self.overrides.items():
            grids.choose(grid.rows, (model,), grid.models)
            registry.get("models", model).Settings.parse(model, values)


@dataclass(frozen=True)
class Cell:
    """One run of a grid: a row asked one task in one condition with one seed.

    `plan` is None where there is no such model or setting; `reason` says why. `fit` is the guess for training (with what it
    is built on), `rank` the one for ranking; both are 0 for a finished run.
    """

    row: Row
    task: str
    condition: str
    seed: int
    plan: runner.Plan | None
    status: Status
    reason: str = ""
    fit: Guess = NOTHING
    rank: Guess = NOTHING

    @property
    def seconds(self) -> float:
        """Seconds of training and ranking to come."""
        return self.fit.seconds + self.rank.seconds

    @property
    def name(self) -> str:
        """The cell as a person says it."""
        told = "" if self.condition == "none" else f" [{self.condition}]"
        return f"{self.row.key} on {self.task}{told}, seed {self.seed}"

    def result(self) -> Run | None:
        """The finished run, None where it is not finished."""
        return None if self.plan is None else finished(self.plan.directory, self.plan.identity)


class Planner:
    """Plans cells over one dataset, which is loaded once."""

    def __init__(self, options: Options, progress: Progress) -> None:
        """Look up the language models and load the dataset.

        Raises:
            InputError: an unknown dataset or language model, or its files are missing or malformed.
        """
        self.options, self.progress = options, progress
        self._bases: dict[str | None, str | None] = {}
        self._llms = asking.identified(options)
        self.dataset: Dataset = scoring.load_dataset(options.dataset, options.data_dir, progress)

    def grid(self, grid: Grid) -> list[Cell]:
        """Every cell of the rows that are asked for, seed by seed, with guesses of the time that each will take."""
        timings = estimate.read_timings(self.options.out)
        self._bases = {row.model: row.base for row in grid.rows}
        counted: set[str] = set()
        return [
            self._timed(cell, timings, counted)
            for seed in self.options.seeds
            for row in grids.choose(grid.rows, self.options.only, grid.models)
            if row.model is not None
            for task in grid.tasks
            if task in row.tasks
            for cell in self.row(row, task, seed)
        ]

    def row(self, row: Row, task: str, seed: int) -> list[Cell]:
        """The cells of a row in one task: one for each condition in which it is asked. No times are guessed."""
        told = row.told
        if row.model in registry.names("models"):
            try:
                told = registry.get("models", row.model).card.information
            except (InputError, CheckError) as error:
                return [
                    Cell(row, task, condition, seed, None, "wrong", str(error)) for condition in row.conditions(task)
                ]
        return [self.cell(row, task, condition, seed) for condition in row.conditions(task, told)]

    def cell(self, row: Row, task: str, condition: str, seed: int) -> Cell:
        """One cell, looked up and checked."""
        for kind, name in (("models", row.model), ("tasks", task)):
            if name not in registry.names(kind):
                reason = f"no such {registry.singular(kind)} is registered"
                return Cell(row, task, condition, seed, None, "not available", reason)
        if row.gpu and resolve_device(self.options.device) != "cuda":
            reason = (
                f"needs a GPU with {row.gpu} GiB; there, by estimate, {estimate.on_gpu(row.model or '', row.settings)}"
            )
            return Cell(row, task, condition, seed, None, "not available", reason)
        try:
            llm = None if row.llm is None else self._llms[row.llm]
            plan = runner.make_plan(self.config(row, task, condition, seed), self.progress, llm, self.dataset)
        except InputError as error:
            # The names exist and the data are loaded, so it is a setting that this version of the model does not have.
            return Cell(row, task, condition, seed, None, "not available", str(error))
        except CheckError as error:
            return Cell(row, task, condition, seed, None, "wrong", str(error))
        try:
            done = finished(plan.directory, plan.identity) is not None
        except (InputError, CheckError) as error:
            return Cell(row, task, condition, seed, plan, "wrong", str(error))
        begun = (plan.directory / JOURNAL).is_file()
        return Cell(row, task, condition, seed, plan, "done" if done else "begun" if begun else "new")

    def execute(self, cell: Cell, askers: asking.Askers) -> Run:
        """Run a cell, or go on with it; `askers` has the language model where it asks one.

        Raises:
            InputError: the configuration is wrong.
            CheckError: the model failed; what was ranked is kept.
        """
        assert cell.plan is not None, "only cells with a plan are run"
        if cell.row.llm is not None:
            return askers.execute(cell.plan)
        return runner.execute(cell.plan.config, self.progress, self.dataset)

    def config(self, row: Row, task: str, condition: str, seed: int) -> runner.RunConfig:
        """The configuration of `bench run` that makes a cell."""
        options = self.options
        kinds = CONDITIONS.get(task, ())
        kind = condition if condition in kinds else grids.UNREAD if kinds else None
        return runner.RunConfig.build(
            task=task,
            model=row.model,
            dataset=options.dataset,
            data_dir=options.data_dir,
            protocol=PROTOCOL,
            prompt_kind=kind,
            seed=seed,
            limit=options.limit,
            out=options.out,
            settings={**row.settings, **options.overrides.get(row.model or "", {})},
            device=options.device,
            batch_size=options.batch_size,
            llm=row.llm,
            llm_config=None if row.llm is None else options.llm_config,
        )

    def _timed(self, cell: Cell, timings: Timings, counted: set[str]) -> Cell:
        """The cell with its guesses; training that several cells share is counted at the first of them."""
        if cell.plan is None or cell.status == "done":
            return cell
        model, settings = cell.plan.model, cell.plan.model_settings
        fit = self._training(cell.row.model or "", model, settings, cell.seed, timings, counted)
        if fit.source not in ("trained", "shared"):
            fit = Guess(fit.seconds + self._below(cell, timings, counted).seconds, fit.source)
        reads = cell.condition not in ("none", "oracle")
        examples = timings.sizes.get((cell.task, self.options.dataset, self.options.limit)) or self._examples(cell)
        llm = None if cell.plan.llm is None else cell.plan.llm["name"]
        rank = timings.ranking(
            cell.row.model or "", cell.task, self.options.dataset, cell.plan.condition, examples, reads, llm
        )
        left = 1.0 - estimate.ranked_share(cell.plan.directory / JOURNAL)
        return replace(cell, fit=fit, rank=Guess(rank.seconds * left, rank.source))

    def _below(self, cell: Cell, timings: Timings, counted: set[str]) -> Guess:
        """The guess for what a row's model is trained on, down to the backbone; what does not load counts nothing."""
        seconds, settings = 0.0, None if cell.plan is None else cell.plan.model_settings
        name = cell.row.base
        while name is not None:
            try:
                base = registry.get("models", name)
                inner = getattr(settings, "backbone", None)
                if hasattr(settings, "base") and not isinstance(inner, base.Settings):
                    # A reranker's settings are of one backbone; over another one that has its own.
                    values = registry.get("datasets", self.options.dataset).card.model_settings
                else:
                    values = {} if inner is None else inner.model_dump(mode="json")
                settings = base.Settings.parse(name, base.Settings.fitting(values))
            except (InputError, CheckError):
                break
            guess = self._training(name, base, settings, cell.seed, timings, counted)
            seconds += guess.seconds
            if guess.source in ("trained", "shared"):
                break
            name = self._bases.get(name)
        return Guess(seconds, "default")

    def _training(
        self, name: str, model: type[Any], settings: Any, seed: int, timings: Timings, counted: set[str]
    ) -> Guess:
        wanted = Wanted(name, model, settings, self.dataset, seed, "cpu")
        if wanted.key in counted:
            return Guess(0.0, "shared")
        counted.add(wanted.key)
        events = len(self.dataset.events.values)
        return timings.training(name, wanted.key, self.dataset.name, wanted.trained_settings, events)

    def _examples(self, cell: Cell) -> int:
        """At most so many examples: a user has one for each window."""
        users = len(self.dataset.user_ids)
        windows = len(self.dataset.card.windows) if CONDITIONS.get(cell.task) else 1
        return min(users, self.options.limit or users) * windows
