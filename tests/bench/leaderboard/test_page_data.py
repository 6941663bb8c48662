"""What the page is made of, without a browser: lines and charts of a board, the data in the page, the shipped libraries."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import registry
from bench.leaderboard import page_words as words
from bench.leaderboard.page import ASSETS, VENDOR, render, write_page
from bench.leaderboard.page_charts import frontier
from bench.leaderboard.page_data import payload
from bench.leaderboard.page_perf import synthetic_board
from bench.leaderboard.rows import Board

ROW: dict[str, Any] = {
    "task": "pos",
    "dataset": "d",
    "protocol": "paper",
    "condition": "genres",
    "information": "prompt",
    "metrics": {"ndcg@10": {"value": 0.5}},
}


def printed(id_: str, value: float = 0.5, **fields: Any) -> dict[str, Any]:
    """A row of the paper."""
    published = {"label": fields.pop("label", "DPR"), "tables": [1]}
    own = {"id": id_, "source": "published", "model": "dpr_sas", "system": id_, "published": published}
    return ROW | own | {"metrics": {"ndcg@10": {"value": value}}} | fields


def made(*rows: dict[str, Any]) -> dict[str, Any]:
    return payload(Board.model_validate({"rows": list(rows)}).model_dump(mode="json"))


def group(data: dict[str, Any], task: str = "pos") -> dict[str, Any]:
    return next(one for one in data["groups"] if one["task"] == task)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_the_frontier_is_what_nothing_beats(pairs: list[tuple[int, int]]) -> None:
    points = [{"x": x, "y": y} for x, y in pairs]
    frontier(points)
    marked = {(point["x"], point["y"]) for point in points if point.get("front")}
    best = {p for p in pairs if not any(q != p and q[0] <= p[0] and q[1] >= p[1] for q in pairs)}
    assert marked == best


def test_a_line_of_several_seeds_holds_their_mean_and_range() -> None:
    board = synthetic_board(112).model_dump(mode="json")
    data = payload(board)
    rows = {row["id"]: row for row in board["rows"]}
    twins = [
        (line, place)
        for mine, theirs in zip(data["groups"], board["groups"], strict=True)
        for line, place in zip(mine["lines"], theirs["places"], strict=True)
        if len(place["rows"]) == 2
    ]
    assert twins
    for line, place in twins:
        values = [rows[name]["metrics"]["ndcg@10"]["value"] for name in place["rows"]]
        assert line["metrics"]["ndcg@10"][:3] == pytest.approx([sum(values) / 2, min(values), max(values)], rel=1e-5)
        recalls = [
            rows[name]["per_window"]["3"]["recall@10"]["value"] for name in place["rows"] if rows[name]["per_window"]
        ]
        if recalls:
            assert line["per_window"]["3"]["recall@10"][0] == pytest.approx(sum(recalls) / 2, rel=1e-5)


def test_a_line_says_where_it_is_compared_by_intervals() -> None:
    board = synthetic_board(80).model_dump(mode="json")
    first, second, third = board["groups"][0]["places"][:3]
    second["paired"] = third["paired"] = False
    third["rank"] = None
    lines = payload(board)["groups"][0]["lines"]
    assert first["paired"] and [line.get("paired") for line in lines[:3]] == [None, False, None]


def test_every_row_stands_in_a_table_also_those_in_no_group() -> None:
    board = synthetic_board(40).model_dump(mode="json")
    board["rows"] += [
        printed("p1", dataset="mind"),
        printed("p2", dataset="mind", system="p1"),
        printed("p3", task="neg"),
    ]
    data = payload(board)
    shown = {place for one in data["groups"] for line in one["lines"] for place in line["rows"]}
    assert shown == set(range(len(board["rows"])))
    assert all(one["lines"] and set(one["charts"]) for one in data["groups"])


def test_latencies_taken_in_different_ways_have_frontiers_of_their_own() -> None:
    def timed(name: str, of: str, p50: float, value: float, **more: Any) -> dict[str, Any]:
        return printed(name, value, latency={"p50_ms": p50, "p95_ms": 2 * p50, "of": of}, **more)

    data = made(
        timed("slow", "request", 10, 0.4),
        timed("slower", "request", 20, 0.3),
        timed("share", "batch", 0.1, 0.5),
        timed("told", "request", 1, 0.9, information="oracle"),
    )
    points = group(data)["charts"]["latency"]["points"]
    names = {
        data["rows"][group(data)["lines"][point["line"]]["rows"][0]]["id"]: point.get("front", False)
        for point in points
    }
    assert names == {"slow": True, "slower": False, "share": True, "told": False}


def test_stages_and_candidates_are_paired_and_strung_together() -> None:
    data = made(
        printed("three", 0.5, label="DPR 3-S"),
        printed("two", 0.4, label="DPR 2-S", variant={"stages": 2}),
        *(
            printed(f"k{k}-{base}", k / 100, label=f"L K={k}", model="rerank", variant={"candidates": k, "base": base})
            for k in (20, 50)
            for base in ("sasrec", "gru4rec")
        ),
    )
    charts = group(data)["charts"]
    (pair,) = charts["stages"]["points"]
    assert (pair["two"]["y"], pair["three"]["y"]) == (0.4, 0.5)
    series: dict[str, list[int]] = {}
    for point in charts["rerank"]["points"]:
        series.setdefault(point["series"], []).append(point["x"])
    assert sorted(map(sorted, series.values())) == [[20, 50], [20, 50]]


def test_wishes_and_refusals_meet_by_system() -> None:
    data = made(
        printed("a-pos", 0.5),
        printed("a-neg", 0.2, task="neg"),
        printed("b-pos", 0.3, label="Base"),
        printed("c-neg", 0.1, task="neg", protocol="strict", label="Base"),
    )
    (point,) = group(data)["charts"]["polarity"]["points"]
    assert (point["x"], point["y"]) == (0.2, 0.5)


def test_what_is_missing_is_said() -> None:
    charts = group(made(printed("p")))["charts"]
    assert {name for name, chart in charts.items() if "missing" in chart} == set(charts)
    assert all(chart["missing"].endswith(".") for chart in charts.values())


def test_violations_are_drawn_as_what_complies() -> None:
    metrics = {"ndcg@10": {"value": 0.5}, "violation@10": {"value": 0.25, "low": 0.2, "high": 0.35}}
    data = made(printed("p", task="neg") | {"metrics": metrics})
    (point,) = group(data, "neg")["charts"]["compliance"]["points"]
    assert (point["x"], point["x_low"], point["x_high"]) == (0.75, 0.65, 0.8)


@settings(deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.sampled_from(["</script>", "<!--", "<script", "]]>", "\u2028", "&lt;"]),
)
def test_the_data_in_the_page_ends_nothing_and_is_read_back_whole(text: str, hostile: str) -> None:
    name = text + hostile
    html = render(Board.model_validate({"rows": [printed("p", model=name)]}).model_dump(mode="json"))
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert data is not None and "<" not in data[1]
    assert json.loads(data[1])["rows"][0]["model"] == name


def test_libraries_are_those_of_the_manifest_and_have_their_licences() -> None:
    manifest = json.loads((VENDOR / "manifest.json").read_text("utf-8"))["files"]
    for item in manifest:
        assert hashlib.sha256((VENDOR / item["file"]).read_bytes()).hexdigest() == item["sha256"], item["file"]
        assert (VENDOR / item["licence_file"]).stat().st_size > 500
    known = {item[key] for item in manifest for key in ("file", "licence_file")} | {"manifest.json"}
    assert {path.name for path in VENDOR.iterdir()} == known


def test_the_folder_is_whole_small_and_names_no_other_address(tmp_path: Path) -> None:
    index = write_page(synthetic_board(150), tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*")) < 3_000_000
    own = [path for path in ASSETS.iterdir() if path.suffix in (".js", ".css")]
    text = index.read_text("utf-8") + "".join(path.read_text("utf-8") for path in own)
    assert set(re.findall(r"https?://[^\s\"')]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    named = re.findall(r'(?:src|href)="([^#"]+)"', index.read_text("utf-8"))
    assert named and all((tmp_path / name).is_file() for name in named)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    write_page(synthetic_board(150), tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_every_task_and_metric_of_the_project_is_told_in_words() -> None:
    for name in ("seq", "pos", "neg", "nuanced"):
        card = registry.get("tasks", name).card
        assert words.TASKS[name] and all(words.metric(metric)["text"] for metric in card.metrics)
