"""Figures of an audit: separation of controls, self-consistency, order, wording, list against list, agreement, self-preference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.contracts import ASPECTS
from judges import controls
from judges.agreement import REPLICATES, among, between
from judges.audit import REPEAT, RETOLD, REVERSED, SHUFFLED, Heard, System
from judges.effects import consistency, mean_of, paired, sensitivity
from judges.families import Judgement, family, preference
from judges.pairwise import position, ranking
from judges.resampling import Column, Resampler

if TYPE_CHECKING:
    from judges.audit import JudgeAudit

ALIGNMENT, INTENT, OVERALL = range(len(ASPECTS))


def findings(audit: JudgeAudit) -> dict[str, Any]:
    """All figures, plain values."""
    return {
        "reference": audit.systems[0].name,
        "systems": [_described(system) for system in audit.systems],
        "lists": len(audit.reference.items),
        "users": len(np.unique(audit.reference.examples.requests.users)),
        "judges": {heard.name: _judge(audit, heard) for heard in audit.heard},
        "agreement": _agreement(audit),
        "self_preference": _self_preference(audit),
    }


def _described(system: System) -> dict[str, Any]:
    return {"name": system.name, "run": system.run, "control": system.run is None}


def _judge(audit: JudgeAudit, heard: Heard) -> dict[str, Any]:
    resampler = audit.resampler(audit.reference)
    checks = _checks(audit, heard, resampler)
    return {
        "who": heard.who,
        "answers": {"failures": heard.failures, "repaired": heard.repaired, "cost": heard.cost},
        "scores": {system.name: _means(audit, heard, system) for system in audit.systems},
        "controls": {"passed": sum(check["passed"] for check in checks), "of": len(checks), "checks": checks},
        "consistency": _consistency(audit, heard),
        "order": {sheet: _sensitivity(audit, heard, sheet, resampler) for sheet in (REVERSED, SHUFFLED)},
        "wording": _wording(audit, heard, resampler),
        "pairwise": _pairwise(audit, heard),
    }


def _means(audit: JudgeAudit, heard: Heard, system: System) -> dict[str, Any]:
    resampler = audit.resampler(system.case)
    return {aspect: mean_of(heard.sheets[system.name][:, at], resampler) for at, aspect in enumerate(ASPECTS)}


def _checks(audit: JudgeAudit, heard: Heard, resampler: Resampler) -> list[dict[str, Any]]:
    """What must stand above what; a check is passed where the interval of the difference lies above 0."""
    return [
        {
            "higher": high,
            "lower": low,
            "score": ASPECTS[aspect],
            "passed": (found["difference"]["low"] or 0) > 0,
            **found,
        }
        for high, low, aspect in expected(audit)
        for found in [paired(heard.sheets[high][:, aspect], heard.sheets[low][:, aspect], resampler)]
    ]


def expected(audit: JudgeAudit) -> list[tuple[str, str, int]]:
    """Pairs of systems whose order is known before anybody judges, and the score (its column) in which it must show."""
    reference, names = audit.systems[0].name, [system.name for system in audit.rivals]
    runs = [system.name for system in audit.rivals if system.run is not None]
    pairs = [(reference, controls.MISMATCHED, INTENT)]
    pairs += [(runs[0], name, INTENT) for name in runs[1:] if _is_twin(audit, name)]
    known = (controls.RANDOM, controls.POPULARITY)
    if controls.ORACLE in names:
        pairs += [(controls.ORACLE, name, INTENT) for name in names if name != controls.ORACLE]
    pairs += [(reference, name, OVERALL) for name in known if name in names and reference not in known]
    return pairs


def _is_twin(audit: JudgeAudit, name: str) -> bool:
    """Whether a run is of the reference's own model, given the words of other requests (DPR-Rand)."""
    system = next(each for each in audit.rivals if each.name == name)
    mine, reference = system.case.asked.about, audit.reference.asked.about
    return mine["model"] == reference["model"] and mine["settings"]["model"].get("prompt") == "mismatched"


def _consistency(audit: JudgeAudit, heard: Heard) -> dict[str, Any]:
    tables = _repeats(audit, heard)
    if len(tables) < 2:
        return {
            "skipped": "it draws nothing: the same list gets the same score"
            if not heard.who["is_llm"]
            else "no repeats"
        }
    resampler = Resampler(audit.reference.examples.requests.users, audit.settings.seed, REPLICATES)
    return {aspect: consistency([table[:, at] for table in tables], resampler) for at, aspect in enumerate(ASPECTS)}


def _repeats(audit: JudgeAudit, heard: Heard) -> list[Column]:
    again = [scores for sheet, scores in heard.sheets.items() if sheet.startswith(f"{REPEAT} ")]
    return [heard.sheets[audit.systems[0].name], *again]


def _sensitivity(audit: JudgeAudit, heard: Heard, sheet: str, resampler: Resampler) -> dict[str, Any]:
    own, *again = _repeats(audit, heard)
    other = heard.sheets[sheet]
    return {
        aspect: sensitivity(own[:, at], other[:, at], again[0][:, at] if again else None, resampler)
        for at, aspect in enumerate(ASPECTS)
    }


def _wording(audit: JudgeAudit, heard: Heard, resampler: Resampler) -> dict[str, Any]:
    if heard.told is None:
        return {"skipped": "it reads no descriptions of its own"}
    now, other = heard.told
    return {"told": now, "instead": other, **_sensitivity(audit, heard, RETOLD, resampler)}


def _pairwise(audit: JudgeAudit, heard: Heard) -> dict[str, Any]:
    if heard.choices is None:
        return {"skipped": "it compares no lists" if len(audit.rivals) > 1 else "there is one system"}
    users = audit.reference.examples.requests.users[heard.choices.pairing.row]
    resampler = Resampler(users, audit.settings.seed, REPLICATES)
    names = [system.name for system in audit.rivals]
    scores = np.stack([heard.sheets[name][:, OVERALL] for name in names])
    return ranking(heard.choices, names, scores, resampler) | position(heard.choices, resampler)


def _agreement(audit: JudgeAudit) -> dict[str, Any]:
    """Every pair of raters, on the lists of the given runs; and all raters of a kind."""
    raters = _raters(audit)
    users = np.concatenate([case.examples.requests.users for case in audit.cases])
    resampler = Resampler(users, audit.settings.seed, REPLICATES)
    names = list(raters)
    pairs = [
        {"one": one, "other": other, "score": aspect, **between(raters[one][:, at], raters[other][:, at], resampler)}
        for place, one in enumerate(names)
        for other in names[place + 1 :]
        for at, aspect in enumerate(ASPECTS)
        if (~np.isnan(raters[one][:, at]) & ~np.isnan(raters[other][:, at])).sum() > 1
    ]
    kinds = {
        "people": [name for name in names if name in audit.people],
        "language_models": [heard.name for heard in audit.heard if heard.who["is_llm"]],
    }
    groups = {
        kind: {
            "raters": members,
            "alpha": {
                aspect: among(np.stack([raters[name][:, at] for name in members]), resampler)
                for at, aspect in enumerate(ASPECTS)
            },
        }
        for kind, members in kinds.items()
        if len(members) > 1
    }
    return {"pairs": pairs, "groups": groups}


def _raters(audit: JudgeAudit) -> dict[str, Column]:
    """Scores float64 [B of all runs, 3] by judge and by person."""
    runs = [system for system in audit.systems if system.run is not None]
    raters = {heard.name: np.concatenate([heard.sheets[run.name] for run in runs]) for heard in audit.heard}
    for person, scores in audit.people.items():
        none = [np.full((len(run.lists), len(ASPECTS)), np.nan) for run in runs]
        raters[person] = np.concatenate(
            [scores.get(str(run.run), empty) for run, empty in zip(runs, none, strict=True)]
        )
    return raters


def _self_preference(audit: JudgeAudit) -> dict[str, Any]:
    runs = [system for system in audit.systems if system.run is not None]
    judges = {heard.name: family((heard.who["llm"] or {}).get("model")) for heard in audit.heard}
    judgements = [
        Judgement(heard.name, run.name, heard.sheets[run.name][:, OVERALL], run.case.examples.requests.users)
        for heard in audit.heard
        for run in runs
    ]
    simulators = {run.name: family(_simulator(run)) for run in runs}
    recommenders = {run.name: family((run.case.asked.about.get("llm") or {}).get("model")) for run in runs}
    seed = audit.settings.seed
    return {
        "families": judges,
        "simulators": simulators,
        "recommenders": recommenders,
        "requests": preference(judgements, judges, simulators, seed),
        "lists": preference(judgements, judges, recommenders, seed),
    }


def _simulator(run: System) -> str | None:
    """The language model that wrote a run's requests, where its task has a set of them that says so."""
    task = run.case.asked.task
    if not hasattr(task, "request_set"):
        return None
    llm = task.request_set(run.case.asked.dataset).origin.llm
    return None if llm is None else str(llm.get("model"))
