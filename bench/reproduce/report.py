"""A table with its measured and published cells, the claims, and what could not be run: the content of what is written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bench.contracts import Progress
from bench.errors import CheckError, InputError
from bench.reproduce import claims, measured, published
from bench.reproduce.claims import Lookup, Verdict
from bench.reproduce.grids import Grid, Row, shown
from bench.reproduce.judged import Judgements
from bench.reproduce.measured import Stored, Value
from bench.reproduce.plan import PROTOCOL, Cell, Planner
from bench.reproduce.published import Published, Window
from bench.results import Result
from bench.runs import Run

SCHEMA_VERSION = 1

# Backbone, task, window and judge.
Place = tuple[str | None, str, Window, str]


@dataclass(frozen=True)
class Entry:
    """One cell of the table: `state` is "measured", or why there is no measured value; `judge` who gave it, "" for nobody."""

    row: Row
    task: str
    condition: str
    window: Window
    metric: str
    state: str
    measured: Value | None
    published: Published | None
    runs: tuple[str, ...] = ()
    judge: str = ""

    @property
    def place(self) -> Place:
        """The part of the table that the cell is in; those of a judge are one part, whatever the backbone."""
        return None if self.judge else self.row.backbone, self.task, self.window, self.judge


@dataclass(frozen=True)
class Problem:
    """A cell of the grid that has no finished run, and why."""

    row: str
    cell: str
    status: str
    reason: str


@dataclass(frozen=True)
class Asked:
    """What the answers of a language model were like in one run: `result.answers` and `result.cost` have the figures."""

    row: Row
    task: str
    condition: str
    seed: int
    result: Result


@dataclass(frozen=True)
class Report:
    """All that is written of a table."""

    grid: Grid
    dataset: str
    fingerprint: str
    users: int
    seeds: tuple[int, ...]
    limit: int | None
    windows: tuple[Window, ...]
    entries: tuple[Entry, ...]
    verdicts: tuple[Verdict, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    encoders: tuple[str, ...] = ()
    asked: tuple[Asked, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values: no NaN, no time, no path, so that the same runs give the same bytes."""
        return {
            "schema_version": SCHEMA_VERSION,
            "table": self.grid.name,
            "title": self.grid.title,
            "published_table": self.grid.numbers.get(self.dataset),
            "dataset": self.dataset,
            "dataset_fingerprint": self.fingerprint,
            "users": self.users,
            "protocol": PROTOCOL,
            "seeds": list(self.seeds),
            "limit": self.limit,
            "encoders": list(self.encoders),
            "cells": [_entry(entry) for entry in self.entries],
            "answers": [_asked(each) for each in self.asked],
            "claims": [
                {
                    "claim": claim.key,
                    "text": claim.text,
                    "where": claim.where,
                    "comparisons": [_verdict(each) for each in self.verdicts if each.comparison.claim == claim.key],
                }
                for claim in claims.CLAIMS
                if any(each.comparison.claim == claim.key for each in self.verdicts)
            ],
            "missing": [problem.__dict__ for problem in self.problems],
            "notes": list(self.notes),
        }


def build(planner: Planner, grid: Grid, failures: dict[str, str], judgements: Judgements, progress: Progress) -> Report:
    """Read the finished runs of a grid and of the claims.

    Args:
        planner: over the dataset of the table.
        grid: the table. All of its rows are shown, also those that were not asked to be run.
        failures: why a cell failed, by its name.
        judgements: of the runs of a judged table.
        progress: told what is read.
    """
    options, dataset = planner.options, planner.dataset
    reader = _Reader(planner, failures, judgements)
    windows: tuple[Window, ...] = ("mean",) if grid.windows == "mean" else dataset.card.windows
    progress.note("reading the finished runs")
    entries = [entry for row in grid.rows for entry in reader.entries(grid, row, windows)]
    verdicts: list[Verdict] = []
    if any(row.model is not None for row in grid.rows):
        progress.note("testing the claims")
        if grid.judged:
            for judge in judgements.judges:
                verdicts += claims.decide(claims.judged_comparisons(options.dataset, judge), reader.stored_by(judge))
        else:
            verdicts = claims.decide(claims.comparisons(options.dataset), reader.stored)
    return Report(
        grid,
        options.dataset,
        dataset.fingerprint,
        len(dataset.user_ids),
        options.seeds,
        options.limit,
        windows,
        tuple(entries),
        tuple(verdicts),
        tuple(reader.problems),
        (
            *published.NOTES.get(grid.numbers.get(options.dataset, 0), ()),
            *([grid.note] if grid.asks or grid.judged else []),
        ),
        tuple(sorted({result.encoder for result in reader.results if result.encoder})),
        tuple(reader.asked),
    )


class _Reader:
    """Reads finished runs of rows, and remembers what is missing."""

    def __init__(self, planner: Planner, failures: dict[str, str], judgements: Judgements) -> None:
        self.planner, self.failures, self.judgements = planner, failures, judgements
        self.problems: list[Problem] = []
        self.results: list[Result] = []
        self.asked: list[Asked] = []

    def entries(self, grid: Grid, row: Row, windows: Iterable[Window]) -> list[Entry]:
        """The cells of a row: those of the paper alone where it has no model."""
        found: list[Entry] = []
        for task in grid.tasks:
            if task not in row.tasks:
                continue
            groups = self._by_condition(row, task) if row.model is not None else {"": []}
            for condition, cells in groups.items():
                runs = self._runs(cells)
                state = "measured" if runs else self._note_missing(cells)
                if row.llm is not None:
                    self.asked += [Asked(row, task, condition, seed, run.result) for seed, run in runs.items()]
                for judge in self.judgements.judges or ("",):
                    found += self._valued(grid, row, task, condition, windows, runs, state, judge)
        return found

    def _valued(
        self,
        grid: Grid,
        row: Row,
        task: str,
        condition: str,
        windows: Iterable[Window],
        runs: dict[int, Run],
        state: str,
        judge: str,
    ) -> list[Entry]:
        """The cells of a row in one condition, as one judge sees them (or, where it is "", as the task scored them)."""
        if judge and runs:
            runs = self._judged(runs, judge)
            state = "measured" if runs else "not judged"
        pooled, found = measured.pool(runs), []
        for window in windows:
            for metric in grid.metrics:
                value = measured.values(runs, window, metric, pooled) if runs else None
                cell = self._published(grid, row, task, window, metric)
                if value is not None or cell is not None or row.model is not None:
                    ids = tuple(run.result.run for run in runs.values())
                    found.append(Entry(row, task, condition, window, metric, state, value, cell, ids, judge))
        return found

    def _judged(self, runs: dict[int, Run], judge: str) -> dict[int, Run]:
        found = {seed: self.judgements.of(judge, run) for seed, run in runs.items()}
        return {seed: run for seed, run in found.items() if run is not None}

    def stored_by(self, judge: str) -> Lookup:
        """As `stored`, of the scores that a judge gave."""

        def look_up(row: Row, task: str, condition: str) -> Stored | None:
            runs = self._finished(
                [self.planner.cell(row, task, condition, seed) for seed in self.planner.options.seeds]
            )
            scored = self._judged(runs, judge)
            return measured.read(scored) if scored else None

        return look_up

    def stored(self, row: Row, task: str, condition: str) -> Stored | None:
        """Scores of a row for the claims, whether or not it is in the table; None where no seed is finished."""
        seeds = self.planner.options.seeds
        runs = self._finished([self.planner.cell(row, task, condition, seed) for seed in seeds])
        return measured.read(runs) if runs else None

    def _by_condition(self, row: Row, task: str) -> dict[str, list[Cell]]:
        groups: dict[str, list[Cell]] = {}
        for seed in self.planner.options.seeds:
            for cell in self.planner.row(row, task, seed):
                groups.setdefault(cell.condition, []).append(cell)
        return groups

    def _runs(self, cells: list[Cell]) -> dict[int, Run]:
        runs = self._finished(cells)
        self.results += [run.result for run in runs.values()]
        if runs:
            # Of several seeds some are there: the table is made of those, and the others are listed as missing.
            self._note_missing([cell for cell in cells if cell.seed not in runs])
        return runs

    def _finished(self, cells: list[Cell]) -> dict[int, Run]:
        found: dict[int, Run] = {}
        for cell in cells:
            try:
                run = cell.result()
            except (InputError, CheckError):
                continue
            if run is not None:
                found[cell.seed] = run
        return found

    def _note_missing(self, cells: list[Cell]) -> str:
        state = "published only"
        for cell in cells:
            failed = self.failures.get(cell.name)
            if failed is not None or cell.status == "wrong":
                state, reason = "failed", failed or cell.reason
            elif cell.status == "not available":
                state, reason = "not available", cell.reason
            else:
                state, reason = "not run", "interrupted; the same command goes on" if cell.status == "begun" else ""
            self.problems.append(Problem(cell.row.key, cell.name, state, reason))
        return state

    def _published(self, grid: Grid, row: Row, task: str, window: Window, metric: str) -> Published | None:
        if row.llm is not None:
            # Whoever is asked here, the paper's numbers are another's.
            return None
        number = grid.numbers.get(self.planner.options.dataset)
        return published.look_up(number, self.planner.options.dataset, task, row.backbone, row.label, window, metric)


def _entry(entry: Entry) -> dict[str, Any]:
    value, cell = entry.measured, entry.published
    return {
        "task": entry.task,
        "backbone": entry.row.backbone,
        "row": entry.row.label,
        "model": entry.row.model,
        "settings": entry.row.settings,
        "llm": None if entry.row.llm is None else shown(entry.row.llm),
        "condition": entry.condition or None,
        "judge": shown(entry.judge) or None,
        "window": entry.window,
        "metric": entry.metric,
        "state": entry.state,
        "measured": None if value is None else {
            "value": value.value,
            "low": value.low,
            "high": value.high,
            "n": value.n,
            "failed": value.failed,
            "sd": value.sd,
            "seeds": list(value.seeds),
        },
        "published": None if cell is None else cell.value,
        "corrected": None if cell is None or cell.erratum is None else cell.erratum.corrected,
        "erratum": None if cell is None or cell.erratum is None else cell.erratum.text,
        "runs": list(entry.runs),
    }  # fmt: skip


def _asked(each: Asked) -> dict[str, Any]:
    answers, cost = each.result.answers, each.result.cost
    return {
        "row": each.row.label,
        "llm": shown(each.row.llm or ""),
        "backbone": each.row.backbone,
        "task": each.task,
        "condition": each.condition,
        "seed": each.seed,
        "run": each.result.run,
        "answers": None if answers is None else answers.model_dump(mode="json"),
        # What the run's processes sent differs from one history of interrupts to another; the answers do not.
        "cost": {name: value for name, value in cost.items() if name != "processes"},
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    each = verdict.comparison
    return {
        "backbone": each.backbone,
        "task": each.task,
        "condition": each.condition,
        "judge": shown(each.judge) or None,
        "metric": each.metric,
        "row": each.row.key,
        "rivals": [rival.key for rival in each.rivals],
        "rival": verdict.rival,
        "claimed": "above" if each.sign > 0 else "below",
        "answer": verdict.answer,
        "reason": verdict.reason,
        "value": verdict.value,
        "rival_value": verdict.rival_value,
        "difference": verdict.difference,
        "low": verdict.low,
        "high": verdict.high,
        "p": verdict.p,
        "p_holm": verdict.p_holm,
        "n": verdict.n,
        "seeds": list(verdict.seeds),
        "published_percent": each.paper,
    }


def missing_tables(verdicts: Iterable[Verdict]) -> dict[str, list[str]]:
    """By claim, the tables whose runs would decide what is not decidable for want of runs."""
    found: dict[str, list[str]] = {}
    for claim in claims.CLAIMS:
        lacking = [each for each in verdicts if each.comparison.claim == claim.key and each.p is None]
        if lacking:
            found[claim.key] = list(claim.tables)
    return found
