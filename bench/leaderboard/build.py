"""From a folder of results to the board: read everything, rank, and put the new file in the place of the old one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.contracts import Progress
from bench.errors import CheckError, InputError
from bench.leaderboard.entries import Entry, one_of_each, read_probes, run_entries, with_variants
from bench.leaderboard.paper import published_rows
from bench.leaderboard.ranks import make_groups
from bench.leaderboard.rows import MAX_ROWS, Board, Group, Row
from bench.workers import Map

ORDER = ("measured", "submitted", "published")


@dataclass(frozen=True)
class Made:
    """A board, the folders behind its rows, and why other runs gave none."""

    board: Board
    entries: list[Entry]
    left_out: list[str]


def make_board(
    folders: Sequence[Path],
    others: Sequence[Entry],
    before: Sequence[Group],
    out: Path,
    baseline: str | None,
    progress: Progress,
    over: Map = map,
) -> Made:
    """The board of runs and submissions, with the paper's rows.

    Args:
        folders: folders of runs. One that is unfinished, limited or damaged is left out, and named.
        others: rows of submissions, and those taken over from the board before.
        before: groups of the board before: where none of a group's scores are here, its ranks are taken over.
        out: folder of results, where the probes lie.
        baseline: model that all are tested against; the strongest control of each group when None.
        progress: told how far it is.
        over: where the tests are computed (`bench.workers`).

    Raises:
        InputError: two rows have one id, rows of one group were asked different questions, or there are too many.
    """
    probes = read_probes(out)
    entries: list[Entry] = []
    left_out: list[str] = []
    advance = progress.track("reading runs", len(folders))
    for folder in folders:
        try:
            found, refused = run_entries(folder, probes)
            entries += found
            left_out += refused
        except (InputError, CheckError) as error:
            left_out.append(f"{folder.name}: {error}")
        advance(1)
    entries, repeated = one_of_each([*entries, *others])
    left_out += repeated
    if len(entries) > MAX_ROWS:
        raise InputError(f"{len(entries)} rows are more than a board holds ({MAX_ROWS}).")
    paper = published_rows()
    _refuse_twins([*(entry.row for entry in entries), *paper])
    varied = with_variants(entry.row for entry in entries)
    entries = [Entry(row, entry.folder) for row, entry in zip(varied, entries, strict=True)]
    progress.note("testing systems against each other")
    groups = make_groups(entries, paper, baseline, before, over)
    rows = sorted([*varied, *paper], key=row_order)
    return Made(Board(rows=rows, groups=groups), entries, left_out)


def row_order(row: Row) -> tuple[str, ...]:
    """The order of rows in the file."""
    judge = "" if row.judge is None else f"{row.judge.name} {row.judge.identity}"
    place = str(ORDER.index(row.source))
    return (row.task, row.dataset, row.protocol, row.condition, judge, place, row.model, row.id)


def _refuse_twins(rows: Sequence[Row]) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise InputError(f"two rows have the id {row.id!r}: a board holds every run once.")
        seen.add(row.id)
