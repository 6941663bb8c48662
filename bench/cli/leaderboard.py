"""`bench leaderboard`: build the board, and check every number of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from bench.cli.console import console, emit_json

if TYPE_CHECKING:
    from bench.contracts import Progress
    from bench.leaderboard.check_board import Verdict
    from bench.leaderboard.update import Updated

app = App(
    name="leaderboard", help="The board: build it from runs, check every number of it.", result_action="return_value"
)
# So many lines of one kind tell what is wrong; the count tells how often.
LINES = 20


@app.command
def build(
    *,
    out: Path = Path("results"),
    data_dir: Path | None = None,
    baseline: str | None = None,
    private: Annotated[list[str] | None, Parameter(name="--examples")] = None,
    fresh: bool = False,
    json: bool = False,
) -> None:
    """Write OUT/leaderboard.json and the page OUT/leaderboard/ from runs, submissions and the paper's values.

    Rows of the board that is there are kept where their runs are not under OUT; beside new rows they are ranked by their
    intervals.

    Parameters
    ----------
    out
        Folder of results.
    data_dir
        Folder with the files of the datasets that --examples names, where they are not in the default place.
    baseline
        Model that the others are tested against; the strongest control of each group when not given.
    private
        Show examples of this dataset although its licence does not let them be passed on: for a board that stays private.
        Repeatable. Datasets under an open licence (mini) are shown anyway.
    fresh
        Drop rows whose runs are not under OUT.
    json
        One JSON document on stdout.
    """
    from bench import progress, registry
    from bench.errors import unknown_name
    from bench.leaderboard.update import Options, update

    for name in private or []:
        if name not in registry.names("datasets"):
            raise unknown_name("dataset", name, registry.names("datasets"))
    options = Options(out, data_dir, baseline, fresh=fresh, examples=private or [])
    with progress.for_terminal(quiet=json) as bars:
        done = update(options, bars)
    if json:
        emit_json(_summary(done))
    else:
        _print_summary(done)


@app.command
def verify(
    target: str | None = None,
    *,
    out: Path = Path("results"),
    data_dir: Path | None = None,
    json: bool = False,
) -> int:
    """Compute every number again from the stored rankings, and refuse what does not match.

    Parameters
    ----------
    target
        A board (.json), a submission (.tar.gz), or a run: its id, the beginning of it, or its folder. OUT/leaderboard.json when not
        given.
    out
        Folder of results.
    data_dir
        Folder with the dataset's files, where they are not in the default place.
    json
        One JSON document on stdout.
    """
    from bench import progress

    with progress.for_terminal(quiet=json) as bars:
        name, verdict = _verify(target, out, data_dir, bars)
    if json:
        emit_json({"target": name, "passed": not verdict.problems, **verdict.__dict__})
    else:
        _print_verdict(name, verdict)
    return 1 if verdict.problems else 0


def _verify(target: str | None, out: Path, data_dir: Path | None, bars: Progress) -> tuple[str, Verdict]:
    from bench import runs
    from bench.leaderboard.check_board import Verdict, verify_archive, verify_board
    from bench.leaderboard.rows import FILE
    from bench.leaderboard.submissions import is_archive
    from bench.leaderboard.verify import Data, verify_run

    data, path = Data(data_dir, bars), out / FILE if target is None else Path(target)
    if is_archive(path):
        return str(path), verify_archive(path, data)
    if path.suffix == ".json" and path.name != runs.RESULT:
        return str(path), verify_board(path, data)
    folder = runs.find(str(path), out)
    return folder.name, Verdict(verify_run(folder, data), 1)


def _summary(done: Updated) -> dict[str, object]:
    sources = [row.source for row in done.board.rows]
    return {
        "board": str(done.path),
        "page": None if done.page is None else str(done.page),
        "rows": {source: sources.count(source) for source in ("measured", "submitted", "published")},
        "groups": len(done.board.groups),
        "kept": done.kept,
        "left_out": done.left_out,
        "without_examples": done.without_examples,
    }


def _print_summary(done: Updated) -> None:
    screen, sources = console(), [row.source for row in done.board.rows]
    counts = ", ".join(f"{sources.count(source)} {source}" for source in ("measured", "submitted", "published"))
    screen.print(f"{len(sources)} rows ({counts}) in {len(done.board.groups)} groups", style="bold", soft_wrap=True)
    if done.kept:
        screen.print(
            f"{done.kept} rows kept from the board before: their runs are not here (--fresh drops them).",
            soft_wrap=True,
        )
    _print_lines("left out", done.left_out)
    _print_lines("no examples", done.without_examples)
    for path in filter(None, (done.path, done.page)):
        screen.print(f"wrote {path}", style="dim", markup=False, soft_wrap=True)


def _print_verdict(name: str, verdict: Verdict) -> None:
    screen = console()
    _print_lines("problem", verdict.problems)
    _print_lines("not computed again", verdict.not_recomputed)
    found = _counted(len(verdict.problems), "problem")
    word = found if verdict.problems else "every number that could be computed again matches"
    again = _counted(verdict.recomputed, "run")
    screen.print(f"{name}: {word} ({again} computed again).", markup=False, soft_wrap=True)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _print_lines(kind: str, lines: list[str]) -> None:
    screen = console()
    for line in lines[:LINES]:
        screen.print(f"{kind}: {line}", markup=False, soft_wrap=True)
    if len(lines) > LINES:
        screen.print(f"{kind}: and {len(lines) - LINES} more (--json has all)", soft_wrap=True)
