"""One judgement, from a stored run to a judged result. It calls no recommender: lists come from the run's rankings.

The same command goes on with an interrupted judgement and shows a finished one. Several judges may score one run, each into a
folder of its own (`bench.judging_store`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from bench import journal, language, provenance, registry, scoring
from bench.contracts import NO_ITEM, Dataset, Examples, Judge, Lists, Longs, Progress, Verdict
from bench.dry_run import Counting
from bench.errors import CheckError, InputError
from bench.identity import digest, part_versions
from bench.judging_store import NO_LIST, Judged, finish, is_final, judgement_name, kept, row_of
from bench.llm.contracts import LanguageModel
from bench.rankings import read_rankings
from bench.results import read_result
from bench.runs import JOURNAL, JUDGEMENTS, RANKINGS, RESULT, VERDICTS

# Judges see the first ten places (Section 4.4.1).
PLACES = 10
IDENTITY_VERSION = 1
# Verdicts that are put on the disk together. A language model's answers are in its cache before that.
CHUNK = 64
LLM_JUDGE = "llm"


class JudgeConfig(language.AskingConfig):
    """What `bench judge` is told. `settings` are the judge's own, `out` is the folder of results (cached answers lie there)."""

    run: Path
    judge: str
    data_dir: Path | None = None
    limit: int | None = Field(default=None, ge=1)
    settings: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def build(cls, **values: Any) -> JudgeConfig:
        """Check the values; the judge is the LLM where a language model is named and no judge.

        Raises:
            InputError: an unknown option, judge or setting, a value that does not fit, or neither a judge nor a language model.
        """
        if values.get("judge") is None:
            if values.get("llm") is None:
                raise InputError("name a judge: --judge proxy, or --llm NAME --llm-config FILE.")
            values["judge"] = LLM_JUDGE
        config = cls.parse("bench judge", values)
        registry.get("judges", config.judge).Settings.parse(config.judge, config.settings)
        return config


@dataclass(frozen=True)
class Seated:
    """A judge ready to be asked: with its settings, its catalogue read, and its language model lent.

    `who` are the fields of `bench.judging_store.JudgeReport` that say who it is.
    """

    judge: Judge
    who: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A stored run and its lists: B examples (of `limit` users), items int32 [B, 10]."""

    directory: Path
    asked: scoring.Asked
    examples: Examples
    rows: Longs
    items: np.ndarray[Any, np.dtype[np.int32]]

    @property
    def lists(self) -> Lists:
        """What a judge sees: history, words and lists, and nothing of the targets."""
        return Lists(self.examples.requests, self.items)


def open_case(
    directory: Path, data_dir: Path | None, limit: int | None, progress: Progress, dataset: Dataset | None = None
) -> Case:
    """Build the examples of a stored run again and read its lists.

    Raises:
        InputError: the run is not finished, asks nothing in words, or its data or task are not what they were.
        CheckError: its rankings do not fit its examples.
    """
    about = (journal.read(directory / JOURNAL).start or {}).get("about", {})
    if "task" in about and not registry.get("tasks", about["task"]).card.prompted:
        raise InputError(
            f"run {about['run']} is of task {about['task']!r}, which asks nothing in words: a judge scores lists against "
            "requests, so give it a run of a prompted task, such as nuanced or pos."
        )
    asked = scoring.reopen(directory, data_dir, progress, dataset)
    items = read_rankings(directory / RANKINGS, PLACES).items
    if len(items) != len(asked.examples):
        raise CheckError(
            f"{directory / RANKINGS} holds {len(items)} examples, not {len(asked.examples)}: run again with --refit."
        )
    users = asked.examples.requests.users
    rows = np.arange(len(items)) if limit is None else _rows(users, asked, limit)
    return Case(directory, asked, asked.examples.take(rows), rows, items[rows])


def seat(config: JudgeConfig, dataset: Dataset, llm: LanguageModel | None, progress: Progress) -> Seated:
    """Make the judge that a configuration names.

    Raises:
        InputError: an unknown judge or setting, or something that the judge needs is missing.
    """
    entry = registry.get("judges", config.judge)
    values: dict[str, Any] = config.settings
    if hasattr(entry, "suited"):
        values = entry.suited(dataset, values)
    settings = entry.Settings.parse(config.judge, values)
    judge: Judge = entry(settings)
    shown = settings.model_dump(mode="json", exclude=set(settings.places))
    about = {"name": config.judge, "version": entry.card.version, "settings": shown}
    about |= {"parts": part_versions(entry, shown), "llm": language.identity(llm, entry)}
    language.lend(judge, llm)
    judge.prepare(dataset.for_training(), progress)
    mark = digest({"version": IDENTITY_VERSION, **about})
    return Seated(judge, about | {"is_llm": entry.card.is_llm, "identity": mark})


def judge_run(config: JudgeConfig, progress: Progress) -> Judged:
    """Judge a stored run, or go on with it, or read the judgement back.

    Raises:
        InputError: the configuration is wrong, or the run cannot be judged (by this judge).
        CheckError: another process is at the same judgement, or the language model's budget is used up; verdicts are kept.
    """
    with language.opened_for(f"judge {config.judge!r}", _needs(config), config, progress) as llm:
        case = open_case(config.run, config.data_dir, config.limit, progress)
        return judge_case(config, case, llm, progress)


def judge_case(config: JudgeConfig, case: Case, llm: LanguageModel | None, progress: Progress) -> Judged:
    """As `judge_run`, over a run that is opened already and with a language model that is lent (None for a judge without)."""
    refuse_unreadable(config.judge, case)
    return _carry_out(config, case, seat(config, case.asked.dataset, llm, progress), llm, progress)


def foresee(config: JudgeConfig, progress: Progress) -> dict[str, Any]:
    """What a judgement would ask a language model: as `bench.dry_run.foresee` of a run. Nothing is sent or judged.

    Raises:
        InputError: the configuration is wrong, or the judge asks no language model.
    """
    with language.opened_for(f"judge {config.judge!r}", _needs(config), config, progress, send=False) as llm:
        if llm is None:
            raise InputError(
                f"judge {config.judge!r} uses no language model, so there is nothing to count: leave out --plan."
            )
        case = open_case(config.run, config.data_dir, config.limit, progress)
        refuse_unreadable(config.judge, case)
        counting = Counting(llm)  # type: ignore[arg-type]
        seated = seat(config, case.asked.dataset, counting, progress)
        rows = np.flatnonzero((case.items != NO_ITEM).any(1))
        for _ in seated.judge.judge(_taken(case.lists, rows)):
            pass
    about = {"run": case.asked.about["run"], "judge": config.judge, "llm": config.llm, "lists": len(rows)}
    return about | counting.foreseen()


def refuse_unreadable(judge: str, case: Case) -> None:
    """Refuse refusals to a registered judge that takes them for wishes.

    Raises:
        InputError: there are some.
    """
    if not registry.get("judges", judge).card.reads_refusals and (case.examples.targets.intent.polarity < 0).any():
        raise InputError(
            f"run {case.asked.about['run']} asks to leave something out, which judge {judge!r} reads as a wish for "
            "it: let a language model judge it (--llm NAME --llm-config FILE)."
        )


def _needs(config: JudgeConfig) -> tuple[str, ...]:
    needs: tuple[str, ...] = registry.get("judges", config.judge).card.needs
    return needs


def _rows(users: np.ndarray[Any, np.dtype[np.int32]], asked: scoring.Asked, limit: int) -> Longs:
    return scoring.rows_of_users(users, len(asked.dataset.user_ids), asked.about["seed"], limit)


def _carry_out(
    config: JudgeConfig, case: Case, seated: Seated, llm: LanguageModel | None, progress: Progress
) -> Judged:
    who = seated.who
    who = who | {"judgement": judgement_name(config.judge, config.llm, who["identity"], config.limit)}
    directory = case.directory / JUDGEMENTS / who["judgement"]
    identity = digest(
        {"judge": who["identity"], "run": (case.asked.history.start or {})["identity"], "lists": _digest(case)}
    )
    path = directory / VERDICTS
    start = journal.read(path).start
    # Rankings that were made again are other lists, and verdicts on the old ones say nothing of them.
    anew = start is not None and start["identity"] != identity
    if anew:
        progress.note(f"the lists of {case.asked.about['run']} have changed since they were judged: judging again")
    with journal.open_for(path, identity, anew=anew) as writer:
        known = {example: row for example, row in kept(writer.records).items() if is_final(row)}
        missing = [place for place, example in enumerate(case.rows.tolist()) if example not in known]
        if not missing and writer.records[-1]["record"] == "end" and (directory / RESULT).is_file():
            progress.note(f"{who['judgement']} is finished: shown from {directory}")
            return Judged(directory, read_result(directory / RESULT))
        if not writer.records:
            writer.add("start", journal_version=journal.JOURNAL_VERSION, identity=identity, about=_about(case, who))
        _judge_missing(case, seated.judge, np.array(missing, np.int64), writer, progress)
        verdicts = kept(writer.records)
        rows = [verdicts[example] for example in case.rows.tolist()]
        judged = finish(directory, case.directory, case.examples, rows, who, config.limit)
        writer.add("end", **({} if llm is None else {"llm": language.spent(llm)}))
    return judged


def _judge_missing(case: Case, judge: Judge, missing: Longs, writer: journal.Writer, progress: Progress) -> None:
    """Judge what has no final verdict; every chunk is on the disk before the next one is waited for."""
    empty = ~(case.items[missing] != NO_ITEM).any(1)
    chunk: list[dict[str, Any]] = [_row(case, place, Verdict(None, failure=NO_LIST)) for place in missing[empty]]
    left = missing[~empty]
    advance = progress.track(f"judging {case.asked.about['model']}", len(case.rows), len(case.rows) - len(left))
    try:
        for place, verdict in _verdicts(judge, _taken(case.lists, left)):
            chunk.append(_row(case, left[place], verdict))
            advance(1)
            if len(chunk) >= CHUNK:
                chunk = _flush(writer, chunk)
    finally:
        _flush(writer, chunk)


def _verdicts(judge: Judge, lists: Lists) -> Iterator[tuple[int, Verdict]]:
    missing = set(range(len(lists)))
    for row, verdict in judge.judge(lists):
        missing.discard(row)
        yield row, verdict
    if missing:
        raise CheckError(f"judge {judge.card.name!r} gave no verdict on {len(missing)} of {len(lists)} lists.")


def _flush(writer: journal.Writer, chunk: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if chunk:
        writer.add_all("verdict", chunk)
    return []


def _row(case: Case, place: Any, verdict: Verdict) -> dict[str, Any]:
    row = row_of(int(place), case.examples, verdict)
    return row | {"example": int(case.rows[place])}


def _taken(lists: Lists, rows: Longs) -> Lists:
    return Lists(lists.requests.take(rows), lists.items[rows])


def _about(case: Case, who: dict[str, Any]) -> dict[str, Any]:
    return {"run": case.asked.about["run"], "judge": provenance.redact_value(who), "provenance": provenance.collect()}


def _digest(case: Case) -> str:
    return hashlib.sha256(np.ascontiguousarray(case.items, "<i4").tobytes()).hexdigest()
