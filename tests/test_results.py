"""What is published under results/ says what it should wherever it is checked out."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import yaml

from baselines.perf_scale import markdown
from baselines.scale_figure import draw
from bench.leaderboard.check_board import verify_board
from bench.leaderboard.rows import read_board
from bench.leaderboard.verify import Data
from bench.progress import SilentProgress
from bench.sweep.grid import Grid
from tests.conftest import REPOSITORY

RESULTS = REPOSITORY / "results"


def test_the_published_board_holds_in_itself(tmp_path: Path) -> None:
    """Shape, order, arithmetic, groups and the paper's rows; runs are not shipped, so no ranking is read here."""
    shutil.copy(RESULTS / "leaderboard.json", tmp_path)
    assert verify_board(tmp_path / "leaderboard.json", Data(None, SilentProgress())).problems == []


def test_a_changed_number_on_the_published_board_is_found(tmp_path: Path) -> None:
    values = json.loads((RESULTS / "leaderboard.json").read_text("utf-8"))
    row = next(row for row in values["rows"] if row["source"] == "measured" and row["per_window"])
    row["metrics"]["ndcg@10"]["value"] += 0.01
    (tmp_path / "leaderboard.json").write_text(json.dumps(values), "utf-8")
    assert any(
        row["id"] in line for line in verify_board(tmp_path / "leaderboard.json", Data(None, SilentProgress())).problems
    )


def test_no_table_shows_two_judges(tmp_path: Path) -> None:
    values = json.loads((RESULTS / "leaderboard.json").read_text("utf-8"))
    judge = {row["id"]: (row["judge"] or {}).get("identity") for row in values["rows"]}
    for group in values["groups"]:
        names = [*(name for place in group["places"] for name in place["rows"]), *group["beside"]]
        assert len({judge[name] for name in names}) == 1, group["id"]
    ours = next(group for group in values["groups"] if group["judge"] is not None)
    ours["beside"].append(next(row["id"] for row in values["rows"] if row["source"] == "published" and row["judge"]))
    (tmp_path / "leaderboard.json").write_text(json.dumps(values), "utf-8")
    problems = verify_board(tmp_path / "leaderboard.json", Data(None, SilentProgress())).problems
    assert any("shows rows of 2 judges side by side" in line for line in problems)


def test_the_page_is_of_the_published_board_and_asks_nothing_of_the_network() -> None:
    page = (RESULTS / "leaderboard" / "index.html").read_text("utf-8")
    board = read_board(RESULTS / "leaderboard.json")
    assert all(json.dumps(row.id)[1:-1] in page for row in board.rows)
    loaded = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"([^\"]+)\"", page)
    assert loaded and not [address for address in loaded if "//" in address]
    assert all((RESULTS / "leaderboard" / address).is_file() for address in loaded if not address.startswith("data:"))


def test_the_grids_of_the_board_are_readable() -> None:
    grids = sorted((RESULTS / "grids").glob("*.yaml"))
    assert grids
    for path in grids:
        assert yaml.safe_load(path.read_text("utf-8")) and list(Grid.read(path).configs(Path("results")))


def test_every_table_that_a_text_names_is_there() -> None:
    for path in (REPOSITORY / "README.md", *RESULTS.glob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text("utf-8")):
            assert (path.parent / link).exists(), f"{path.name} links to {link}"


def test_the_figure_and_the_table_of_scale_are_of_the_same_points() -> None:
    found = json.loads((RESULTS / "scale.json").read_text("utf-8"))
    assert (RESULTS / "scale.svg").read_text("utf-8") == draw(found["rows"], found["hardware"]["cpu"])
    assert (RESULTS / "scale.md").read_text("utf-8") == markdown(found["rows"])
    assert "results/scale.svg" in (REPOSITORY / "README.md").read_text("utf-8")
