"""`bench judge audit`: what a judge is asked so that it can be seen whether it can be trusted.

Everything is asked of the lists of one reference run and of controls made for its requests: the lists of all systems; the reference's
lists again, reversed, shuffled, and described in other words; and list against list. `judges.findings` makes figures of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from bench.cards import Settings
from bench.contracts import ASPECTS, Dataset, Ints, Judge, Lists, Longs, Progress, Ragged, Requests, Verdict
from bench.encoding_cache import CachedEncoder
from bench.judging import Case, Seated
from bench.judging_store import NO_LIST, cost_of
from bench.naming import system_name
from judges import controls
from judges.human import read_labels
from judges.pairwise import Choices, Pairing, rotation
from judges.resampling import Column, Resampler

REVERSED, SHUFFLED, REPEAT, RETOLD = "reversed", "shuffled", "repeat", "retold"


class AuditSettings(Settings):
    """How much is asked. `repeats` are further judgements of the reference's lists, `pairs` comparisons an example."""

    seed: int = 0
    repeats: int = 2
    pairs: int = 3
    encoder: str = "all-minilm-l6-v2"
    labels: Path | None = None


@runtime_checkable
class Compares(Protocol):
    """A judge that can say which of two lists is better; see `bench.contracts.Judge`."""

    def compare(self, lists: Lists, others: Lists) -> Any:
        """Verdicts on pairs, as they come."""


@runtime_checkable
class Retells(Protocol):
    """A judge that can be told of items in more or fewer words."""

    def retold(self, dataset: Dataset, progress: Progress) -> tuple[str, str, Judge]:
        """What it reads now, what the other reads, and the other."""


@dataclass(frozen=True)
class System:
    """Lists that stand for something: a run, or a control made here. `case` is the run's, that of the reference for controls."""

    name: str
    case: Case
    lists: Lists
    run: str | None = None


@dataclass
class Heard:
    """What one judge said: scores float64 [B, 3] by sheet, NaN where it gave none, and its choices between lists."""

    name: str
    who: dict[str, Any]
    sheets: dict[str, Column] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    repaired: int = 0
    costs: list[dict[str, float | None]] = field(default_factory=list)
    told: tuple[str, str] | None = None
    choices: Choices | None = None

    @property
    def cost(self) -> dict[str, Any]:
        """Calls, tokens and price of the scores."""
        return cost_of(self.costs)


class JudgeAudit:
    """Asks judges, one after the other, and then reports.

    Args:
        cases: stored runs of one task and dataset; the first is the reference.
        settings: how much is asked.
        progress: told how far it is.

    Raises:
        InputError: the file of people's scores is wrong.
    """

    Settings = AuditSettings

    def __init__(self, cases: Sequence[Case], settings: AuditSettings, progress: Progress) -> None:
        self.cases, self.settings, self.progress = list(cases), settings, progress
        self.reference = self.cases[0]
        self.heard: list[Heard] = []
        self._resamplers: dict[bytes, Resampler] = {}
        self.systems = [*self._runs(), *self._controls()]
        rows = {case.asked.about["run"]: {int(row): at for at, row in enumerate(case.rows)} for case in self.cases}
        said = {} if settings.labels is None else read_labels(settings.labels, rows)
        self.people = {f"{name} (person)": scores for name, scores in said.items()}

    @property
    def rivals(self) -> list[System]:
        """Systems on the reference's own requests, the reference first: what can be compared list by list."""
        mine = self.reference.asked.about["targets_digest"]
        same = [each for each in self.systems if each.case.asked.about["targets_digest"] == mine]
        return [each for each in same if each.name != controls.MISMATCHED]

    def hear(self, name: str, seated: Seated) -> None:
        """Ask a judge everything.

        Args:
            name: what the report calls it.
            seated: the judge, with its language model lent.

        Raises:
            CheckError: the budget is used up, or nothing was answered; what was answered is in the cache.
        """
        heard = Heard(name, seated.who)
        self._score(heard, seated.judge, self.sheets(seated.judge.card.is_llm))
        dataset = self.reference.asked.dataset
        if isinstance(seated.judge, Retells):
            now, other, judge = seated.judge.retold(dataset.for_training(), self.progress)
            heard.told = (now, other)
            self._score(heard, judge, {RETOLD: self.reference.lists})
        if isinstance(seated.judge, Compares) and len(self.rivals) > 1 and self.settings.pairs:
            heard.choices = self._compare(seated.judge)
        self.heard.append(heard)

    def sheets(self, draws: bool) -> dict[str, Lists]:
        """Lists to be scored, by what they are for; `draws` tells whether a repeat can differ from the first judgement."""
        lists = self.reference.lists
        sheets = {system.name: system.lists for system in self.systems}
        sheets[REVERSED] = controls.reversed_lists(lists)
        sheets[SHUFFLED] = controls.shuffled_lists(lists, self.settings.seed)
        if draws:
            sheets |= {
                f"{REPEAT} {n}": replace(lists, repeat=_times(lists, n)) for n in range(1, self.settings.repeats + 1)
            }
        return sheets

    @cached_property
    def pairing(self) -> Pairing:
        """Who meets whom."""
        return rotation(len(self.rivals), len(self.reference.items), self.settings.pairs)

    def _runs(self) -> list[System]:
        named: dict[str, System] = {}
        for case in self.cases:
            about = case.asked.about
            name = system_name(about["model"], about["settings"].get("model", {}), about["dataset"])
            if name in named:
                name += f" ({about['run'].rpartition('-')[2]})"
            named[name] = System(name, case, case.lists, about["run"])
        return list(named.values())

    def _controls(self) -> list[System]:
        case, dataset = self.reference, self.reference.asked.dataset
        mine, seed = case.asked.about["targets_digest"], self.settings.seed
        models = {each.asked.about["model"] for each in self.cases if each.asked.about["targets_digest"] == mine}
        made = {controls.MISMATCHED: controls.mismatched(case.lists)}
        if (case.examples.targets.intent.polarity >= 0).all():
            # What is nearest to a refusal is what it refuses.
            made[controls.ORACLE] = controls.oracle(dataset, case.lists, CachedEncoder(self.settings.encoder))
        if controls.RANDOM not in models:
            made[controls.RANDOM] = controls.random(dataset, case.lists, seed)
        if controls.POPULARITY not in models:
            made[controls.POPULARITY] = controls.popularity(dataset, case.lists)
        return [System(name, case, lists) for name, lists in made.items()]

    def _score(self, heard: Heard, judge: Judge, sheets: dict[str, Lists]) -> None:
        """All sheets in one go, so that a batch service is asked once."""
        whole, bounds = join(list(sheets.values()))
        scores = np.full((len(whole), len(ASPECTS)), np.nan)
        given = np.flatnonzero((whole.items >= 0).any(1))
        advance = self.progress.track(f"{heard.name} judges", len(given))
        for place, verdict in judge.judge(take(whole, given)):
            scores[given[place]] = _values(verdict)
            _account(heard, verdict)
            advance(1)
        # A request that got no list has the worst score, from every judge.
        empty = np.setdiff1d(np.arange(len(whole)), given)
        scores[empty] = 1.0
        if len(empty):
            heard.failures[NO_LIST] = heard.failures.get(NO_LIST, 0) + len(empty)
        heard.sheets |= dict(zip(sheets, np.split(scores, bounds), strict=True))

    def _compare(self, judge: Compares) -> Choices:
        """Every pair in both orders, again in one go."""
        pairing, pool = self.pairing, np.stack([system.lists.items for system in self.rivals])
        requests = self.reference.examples.requests.take(pairing.row)
        one = Lists(requests, pool[pairing.one, pairing.row])
        other = Lists(requests, pool[pairing.other, pairing.row])
        (first, _), (second, _) = join([one, other]), join([other, one])
        said = np.full(len(first), np.nan)
        advance = self.progress.track("comparing lists", len(first))
        for place, choice in judge.compare(first, second):
            said[place] = np.nan if choice is None else choice
            advance(1)
        return Choices(pairing, said[: len(one)], -said[len(one) :])

    def resampler(self, case: Case) -> Resampler:
        """Resamples of a case's users."""
        users = case.examples.requests.users
        return self._resamplers.setdefault(users.tobytes(), Resampler(users, self.settings.seed))

    def report(self) -> dict[str, Any]:
        """All figures, plain values."""
        from judges.findings import findings

        return findings(self)

    @staticmethod
    def render(report: dict[str, Any]) -> str:
        """The report for people, Markdown."""
        from judges.report import render

        return render(report)


def join(parts: Sequence[Lists]) -> tuple[Lists, Longs]:
    """Lists one after the other, and where all parts but the first begin, int64."""
    requests = [part.requests for part in parts]
    lengths = np.concatenate([request.history.lengths for request in requests])
    history = Ragged(
        np.concatenate([[0], lengths.cumsum()]).astype(np.int64),
        np.concatenate([request.history.values for request in requests]),
    )
    users = np.concatenate([request.users for request in requests])
    prompts = tuple(prompt for request in requests for prompt in request.prompts or ())
    repeat = np.concatenate([_times(part, 0) if part.repeat is None else part.repeat for part in parts])
    items = np.concatenate([part.items for part in parts])
    return Lists(Requests(users, history, prompts), items, repeat), np.cumsum([len(part) for part in parts])[:-1]


def take(lists: Lists, rows: Longs) -> Lists:
    """The given rows."""
    repeat = None if lists.repeat is None else lists.repeat[rows]
    return Lists(lists.requests.take(rows), lists.items[rows], repeat)


def _times(lists: Lists, n: int) -> Ints:
    return np.full(len(lists), n, np.int32)


def _values(verdict: Verdict) -> Column:
    return np.array([np.nan if verdict.scores is None else verdict.scores[aspect] for aspect in ASPECTS])


def _account(heard: Heard, verdict: Verdict) -> None:
    heard.repaired += verdict.repaired
    heard.costs.append(verdict.cost)
    if verdict.failure is not None:
        heard.failures[verdict.failure] = heard.failures.get(verdict.failure, 0) + 1
