"""Groups of rows that may be ranked against each other, and the ranks and tests within them."""

from __future__ import annotations

import statistics as plain
from collections.abc import Sequence
from contextlib import suppress

from bench import registry
from bench.errors import CheckError, InputError
from bench.identity import digest
from bench.leaderboard.contest import Contest, Systems, make_contest
from bench.leaderboard.entries import Entry
from bench.leaderboard.rows import Group, Place, Row, Spread
from bench.workers import Map

# Where nobody names a baseline it is the strongest of these controls (a name, or how names begin).
CONTROLS = ("random", "popularity", "text_retrieval", "filter_")
# A rank needs every pair of a group; beyond this their resamples do not fit into a modest memory.
MAX_SYSTEMS = 2000

Key = tuple[str, ...]


def group_key(row: Row) -> Key:
    """Equal for rows that may be ranked against each other."""
    return (
        row.task,
        row.dataset,
        row.protocol,
        row.condition,
        row.dataset_fingerprint or "",
        digest([row.task_version, row.settings.get("task"), judged_by(row)])[:8],
    )


def judged_by(row: Row) -> str | None:
    """What judged rows must have in common."""
    return None if row.judge is None else row.judge.identity


def make_groups(
    entries: Sequence[Entry],
    published: Sequence[Row],
    baseline: str | None = None,
    before: Sequence[Group] = (),
    over: Map = map,
) -> list[Group]:
    """Group and rank.

    A paired test is over all seeds that both systems have run. Two without a common one, or of which one has no scores by
    example, are compared by their intervals (`bench.leaderboard.contest`); a rank is wanting only where there is none.
    Failures count with the worst value.

    Args:
        entries: rows of runs and submissions, with the folders of their scores.
        published: the paper's rows.
        baseline: the model that all others are tested against; the strongest control of the group when None.
        before: groups whose ranks are taken over where their rows are the same and none of the scores are here.
        over: where the tests are computed (`bench.workers`).

    Raises:
        InputError: rows that claim the same questions were asked different ones, or a group is too large.
    """
    together: dict[Key, list[Entry]] = {}
    for entry in entries:
        together.setdefault(group_key(entry.row), []).append(entry)
    rows = [entry.row for entry in entries]
    known = {group.id: group for group in before}
    beside = {key: _beside(members, rows, published) for key, members in together.items()}
    made, asked = {}, []
    for key, members in together.items():
        older = known.get(group_name(key))
        if older is not None and _unchanged(older, members):
            made[key] = older
        else:
            asked.append((key, members, baseline))
    made |= {key: group for (key, *_), group in zip(asked, over(_ranked, asked), strict=True)}
    return [made[key].model_copy(update={"beside": beside[key]}) for key in sorted(made)]


def group_name(key: Key) -> str:
    """The id of a group, short enough to be read."""
    return "/".join([*key[:4], key[4][:8], key[5]])


def _unchanged(older: Group, members: list[Entry]) -> bool:
    rows = {name for place in older.places for name in place.rows}
    return rows == {entry.row.id for entry in members} and all(entry.folder is None for entry in members)


def _ranked(asked: tuple[Key, list[Entry], str | None]) -> Group:
    """A group's rows in their ranks, tested against the best and the baseline."""
    key, members, baseline = asked
    _refuse_mixed(key, members)
    first = members[0].row
    metric = main_metric(first)
    systems: Systems = {}
    for entry in members:
        systems.setdefault(entry.row.system, []).append(entry)
    if len(systems) > MAX_SYSTEMS:
        raise InputError(f"{len(systems)} systems stand in {'/'.join(key[:4])}; at most {MAX_SYSTEMS} can be ranked.")
    contest = make_contest(systems, metric)
    against = _baseline(systems, metric, baseline)
    judge = first.judge
    return Group(
        id=group_name(key),
        task=first.task,
        dataset=first.dataset,
        dataset_fingerprint=first.dataset_fingerprint or "",
        protocol=first.protocol,
        condition=first.condition,
        windows=first.windows,
        judge=None if judge is None else judge.name,
        metric=metric,
        baseline=against,
        places=_places(systems, metric, contest, against),
        beside=[],
    )


def main_metric(row: Row) -> str:
    """What a group is ranked by: the judge's overall score, else the task's main metric, else what comes first."""
    known = sorted(row.metrics)
    wanted = ["overall_score"] if row.judge is not None else []
    # The board may hold rows of a task whose package is not installed here.
    with suppress(InputError, CheckError):
        wanted.append(registry.get("tasks", row.task).card.main_metric)
    return next((name for name in [*wanted, "ndcg@10"] if name in row.metrics), known[0])


def _refuse_mixed(key: Key, members: list[Entry]) -> None:
    """One seed of one task on one dataset gives the same questions to everybody."""
    asked: dict[int | None, Row] = {}
    for entry in members:
        row = entry.row
        other = asked.setdefault(row.seed, row)
        if other.targets_digest != row.targets_digest:
            raise InputError(
                f"rows {other.id} and {row.id} both stand in {'/'.join(key[:4])} with seed {row.seed} but were asked "
                "different questions: take one of them away."
            )


def _baseline(systems: Systems, metric: str, wanted: str | None) -> str | None:
    """The system that others are tested against: of the model that is named, or the strongest control."""
    best: tuple[float, str] | None = None
    for name, entries in systems.items():
        model, value = entries[0].row.model, _value(entries, metric)
        chosen = model == wanted if wanted is not None else model.startswith(CONTROLS)
        if chosen and value is not None and (best is None or (value, name) > best):
            best = (value, name)
    return None if best is None else best[1]


def _places(systems: Systems, metric: str, contest: Contest, baseline: str | None) -> list[Place]:
    ranks = contest.ranks()
    values = {name: _value(entries, metric) for name, entries in systems.items()}
    if not ranks and len(systems) == 1:
        ranks = dict.fromkeys(systems, 1)
    order = sorted(systems, key=lambda name: (ranks.get(name, len(systems) + 1), -(values[name] or 0.0), name))
    top = max((name for name in order if name in ranks), key=lambda name: values[name] or 0.0, default=None)
    best, base = (contest.against(name, metric) for name in (top, baseline))
    return [
        Place(
            system=name,
            rows=sorted(entry.row.id for entry in systems[name]),
            seeds=sorted({entry.row.seed for entry in systems[name] if entry.row.seed is not None}),
            rank=ranks.get(name),
            value=values[name],
            spread=_spread(systems[name]),
            paired=contest.is_paired(name),
            against_best=best.get(name),
            against_baseline=base.get(name),
        )
        for name in order
    ]


def _value(entries: list[Entry], metric: str) -> float | None:
    values = _over_seeds(entries, metric)
    return round(plain.fmean(values), 12) if values else None


def _over_seeds(entries: list[Entry], metric: str) -> list[float]:
    found = (entry.row.metrics[metric].value for entry in entries if metric in entry.row.metrics)
    return [value for value in found if value is not None]


def _spread(entries: list[Entry]) -> dict[str, Spread]:
    """Of every metric over the seeds; nothing for a single seed."""
    spread = {}
    for metric in entries[0].row.metrics:
        values = _over_seeds(entries, metric)
        if len(values) > 1:
            mean, sd = plain.fmean(values), plain.stdev(values)
            spread[metric] = Spread(mean=round(mean, 12), sd=round(sd, 12), smallest=min(values), largest=max(values))
    return spread


def _beside(members: list[Entry], rows: Sequence[Row], published: Sequence[Row]) -> list[str]:
    """Ids of the rows to be read with a group: the paper's, and of the same questions those that words do not change."""
    first = members[0].row
    asked = {entry.row.targets_digest for entry in members}
    models = {(entry.row.model, digest(entry.row.settings.get("model"))) for entry in members}
    unmoved = [
        row
        for row in rows
        if row.information != "prompt" and row.targets_digest in asked and judged_by(row) == judged_by(first)
    ]
    kept: dict[tuple[str, str, int | None], Row] = {}
    for row in unmoved:
        same = (row.model, digest(row.settings.get("model")))
        if row.protocol == first.protocol and row.condition != first.condition and same not in models:
            # A model that hears nothing is the same in every condition: one row of it is enough.
            kept.setdefault((*same, row.seed), row)
    paper = [
        row
        for row in published
        if (row.task, row.dataset, row.protocol) == (first.task, first.dataset, first.protocol)
        and (row.condition == first.condition or row.information != "prompt")
        # What another judge says of a list is no number to read beside this one's.
        and judged_by(row) == judged_by(first)
    ]
    return sorted(row.id for row in [*kept.values(), *paper])
