"""One run, from a configuration to a result: fit or load, rank in batches, keep every batch, score.

Same configuration, same run: a finished one is read from disk, an interrupted one goes on where it stopped.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from bench import journal, language, parallel, provenance, registry, scoring
from bench.cards import Settings
from bench.contracts import Dataset, Examples, Progress, Task
from bench.errors import InputError
from bench.identity import part_versions, prompts_digest, run_identity, targets_digest
from bench.language import AskingConfig
from bench.llm.contracts import LanguageModel
from bench.progress import SilentProgress
from bench.ranking_pass import DEPTH, merge, rank_missing
from bench.runs import JOURNAL, MODELS, PARTS, RANKINGS, RESULT, RUNS, SCORES, Run, finished
from bench.store import Store, resolve_device, sha256_of

TASK_PREFIX = "task."


class RunConfig(AskingConfig):
    """What `bench run` is told. None means "not given": the task's, or the dataset's, own default holds.

    `settings` are the model's own; a key that begins with "task." is one of the task's.
    """

    task: str
    model: str
    dataset: str = "mini"
    data_dir: Path | None = None
    protocol: Literal["paper", "strict"] | None = None
    prompt_kind: str | None = None
    windows: tuple[int, ...] | None = None
    seed: int = Field(default=0, ge=0)
    limit: int | None = Field(default=None, ge=1)
    refit: bool = False
    settings: dict[str, Any] = Field(default_factory=dict)
    batch_size: int = Field(default=512, ge=1)

    @classmethod
    def build(cls, **values: Any) -> RunConfig:
        """Check the values.

        Raises:
            InputError: an unknown option, or a value that does not fit.
        """
        return cls.parse("bench run", values)


@dataclass(frozen=True)
class Plan:
    """A configuration with its names looked up, its settings checked and its data loaded; no model is loaded yet."""

    config: RunConfig
    task: Task
    task_settings: Settings
    model: type[Any]
    model_settings: Settings
    dataset: Dataset
    protocol: str
    identity: str
    llm: dict[str, Any] | None = None

    @property
    def run(self) -> str:
        """The run's id, also the name of its folder."""
        return f"{self.config.task}-{self.config.model}-{self.config.dataset}-{self.identity[:10]}"

    @property
    def directory(self) -> Path:
        """The run's folder."""
        return self.config.out / RUNS / self.run

    @property
    def condition(self) -> str:
        """The information condition that the numbers belong to; "none" in a task without prompts."""
        own = str(getattr(self.task, "condition", "free" if self.task.card.prompted else "none"))
        return "oracle" if own != "none" and self.model.card.information == "oracle" else own


def make_plan(
    config: RunConfig, progress: Progress, llm: LanguageModel | None = None, dataset: Dataset | None = None
) -> Plan:
    """Look everything up and check it.

    Args:
        config: what was asked for.
        progress: told what is loaded.
        llm: the opened language model of a model that asks one.
        dataset: the configuration's dataset, where it is loaded already.

    Raises:
        InputError: an unknown name, a flag that the task does not take, a wrong setting, missing or malformed data.
    """
    task_class, model = registry.get("tasks", config.task), registry.get("models", config.model)
    suited = registry.get("datasets", config.dataset).card.model_settings
    own = {key: value for key, value in config.settings.items() if not key.startswith(TASK_PREFIX)}
    model_settings = model.Settings.parse(config.model, model.Settings.fitting(suited) | own)
    task_values = _task_values(config, task_class)
    if dataset is None:
        dataset = scoring.load_dataset(config.dataset, config.data_dir, progress)
    if "windows" in task_class.Settings.model_fields:
        task_values.setdefault("windows", dataset.card.windows)
    if hasattr(task_class, "suited"):
        task_values = task_class.suited(dataset, task_values)
    task_settings = task_class.Settings.parse(f"task {config.task}", task_values)
    protocol = getattr(task_settings, "protocol", config.protocol or "paper")
    asked = language.identity(llm, model)
    identity = run_identity(
        task=_part(config.task, task_class, task_settings),
        model=_part(config.model, model, model_settings),
        dataset={"name": config.dataset, "fingerprint": dataset.fingerprint},
        protocol=protocol,
        seed=config.seed,
        limit=config.limit,
        depth=DEPTH,
        llm=asked,
    )
    task = task_class(task_settings)
    # What the data lack is said before anything is trained.
    if hasattr(task, "check"):
        task.check(dataset)
    if hasattr(model, "check"):
        model.check(model_settings, dataset)
    return Plan(config, task, task_settings, model, model_settings, dataset, protocol, identity, asked)


def execute(config: RunConfig, progress: Progress | None = None, dataset: Dataset | None = None) -> Run:
    """Run, or go on with, or read back what the configuration asks for.

    Args:
        config: what is asked for.
        progress: told how far it is; nobody when None.
        dataset: the configuration's dataset, where it is loaded already.

    Raises:
        InputError: the configuration is wrong.
        CheckError: the model failed, or another process is at the same run; what was ranked is kept.
    """
    progress = progress or SilentProgress()
    with language.opened(config, progress) as llm:
        return carry_out(make_plan(config, progress, llm, dataset), llm, progress)


def carry_out(plan: Plan, llm: LanguageModel | None, progress: Progress) -> Run:
    """Run a plan, or go on with it, or read it back.

    Args:
        plan: what is asked for.
        llm: the opened language model that the plan was made with, None for a model that asks none.
        progress: told how far it is.

    Raises:
        InputError, CheckError: as `execute`.
    """
    config = plan.config
    if not config.refit and (done := finished(plan.directory, plan.identity)) is not None:
        progress.note(f"run {plan.run} is finished: shown from {plan.directory}")
        parallel.agree(False)
        return done
    with journal.open_for(plan.directory / JOURNAL, plan.identity, anew=config.refit) as writer:
        if not writer.records:
            _clear(plan.directory)
        examples = scoring.build_examples(plan.task, plan.dataset, config.seed, config.limit)
        _start(plan, examples, writer)
        rank_missing(plan, examples, llm, writer, progress)
        merge(plan.directory, writer, len(examples))
        progress.note("scoring")
        result = scoring.finish(plan.directory, plan.task, examples, journal.read(writer.path))
        writer.add("end", run=plan.run, rankings_sha256=sha256_of(plan.directory / RANKINGS))
        shutil.rmtree(plan.directory / PARTS, ignore_errors=True)
    return Run(plan.directory, result)


def lend_hands(config: RunConfig, progress: Progress) -> None:
    """What the other processes of a launcher do of a run: fit its model along with rank 0, where that has to fit it.

    Raises:
        InputError, CheckError: as `execute`.
    """
    if not parallel.agree(False):
        return
    plan = make_plan(config, progress)
    values = plan.model_settings.model_dump(mode="json")
    store = Store(config.out / MODELS)
    store.fitted(
        config.model, plan.dataset, values, config.seed, resolve_device(config.device), progress, refit=config.refit
    )


def _task_values(config: RunConfig, task: type[Any]) -> dict[str, Any]:
    fields = task.Settings.model_fields
    values = {
        key.removeprefix(TASK_PREFIX): value for key, value in config.settings.items() if key.startswith(TASK_PREFIX)
    }
    given = {"--prompt-kind": ("prompt_kind", config.prompt_kind), "--window": ("windows", config.windows)}
    for flag, (field, value) in given.items():
        if value is not None and field not in fields:
            raise InputError(f"task {config.task!r} takes no {flag}: leave it out.")
        if value is not None:
            values[field] = value
    if config.protocol is not None and "protocol" in fields:
        values["protocol"] = config.protocol
    return values


def _part(name: str, entry: type[Any], settings: Settings) -> dict[str, Any]:
    values = settings.model_dump(mode="json", exclude=set(settings.places))
    versions = part_versions(entry, values)
    return {"name": name, "version": entry.card.version, "settings": values} | ({"parts": versions} if versions else {})


def _start(plan: Plan, examples: Examples, writer: journal.Writer) -> None:
    """Write the start record, or, where there is one, make sure that the questions are still the same."""
    targets = targets_digest(examples)
    distributions = (
        registry.distribution_of(kind, name)
        for kind, name in (
            ("tasks", plan.config.task),
            ("models", plan.config.model),
            ("datasets", plan.config.dataset),
        )
    )
    origin = provenance.collect(distributions)
    if writer.records:
        if writer.records[0]["about"]["targets_digest"] != targets:
            raise InputError(
                f"task {plan.config.task!r} asks other questions than when {plan.directory} was begun: run with --refit."
            )
        writer.add("resume", provenance=origin)
        return
    config, card = plan.config, plan.model.card
    settings = {
        "task": plan.task_settings.model_dump(mode="json"),
        "model": plan.model_settings.model_dump(mode="json"),
    }
    about = {
        "run": plan.run,
        "task": config.task,
        "task_version": plan.task.card.version,
        "model": config.model,
        "model_version": card.version,
        "dataset": config.dataset,
        "protocol": plan.protocol,
        "condition": plan.condition,
        "information": card.information,
        "encoder": getattr(plan.model_settings, "encoder", None),
        "llm": plan.llm,
        "seed": config.seed,
        "limit": config.limit,
        "examples": len(examples),
        "settings": provenance.redact_value(settings),
        "dataset_fingerprint": plan.dataset.fingerprint,
        "targets_digest": targets,
        "prompts_digest": prompts_digest(examples.requests.prompts),
    }
    version = journal.JOURNAL_VERSION
    depth = {"depth": DEPTH} | ({} if card.max_k is None else {"max_k": card.max_k})
    writer.add("start", journal_version=version, identity=plan.identity, **depth, about=about, provenance=origin)


def _clear(directory: Path) -> None:
    """Remove what an earlier run left: without a journal it belongs to nobody."""
    for name in (RANKINGS, SCORES, RESULT):
        (directory / name).unlink(missing_ok=True)
    shutil.rmtree(directory / PARTS, ignore_errors=True)
