"""`bench perf scale`: what it writes, on sizes that take no time (no speed is asserted)."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from baselines import perf_scale
from baselines.scale_figure import draw

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.slow
def test_every_axis_is_measured_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perf_scale, "EVENTS", 600)
    monkeypatch.setattr(perf_scale, "EVERY_EVENT", (600, 1_200))
    monkeypatch.setattr(perf_scale, "EVERY_CATALOGUE", (60, 120))
    whole = perf_scale._points

    def small(full: bool, url: str):
        for point in whole(full, url):
            if "retrieval" not in point.axis and point.axis != "requests" and point.size <= 2_000:
                yield point

    monkeypatch.setattr(perf_scale, "_points", small)
    told = perf_scale.scale(out=str(tmp_path / "scale"))
    rows = json.loads((tmp_path / "scale.json").read_text())["rows"]
    assert {row["axis"] for row in rows} == {"events", "items, training", "users"}
    assert all(row["seconds"] > 0 and row["mib"] >= 0 for row in rows)
    assert [row["size"] for row in rows if "growth" in row and row["axis"] == "events"] == [1_200]
    assert told["events 600 (one epoch), seconds"] == rows[0]["seconds"]
    assert (tmp_path / "scale.md").read_text().count("\n") == len(rows) + 2
    # Every point is drawn twice, for time and for memory; a dot in the legend for every way.
    ways = {(row["axis"], row["way"]) for row in rows}
    marks = ElementTree.fromstring((tmp_path / "scale.svg").read_text()).findall(f"{SVG}circle")
    assert len(marks) == 2 * len(rows) + len(ways)


def test_a_measurement_that_was_broken_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def points(full: bool, url: str):
        for size in (10, 20, 40):
            yield perf_scale.Point(
                "users", "all", size, lambda n=size: asked.append(n) or {"seconds": n / 5, "mib": 1.0}
            )

    def one_after_the_other(work):
        if len(asked) == 2:
            raise MemoryError("killed")
        return work()

    monkeypatch.setattr(perf_scale, "_points", points)
    monkeypatch.setattr(perf_scale, "_alone", one_after_the_other)
    out = str(tmp_path / "scale")
    with pytest.raises(MemoryError):
        perf_scale.scale(out=out)
    assert asked == [10, 20] and len(json.loads((tmp_path / "scale.json").read_text())["rows"]) == 2
    monkeypatch.setattr(perf_scale, "_alone", lambda work: work())
    perf_scale.scale(out=out, resume=1)
    rows = json.loads((tmp_path / "scale.json").read_text())["rows"]
    assert asked == [10, 20, 40] and [row["seconds"] for row in rows] == [2, 4, 8]
    assert [row.get("growth") for row in rows] == [None, pytest.approx(1), pytest.approx(1)]
    # Other hardware measures everything anew.
    monkeypatch.setattr(perf_scale, "hardware", lambda: {"cpu": "another"})
    perf_scale.scale(out=out, resume=1)
    assert asked[3:] == [10, 20, 40]


def test_a_curve_of_linear_growth_lies_on_the_dashed_line() -> None:
    sizes = (100, 1_000, 40_000)
    rows = [{"axis": "users", "way": "all", "size": n, "seconds": n / 50, "mib": 5.0, "recall": 0.9} for n in sizes]
    tree = ElementTree.fromstring(draw(rows, "a machine"))
    linear, flat = (
        {name: float(node.attrib[name]) for name in ("x1", "y1", "x2", "y2")}
        for node in tree.findall(f"{SVG}line")
        if "stroke-dasharray" in node.attrib
    )
    curve, level = (
        [tuple(map(float, spot.split(","))) for spot in node.attrib["points"].split()]
        for node in tree.findall(f"{SVG}polyline")
    )
    slope = (linear["y2"] - linear["y1"]) / (linear["x2"] - linear["x1"])
    assert curve[0] == (linear["x1"], linear["y1"])
    for x, y in curve:
        assert y == pytest.approx(linear["y1"] + slope * (x - linear["x1"]), abs=0.3)
    assert len({y for _, y in level}) == 1 and level[0] == (flat["x1"], flat["y1"])
    words = [node.text for node in tree.findall(f"{SVG}text")]
    assert "all, recall@20 0.90" in words and "10 k" in words and "100 k" in words


def test_a_single_point_and_a_peak_that_did_not_rise_are_drawn() -> None:
    drawn = draw([{"axis": "users", "way": "all", "size": 1_000, "seconds": 1.0, "mib": 0.0}], "a machine")
    assert "nan" not in drawn and len(ElementTree.fromstring(drawn).findall(f"{SVG}circle")) == 3


def test_searches_are_measured_against_the_exact_ones() -> None:
    measured = perf_scale._retrieval(2_000, "ivf")
    assert 0 < measured["recall"] <= 1 and measured["build_seconds"] > 0
    assert perf_scale._retrieval(500, "flat")["recall"] == 1
