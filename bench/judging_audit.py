"""Can a judge be trusted? Opens runs and judges for an audit, and keeps its report under `OUT/audits/`.

What is asked and made of the answers is the affair of a class under the entry point group `bench.audits` (`judges.audit.JudgeAudit`).
An audit that is interrupted goes on when its command is given again: language models answer from their cache what they answered before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import Field

from bench import language, provenance, registry
from bench.atomic import atomic_write
from bench.contracts import Progress
from bench.dry_run import Counting
from bench.errors import CheckError, InputError
from bench.identity import digest
from bench.judging import LLM_JUDGE, Case, JudgeConfig, Seated, open_case, refuse_unreadable, seat
from bench.llm.contracts import Answer, ChatRequest

AUDITS, GROUP = "audits", "bench.audits"


class AuditConfig(language.AskingLimits):
    """What `bench judge audit` is told. `settings` are those of the LLM judge, `judges` those that are none."""

    runs: tuple[Path, ...]
    judges: tuple[str, ...] = ()
    llms: tuple[str, ...] = ()
    llm_config: Path | None = None
    labels: Path | None = None
    data_dir: Path | None = None
    limit: int | None = Field(default=None, ge=1)
    repeats: int = Field(default=2, ge=0)
    pairs: int = Field(default=3, ge=0)
    seed: int = Field(default=0, ge=0)
    settings: dict[str, Any] = Field(default_factory=dict)
    out: Path = Path("results")

    @classmethod
    def build(cls, **values: Any) -> AuditConfig:
        """Check the values.

        Raises:
            InputError: an unknown option or a value that does not fit, no run, no judge, or one that is named twice.
        """
        config = cls.parse("bench judge audit", values)
        if not config.runs:
            raise InputError(
                "bench judge audit takes a run or more; the first is the one whose lists are judged again and again."
            )
        named = [*config.judges, *config.llms]
        if not named:
            raise InputError("name a judge: --judge proxy, or --llm NAME --llm-config FILE (each may be repeated).")
        twice = next((name for name in named if named.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"judge {twice!r} is named twice.")
        return config


class Independent(Counting):
    """Counts for an audit, nothing of which hangs on an answer: all of it may be exported."""

    def answer(self, requests: Iterable[ChatRequest]) -> Iterator[tuple[int, Answer]]:
        """See `bench.llm.contracts.LanguageModel`."""
        self.begin()
        return super().answer(requests)


def audit(config: AuditConfig, progress: Progress) -> dict[str, Any]:
    """Ask every judge, and keep the report as JSON and Markdown.

    Returns:
        The report; `file` says where it lies.

    Raises:
        InputError: the configuration is wrong, runs do not belong together, or a judge cannot read their requests.
        CheckError: a budget is used up, or a language model answers nothing; what was answered is kept.
    """
    entry = _entry()
    cases = open_cases(config, progress)
    for _, judge in _judges(config):
        for case in cases:
            refuse_unreadable(judge, case)
    asking = _asking(entry, config, cases, progress)
    costs: dict[str, Any] = {}
    for name, judge in _judges(config):
        with _seated(config, name, judge, cases[0], progress, costs) as seated:
            asking.hear(name, seated)
    report = asking.report()
    about = {"runs": [case.asked.about["run"] for case in cases], "limit": config.limit, "seed": config.seed}
    mark = digest(about | {"judges": [found["who"]["identity"] for found in report["judges"].values()]})[:10]
    folder = config.out / AUDITS / f"judge-{cases[0].asked.about['task']}-{cases[0].asked.dataset.name}-{mark}"
    report = {"schema_version": 1, "audit": "judge", **about, **report, "sent": costs}
    report["provenance"] = provenance.collect()
    report = provenance.redact_value(report)
    atomic_write(folder / "report.json", json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    atomic_write(folder / "report.md", asking.render(report))
    return report | {"file": str(folder / "report.json")}


def foresee(config: AuditConfig, progress: Progress) -> dict[str, Any]:
    """What an audit would ask, by language model: as `bench.dry_run.foresee`. Nothing is sent.

    Raises:
        InputError: as `audit`; no language model is among the judges.
    """
    if not config.llms:
        raise InputError("none of the judges is a language model, so there is nothing to count: leave out --plan.")
    cases = open_cases(config, progress)
    asking = _asking(_entry(), config, cases, progress)
    found: dict[str, Any] = {}
    for name in config.llms:
        with language.opened_for(name, ("llm",), _of(config, name, LLM_JUDGE), progress, send=False) as llm:
            counting = Independent(llm)  # type: ignore[arg-type]
            asking.hear(name, seat(_of(config, name, LLM_JUDGE), cases[0].asked.dataset, counting, progress))
            found[name] = counting.totals
    return found


def open_cases(config: AuditConfig, progress: Progress) -> list[Case]:
    """The runs, over one loaded dataset.

    Raises:
        InputError: a run cannot be judged, is named twice, or is of another task or dataset than the first.
    """
    cases: list[Case] = []
    for run in config.runs:
        dataset = cases[0].asked.dataset if cases else None
        cases.append(open_case(run, config.data_dir, config.limit, progress, dataset))
        mine, first = cases[-1].asked.about, cases[0].asked.about
        for key in ("task", "dataset", "dataset_fingerprint"):
            if mine[key] != first[key]:
                raise InputError(
                    f"run {mine['run']} is of {key.replace('_', ' ')} {mine[key]!r}, run {first['run']} of {first[key]!r}: "
                    "audit runs of one task and dataset."
                )
        if mine["run"] in [case.asked.about["run"] for case in cases[:-1]]:
            raise InputError(f"run {mine['run']} is named twice.")
    return cases


@contextmanager
def _seated(
    config: AuditConfig, name: str, judge: str, case: Case, progress: Progress, costs: dict[str, Any]
) -> Iterator[Seated]:
    """A judge with its language model open; what it sent is noted in `costs` and taken from the budget of those that follow."""
    own = _of(config, name, judge, costs)
    needs = registry.get("judges", judge).card.needs
    with language.opened_for(f"judge {judge!r}", needs, own, progress) as llm:
        try:
            yield seat(own, case.asked.dataset, llm, progress)
        finally:
            if llm is not None:
                costs[name] = language.spent(llm)


def _judges(config: AuditConfig) -> list[tuple[str, str]]:
    """What the report calls each judge, and its registered name."""
    return [(name, name) for name in config.judges] + [(name, LLM_JUDGE) for name in config.llms]


def _of(config: AuditConfig, name: str, judge: str, costs: dict[str, Any] | None = None) -> JudgeConfig:
    """The configuration of one judge, with what is left of the budget."""
    if judge != LLM_JUDGE:
        return JudgeConfig(run=config.runs[0], judge=judge, out=config.out)
    sent = sum(int(cost["sent"]) for cost in (costs or {}).values())
    paid = sum(float(cost["price"] or 0.0) for cost in (costs or {}).values())
    left = None if config.max_requests is None else config.max_requests - sent
    money = None if config.max_cost is None else config.max_cost - paid
    if (left is not None and left < 1) or (money is not None and money <= 0):
        raise CheckError(
            f"the budget is used up before {name!r} is asked; every answer is kept, give the command with a larger one."
        )
    return JudgeConfig(
        run=config.runs[0],
        judge=judge,
        settings=config.settings,
        out=config.out,
        llm=name,
        llm_config=config.llm_config,
        max_cost=money,
        max_requests=left,
        llm_batch=config.llm_batch,
    )


def _asking(entry: Any, config: AuditConfig, cases: list[Case], progress: Progress) -> Any:
    given = {name: getattr(config, name) for name in ("seed", "repeats", "pairs", "labels")}
    return entry(cases, entry.Settings.parse("bench judge audit", given), progress)


def _entry() -> Any:
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if "judge" not in found:
        raise CheckError("no installed package provides the audit 'judge'.")
    return found["judge"].load()
