"""`OUT/leaderboard.json` and its page brought up to date: one process at a time, each file whole or not at all."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench import runs
from bench.contracts import Progress
from bench.leaderboard import submissions
from bench.leaderboard.build import Made, make_board
from bench.leaderboard.entries import Entry, read_probes
from bench.leaderboard.examples import Asked, may_be_passed_on, write_examples
from bench.leaderboard.ranks import Key, group_key
from bench.leaderboard.rows import EXAMPLES, EXAMPLES_FILE, FILE, FOLDER, Board, Row, read_board, write_board
from bench.locks import file_lock
from bench.registry import cards
from bench.scoring import folder_for
from bench.workers import Map, spread

LOCK = ".leaderboard.lock"


@dataclass(frozen=True)
class Options:
    """How a board is built.

    `baseline` is the model that others are tested against; `fresh` drops rows whose runs are not under `out`; without `pages`
    neither examples nor page are written; `examples` names datasets whose examples may be shown although their licence does
    not let them be passed on.
    """

    out: Path
    data_dir: Path | None = None
    baseline: str | None = None
    fresh: bool = False
    pages: bool = True
    examples: Collection[str] = ()


@dataclass(frozen=True)
class Updated:
    """What a build did: the board and its file, the page, rows taken over, and in lines why something was left out."""

    board: Board
    path: Path
    page: Path | None
    kept: int
    left_out: list[str]
    without_examples: list[str] = field(default_factory=list)


def update(options: Options, progress: Progress) -> Updated:
    """Build the board of everything under OUT, its examples and its page, and put them in the place of the old ones.

    A second build waits for the first and then reads the folders anew, so no row is lost. Measured rows of the board that
    is there whose runs are not under OUT (it was built elsewhere) are kept, with the ranks that they have where their group
    has not changed, and else ranked by their intervals.

    Raises:
        InputError: the board that is there, a submission or a probe is not readable, or rows contradict each other.
    """
    path = options.out / FILE
    with file_lock(options.out / LOCK, waiting=lambda: progress.note("waiting for another build")):
        before = Board(rows=[]) if options.fresh or not path.exists() else read_board(path)
        folders = list(runs.folders(options.out))
        with submissions.opened(options.out / submissions.SUBMISSIONS, read_probes(options.out)) as submitted:
            kept = _absent(before, {folder.name for folder in folders})
            others = [*submitted, *kept]
            with spread(_newer(folders, path), _ready) as over:
                made = make_board(folders, others, before.groups, options.out, options.baseline, progress, over)
                progress.note("writing examples")
                board, without = _with_examples(made, options, over) if options.pages else (made.board, [])
        page = None
        if options.pages:
            from bench.leaderboard.page import write_page

            progress.note("writing the page")
            page = write_page(board, options.out / FOLDER)
        write_board(path, board)
    still = sum(entry.folder is None for entry in made.entries)
    return Updated(board, path, page, still, made.left_out, without)


def _newer(folders: Collection[Path], board: Path) -> int:
    """How many runs are newer than the board."""
    built = board.stat().st_mtime_ns if board.exists() else 0
    rankings = (folder / runs.RANKINGS for folder in folders)
    return sum(path.stat().st_mtime_ns >= built for path in rankings if path.exists())


def _ready() -> None:
    """Import what ranking and examples need."""


def _absent(before: Board, present: set[str]) -> list[Entry]:
    """Measured rows of the older board whose runs are not here."""
    return [Entry(row, None) for row in before.rows if row.source == "measured" and row.run not in present]


def _with_examples(made: Made, options: Options, spread: Map) -> tuple[Board, list[str]]:
    """The board whose rows name their files of examples, and why rows of a dataset have none."""
    folder = options.out / FOLDER
    groups: dict[Key, list[tuple[Row, Path]]] = {}
    for entry in sorted(made.entries, key=lambda each: (*group_key(each.row), each.row.seed or 0)):
        if entry.folder is not None:
            run = entry.folder if entry.row.judge is None else entry.folder.parents[1]
            groups.setdefault(group_key(entry.row), []).append((entry.row, run))
    reasons = _kept_here({rows[0][0].dataset for rows in groups.values()}, options.examples)
    asked = [
        Asked(rows[0][0].dataset, folder_for(rows[0][0].dataset, options.data_dir), rows)
        for rows in groups.values()
        if rows[0][0].dataset not in reasons
    ]
    files = _earlier(made.entries, folder, options.examples)
    without = list(reasons.values())
    for written in spread(partial(write_examples, folder), asked):
        files |= written.files
        without += [reason for reason in written.without if reason not in without]
    _remove_others(folder / EXAMPLES, set(files.values()))

    def named(row: Row) -> Row:
        return row.model_copy(update={"examples_file": files.get(row.id)})

    return made.board.model_copy(update={"rows": [named(row) for row in made.board.rows]}), without


def _earlier(entries: Collection[Entry], folder: Path, shown: Collection[str]) -> dict[str, str]:
    """Of rows whose runs are elsewhere, the examples that are there from an earlier build and may be shown."""
    rows = [entry.row for entry in entries if entry.folder is None]
    barred = _kept_here({row.dataset for row in rows}, shown)
    return {
        row.id: row.examples_file
        for row in rows
        if row.examples_file is not None
        and EXAMPLES_FILE.fullmatch(row.examples_file)
        and row.dataset not in barred
        and (folder / row.examples_file).is_file()
    }


def _kept_here(datasets: Collection[str], shown: Collection[str]) -> dict[str, str]:
    """Datasets whose examples may not be shown, each with the reason."""
    known, reasons = cards("datasets"), {}
    for name in sorted(datasets):
        registered = name.partition("@")[0]
        if registered not in shown and not may_be_passed_on(known.get(registered)):
            reasons[name] = (
                f"{name}: its licence keeps its data here; --examples {registered} shows them on a private board"
            )
    return reasons


def _remove_others(folder: Path, named: set[str]) -> None:
    """Remove examples that no row names: they may be of a dataset that must not be passed on."""
    stems = {Path(name).stem for name in named}
    for path in folder.glob("*"):
        if path.is_file() and path.stem not in stems:
            path.unlink()
