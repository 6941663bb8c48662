"""Is a board what its runs, the paper and its own arithmetic say?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.errors import CheckError, InputError
from bench.leaderboard import submissions
from bench.leaderboard.archive import unpack
from bench.leaderboard.build import row_order
from bench.leaderboard.entries import Entry, read_probes, run_entries
from bench.leaderboard.paper import published_rows
from bench.leaderboard.ranks import group_key, group_name, judged_by, make_groups
from bench.leaderboard.rows import Board, Group, Row, read_board
from bench.leaderboard.verify import TOLERANCE, Data, verify_run
from bench.runs import JOURNAL, RUNS

# These hang on the other rows of a board, or on files that were not part of a run.
NOT_OF_A_RUN = ("variant", "contamination", "examples_file", "submission", "source", "id")
# Journals have these; of a run made before they did they come from a checkpoint, which may be gone.
OF_A_CHECKPOINT = ("training", "parameters")


@dataclass
class Verdict:
    """What was found: problems, a line each; how many runs were computed again, and why others were not."""

    problems: list[str] = field(default_factory=list)
    recomputed: int = 0
    not_recomputed: list[str] = field(default_factory=list)


def verify_board(path: Path, data: Data) -> Verdict:
    """Check a board: its shape and order, the paper's rows against the published values, every row's arithmetic, that no
    group mixes what must not be ranked together, and every number of the runs and submissions that lie beside it.

    Args:
        path: the board; runs are looked for in `runs/` beside it, archives in `submissions/`.
        data: where datasets come from.

    Raises:
        InputError: the board or the list of submissions is not readable.
    """
    board = read_board(path)
    verdict = Verdict()
    if path.read_text("utf-8") != board.to_json():
        verdict.problems.append("the file is not as `bench leaderboard build` writes it (order of keys or numbers)")
    verdict.problems += _order_problems(board)
    verdict.problems += _published_problems(board)
    for row in board.rows:
        verdict.problems += [f"{row.id}: {line}" for line in _arithmetic_problems(row)]
    verdict.problems += _group_problems(board)
    _check_runs(board, path.parent, data, verdict)
    return verdict


def verify_archive(archive: Path, data: Data) -> Verdict:
    """Check the run in an archive, as on the machine that it came from.

    Raises:
        InputError: the archive is truncated, holds what it should not, or its dataset is not at hand.
    """
    with TemporaryDirectory(prefix="verify-") as scratch:
        run = unpack(archive, Path(scratch))
        try:
            return Verdict([line.replace(f"{scratch}/", "") for line in verify_run(run, data)], 1)
        except InputError as error:
            raise InputError(f"{archive}: {str(error).replace(f'{scratch}/', '')}") from None


def _order_problems(board: Board) -> Iterator[str]:
    for name, count in Counter(row.id for row in board.rows).items():
        if count > 1:
            yield f"row {name!r} stands there {count} times"
    standing: dict[tuple[str, int | None], str] = {}
    for row in board.rows:
        other = standing.setdefault((row.system, row.seed), row.id)
        if row.source != "published" and other != row.id:
            yield f"rows {other!r} and {row.id!r} are one system with one seed: a board holds it once"
    if [row.id for row in board.rows] != [row.id for row in sorted(board.rows, key=row_order)]:
        yield "rows are not in their order"
    for source, mark in (("published", "published"), ("submitted", "submission")):
        for row in board.rows:
            if (row.source == source) != (getattr(row, mark) is not None):
                yield f"row {row.id!r}: source is {row.source!r}, {mark} says otherwise"


def _published_problems(board: Board) -> Iterator[str]:
    wanted = {row.id: row for row in published_rows()}
    found = {row.id: row for row in board.rows if row.source == "published"}
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            yield f"published row {name!r} is missing"
        elif name not in wanted:
            yield f"published row {name!r} is not in the paper"
        elif found[name] != wanted[name]:
            yield f"published row {name!r}: {_first_difference(found[name], wanted[name])}"


def _arithmetic_problems(row: Row) -> Iterator[str]:
    """A headline is the mean over its windows; a value lies in its interval; failures are among the examples."""
    if not row.metrics and row.source != "published":
        yield "has no metric"
    for name, metric in row.metrics.items():
        bounds = (metric.low, metric.value, metric.high)
        low, value, high = (math.nan if bound is None else bound for bound in bounds)
        if low > value + TOLERANCE or value > high + TOLERANCE:
            yield f"{name} {value} lies outside its interval {low} to {high}"
        if (metric.failed or 0) > (metric.n or 0):
            yield f"{name}: {metric.failed} failed of {metric.n}"
        windows = [window[name].value for window in row.per_window.values() if name in window]
        known = [value for value in windows if value is not None]
        if row.source != "published" and known and metric.value is not None:
            mean = math.fsum(known) / len(known)
            if not math.isclose(mean, metric.value, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
                yield f"{name} is {metric.value}, the mean over its windows is {mean}"


def _group_problems(board: Board) -> Iterator[str]:
    """Every run stands in the one group that it belongs to, and a group holds one task, dataset, protocol, condition, judge."""
    rows = {row.id: row for row in board.rows}
    placed: Counter[str] = Counter()
    for group in board.groups:
        members = [name for place in group.places for name in place.rows]
        placed.update(members)
        for name in [*members, *group.beside]:
            if name not in rows:
                yield f"group {group.id}: there is no row {name!r}"
        judges = {judged_by(rows[name]) for name in [*members, *group.beside] if name in rows}
        if len(judges) > 1:
            yield f"group {group.id} shows rows of {len(judges)} judges side by side"
        for name in members:
            if name in rows and group_name(group_key(rows[name])) != group.id:
                own = group_name(group_key(rows[name]))
                yield f"group {group.id} mixes in row {name!r}, which belongs to {own}"
        yield from _place_problems(group, rows)
    for row in board.rows:
        expected = 0 if row.source == "published" else 1
        if placed[row.id] != expected:
            yield f"row {row.id!r} stands in {placed[row.id]} groups, not in {expected}"
    for metric, (name, found) in _seed_questions(board).items():
        if len(found) > 1:
            yield f"group {name}: rows of seed {metric[1]} were asked different questions"


def _seed_questions(board: Board) -> dict[tuple[str, int | None], tuple[str, set[str | None]]]:
    asked: dict[tuple[str, int | None], tuple[str, set[str | None]]] = {}
    for row in board.rows:
        if row.source != "published":
            name = group_name(group_key(row))
            asked.setdefault((name, row.seed), (name, set()))[1].add(row.targets_digest)
    return asked


def _place_problems(group: Group, rows: dict[str, Row]) -> Iterator[str]:
    for place in group.places:
        own = [rows[name].metrics.get(group.metric) for name in place.rows if name in rows]
        values = [metric.value for metric in own if metric is not None and metric.value is not None]
        mean = math.fsum(values) / len(values) if values else None
        if (mean is None) != (place.value is None) or (
            mean is not None and not math.isclose(mean, place.value or 0.0, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        ):
            yield f"group {group.id}: {place.system} has {place.value}, its rows {mean}"
    ranks = [place.rank for place in group.places if place.rank is not None]
    if any(rank != ranks.index(rank) + 1 for rank in ranks):
        yield f"group {group.id}: the ranks {ranks} are not in order"


def _check_runs(board: Board, out: Path, data: Data, verdict: Verdict) -> None:
    probes = read_probes(out)
    with submissions.opened(out / submissions.SUBMISSIONS, probes) as submitted:
        handed_in = {entry.row.id: entry for entry in submitted}
        for row in board.rows:
            if row.source == "submitted" and row.id not in handed_in:
                verdict.problems.append(f"{row.id}: no submission in {out / submissions.SUBMISSIONS}")
        standing = {(row.system, row.seed) for row in board.rows}
        for name in sorted(handed_in.keys() - {row.id for row in board.rows}):
            if (handed_in[name].row.system, handed_in[name].row.seed) not in standing:
                verdict.problems.append(f"submission {name} is not on the board; build it again")
        entries: list[Entry] = []
        runs = sorted({row.run for row in board.rows if row.run is not None and row.source == "measured"})
        advance = data.progress.track("computing runs again", len(runs) + len(submitted))
        for run in runs:
            advance(1)
            entries += _check_run(run, out / RUNS / run, board, data, verdict)
        rows = {row.id: row for row in board.rows}
        for entry in submitted:
            advance(1)
            if entry.row.id in rows:
                _compare(entry.row, rows[entry.row.id], verdict)
            if entry.folder is not None and entry.row.judge is None:
                _recompute(entry.row.id, entry.folder, data, verdict)
        _check_ranks(board, [*entries, *submitted], verdict)


def _check_run(run: str, folder: Path, board: Board, data: Data, verdict: Verdict) -> list[Entry]:
    """Compare the rows of a run with its folder, and compute it again."""
    if not (folder / JOURNAL).is_file():
        verdict.not_recomputed.append(f"{run}: not in {folder.parent}")
        return []
    try:
        entries, _ = run_entries(folder)
    except (InputError, CheckError) as error:
        verdict.problems.append(f"{run}: {error}")
        return []
    found = {entry.row.id: entry.row for entry in entries}
    for row in board.rows:
        if row.run == run and row.source == "measured":
            _compare(found.get(row.id), row, verdict)
    _recompute(run, folder, data, verdict)
    return entries


def _compare(made: Row | None, row: Row | None, verdict: Verdict) -> None:
    if made is None or row is None:
        name = row.id if row is not None else made.id if made is not None else ""
        verdict.problems.append(f"{name}: the run beside the board gives no such row")
        return
    free = NOT_OF_A_RUN + (OF_A_CHECKPOINT if made.parameters is None else ())
    own, shown = (each.model_copy(update={key: getattr(made, key) for key in free}) for each in (made, row))
    if own != shown:
        verdict.problems.append(f"{row.id}: {_first_difference(shown, own)}")


def _recompute(name: str, folder: Path, data: Data, verdict: Verdict) -> None:
    try:
        verdict.problems += [f"{name}: {line}" for line in verify_run(folder, data)]
        verdict.recomputed += 1
    except InputError as error:
        verdict.not_recomputed.append(f"{name}: {error}")


def _check_ranks(board: Board, entries: Sequence[Entry], verdict: Verdict) -> None:
    """Where the scores of all paired places of a group are here, its ranks and tests are found again."""
    here = {entry.row.id: entry for entry in entries}
    for group in board.groups:
        try:
            again = list(_ranked_again(group, board, here))
        except InputError as error:
            verdict.problems.append(f"group {group.id}: {error}")
            continue
        if again and not any(_same_places(one, group) for one in again):
            verdict.problems.append(f"group {group.id}: ranks or tests are not those of its scores")


def _ranked_again(group: Group, board: Board, here: dict[str, Entry]) -> Iterator[Group]:
    """The group as it may have been built; nothing where that cannot be found out.

    Of a place that is not paired nobody knows whether its scores were absent when the board was built or are not of the others'
    questions: it is tried without them, and with those that are here.
    """
    rows = {row.id: row for row in board.rows}
    names = [name for place in group.places for name in place.rows]
    paired = {name for place in group.places if place.paired for name in place.rows}
    bare = {name: Entry(rows[name], None) for name in names if name in rows and name not in paired}
    if not all(name in here or name in bare for name in names):
        return
    # A group without a baseline stays without: no model has an empty name.
    baseline = next((row.model for row in board.rows if row.system == group.baseline), "")
    for known in [here | bare, bare | here] if here.keys() & bare.keys() else [here | bare]:
        again = make_groups([known[name] for name in names], [], baseline)
        if len(again) == 1:
            yield again[0]


def _same_places(one: Group, other: Group) -> bool:
    """Ranks are equal; of the tests, figures may differ by what another machine's sums make of them."""
    left, right = ([_flat(place.model_dump()) for place in group.places] for group in (one, other))
    return len(left) == len(right) and all(
        mine.keys() == yours.keys() and all(_near(key, value, yours[key]) for key, value in mine.items())
        for mine, yours in zip(left, right, strict=True)
    )


def _near(key: str, one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        # A sum that ties with the observed one may fall on either side; ten of ten thousand are more than ever do.
        return math.isclose(one, other, rel_tol=0, abs_tol=1e-3 if key.rpartition(".")[2] in ("p", "p_holm") else 1e-5)
    return bool(one == other)


def _first_difference(shown: Row, right: Row) -> str:
    left, wanted = (_flat(row.model_dump(mode="json")) for row in (shown, right))
    key = next(key for key in sorted(left.keys() | wanted.keys()) if left.get(key) != wanted.get(key))
    return f"{key} is {left.get(key)!r}, it should be {wanted.get(key)!r}"


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    return {
        key: value
        for name, inner in values.items()
        for key, value in _flat(inner, f"{prefix}.{name}".lstrip(".")).items()
    }
