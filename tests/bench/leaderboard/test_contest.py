"""Systems with scores by example here beside systems without: who is tested how, and what ranks come of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from bench import statistics
from bench.contracts import Scores
from bench.leaderboard.contest import make_contest
from bench.leaderboard.entries import Entry
from bench.leaderboard.ranks import make_groups
from bench.leaderboard.rows import Group, Metric, Place, Row

METRIC, USERS = "ndcg@10", 150
FAR = (0.1, 0.3, 0.5, 0.7, 0.9)


def entry(folder: Path, level: float, name: str, seed: int = 0, users: int = USERS, noise: float = 0.05) -> Entry:
    """A system that scores about `level` on users who are more or less easy for everybody."""
    easy = np.random.default_rng(seed).normal(0, 0.1, users)
    own = np.random.default_rng([seed, *name.encode()]).normal(0, noise, users)
    values = np.clip(level + easy + own, 0, 1)
    who, windows, failed = np.arange(users, dtype=np.int32), np.full(users, 1, np.int32), np.zeros(users, bool)
    headline = statistics.summarise(Scores({METRIC: values}), who, windows, failed, seed).headline[METRIC]
    row = Row.model_validate(
        {
            "id": f"{name}-{seed}",
            "source": "measured",
            "run": f"{name}-{seed}",
            "task": "ask",
            "model": name,
            "system": name,
            "dataset": "tiny",
            "protocol": "paper",
            "condition": "genre",
            "information": "prompt",
            "targets_digest": f"asked-{seed}",
            "seed": seed,
            "metrics": {METRIC: {"value": headline.value, "low": headline.low, "high": headline.high, "n": headline.n}},
        }
    )
    place = folder / row.id
    place.mkdir()
    columns = {"user": who, "window": windows, "failed": failed, METRIC: values}
    pq.write_table(pa.table({key: pa.array(column) for key, column in columns.items()}), place / "scores.parquet")
    return Entry(row, place)


def bare(one: Entry, **metric: Any) -> Entry:
    """The same row, whose run is elsewhere; with other figures where some are named."""
    figures = one.row.metrics[METRIC].model_dump() | metric
    return Entry(one.row.model_copy(update={"metrics": {METRIC: Metric(**figures)}}), None)


def grouped(entries: Sequence[Entry], baseline: str | None = None) -> Group:
    (group,) = make_groups(entries, [], baseline)
    return group


def by_system(group: Group) -> dict[str, Place]:
    return {place.system: place for place in group.places}


@pytest.fixture
def far(tmp_path: Path) -> list[Entry]:
    """Five systems that nobody takes for one another."""
    return [entry(tmp_path, level, f"m{at}") for at, level in enumerate(FAR)]


def test_systems_that_are_far_apart_have_the_same_ranks_whoever_is_elsewhere(far: list[Entry]) -> None:
    names = [one.row.system for one in reversed(far)]
    everybody = grouped(far, "m0")
    assert [(place.system, place.rank, place.paired) for place in everybody.places] == [
        (name, at + 1, True) for at, name in enumerate(names)
    ]
    for count in range(1, len(far) + 1):
        for away in itertools.combinations(names, count):
            mixed = grouped([bare(one) if one.row.system in away else one for one in far], "m0")
            assert [(place.system, place.rank) for place in mixed.places] == [
                (name, at + 1) for at, name in enumerate(names)
            ]
            assert {place.system for place in mixed.places if not place.paired} == set(away)


def test_two_systems_with_scores_are_tested_as_if_nobody_were_elsewhere(far: list[Entry]) -> None:
    near = [*far, entry(far[0].folder.parent, 0.895, "near")]  # type: ignore[union-attr]
    before, after = by_system(grouped(near, "m0")), by_system(grouped([*near[:1], bare(near[1]), *near[2:]], "m0"))
    for name in before.keys() - {"m1"}:
        for key in ("against_best", "against_baseline"):
            own, again = getattr(before[name], key), getattr(after[name], key)
            assert (own is None) == (again is None)
            if own is not None:
                assert own.model_dump(exclude={"p_holm"}) == again.model_dump(exclude={"p_holm"})
    assert before["near"].against_best is not None and after["m1"].against_best is not None
    # The intervals of systems with scores play no part among them.
    wide = [
        Entry(bare(one, low=0.0, high=1.0).row, one.folder) if at != 1 else bare(one) for at, one in enumerate(near)
    ]
    assert by_system(grouped(wide, "m0"))["near"].against_best == after["near"].against_best


def test_intervals_tell_fewer_apart_than_scores_of_the_same_users(tmp_path: Path) -> None:
    entries = [entry(tmp_path, level, name) for level, name in ((0.5, "one"), (0.515, "two"))]
    known, unknown = grouped(entries), grouped([entries[0], bare(entries[1])])
    assert [place.rank for place in known.places] == [1, 2] and [place.rank for place in unknown.places] == [1, 1]
    sharp, blunt = (by_system(group)["one"].against_best for group in (known, unknown))
    assert sharp is not None and blunt is not None and sharp.p < 0.05 < blunt.p
    assert blunt.high - blunt.low > sharp.high - sharp.low
    assert blunt.difference == pytest.approx(sharp.difference, abs=1e-6)


def test_several_seeds_are_their_mean_as_if_all_of_them_erred_alike(tmp_path: Path) -> None:
    here = [entry(tmp_path, 0.5, "here", seed) for seed in (0, 1)]
    away = [bare(entry(tmp_path, 0.53, "away", seed, noise=0.3)) for seed in (0, 1, 2)]
    test = by_system(grouped([*here, *away]))["here"].against_best
    assert test is not None

    def told(entries: list[Entry]) -> tuple[float, float]:
        metrics = [one.row.metrics[METRIC] for one in entries]
        errors = [(each.high - each.low) / 2 / stats.norm.ppf(0.975) for each in metrics]  # type: ignore[operator]
        return float(np.mean([each.value for each in metrics])), float(np.mean(errors))

    (one, one_error), (other, other_error) = told(here), told(away)
    error = float(np.hypot(one_error, other_error))
    assert (test.difference, test.p) == pytest.approx(
        (one - other, 2 * stats.norm.sf(abs(one - other) / error)), abs=1e-6
    )
    assert (test.low, test.high) == pytest.approx(stats.norm.interval(0.95, one - other, error), abs=1e-6)


def test_other_seeds_and_other_questions_are_compared_by_intervals(tmp_path: Path) -> None:
    entries = [entry(tmp_path, level, f"m{at}") for at, level in enumerate(FAR[:3])]
    entries += [entry(tmp_path, 0.7, "late", seed=7), entry(tmp_path, 0.9, "sampled", users=USERS // 2)]
    places = grouped(entries).places
    assert [(place.system, place.rank, place.paired) for place in places] == [
        ("sampled", 1, False),
        ("late", 2, False),
        ("m2", 3, True),
        ("m1", 4, True),
        ("m0", 5, True),
    ]


def test_without_an_interval_there_is_no_rank_and_the_others_have_theirs(far: list[Entry]) -> None:
    nothing = bare(far[4], low=None, high=None)
    places = by_system(grouped([*far[:4], nothing]))
    assert (places["m4"].rank, places["m4"].against_best, places["m4"].paired) == (None, None, False)
    assert [places[f"m{at}"].rank for at in range(4)] == [4, 3, 2, 1]
    # Who has scores and no interval can only be set against others with scores.
    odd = Entry(bare(far[3], low=None, high=None).row, far[3].folder)
    places = by_system(grouped([*far[:3], odd, bare(far[4])]))
    assert places["m4"].rank is None and [places[f"m{at}"].rank for at in range(4)] == [4, 3, 2, 1]


def test_a_group_that_is_the_same_and_all_elsewhere_keeps_what_it_had(far: list[Entry]) -> None:
    before = grouped(far, "m0")
    away = [bare(one) for one in far]
    (again,) = make_groups(away, [], "m0", [before])
    assert again == before
    (fewer,) = make_groups(away[:4], [], "m0", [before])
    assert [place.rank for place in fewer.places] == [1, 2, 3, 4] and not any(place.paired for place in fewer.places)


def test_who_is_alone_is_the_first_and_nobody_is_tested_against_who_is_not_there(far: list[Entry]) -> None:
    (place,) = grouped([bare(far[0], low=None, high=None)]).places
    assert (place.rank, place.against_best) == (1, None)
    contest = make_contest({one.row.system: [one] for one in far}, METRIC)
    assert contest.against("nobody", METRIC) == {} == contest.against(None, METRIC)


def test_two_systems_are_tested_on_all_seeds_that_they_share_whoever_has_fewer(tmp_path: Path) -> None:
    many = [entry(tmp_path, level, name, seed) for name, level in (("m", 0.5), ("n", 0.51)) for seed in (0, 1, 2)]
    few, late = entry(tmp_path, 0.5, "few"), entry(tmp_path, 0.5, "late", seed=7)
    places, without = by_system(grouped([*many, few, late])), by_system(grouped(many))
    both, alone = places["m"].against_best, without["m"].against_best
    assert both is not None and alone is not None and places["n"].against_best is None
    assert both.model_dump(exclude={"p_holm"}) == alone.model_dump(exclude={"p_holm"})
    # With one seed of the three it is another test.
    once = by_system(grouped([one for one in many if one.row.seed == 0] + [few]))["m"].against_best
    assert once is not None and once.p != both.p
    first = by_system(grouped([many[3], few]))["few"].against_best
    assert first is not None and places["few"].against_best is not None
    assert first.model_dump(exclude={"p_holm"}) == places["few"].against_best.model_dump(exclude={"p_holm"})
    assert {name: place.paired for name, place in places.items()} == {"m": True, "n": True, "few": True, "late": False}
