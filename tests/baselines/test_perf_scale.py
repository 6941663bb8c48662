"""`bench perf scale`: what it writes, on sizes that take no time (no speed is asserted)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baselines import perf_scale


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


def test_searches_are_measured_against_the_exact_ones() -> None:
    measured = perf_scale._retrieval(2_000, "ivf")
    assert 0 < measured["recall"] <= 1 and measured["build_seconds"] > 0
    assert perf_scale._retrieval(500, "flat")["recall"] == 1
