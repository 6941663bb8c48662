"""`bench curve`: a run at every value, and the same figures in svg, csv and json."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.cli import main as cli


@pytest.fixture
def call(tmp_path, capsys):
    def run(task, *arguments):
        words = ("curve", "--task", task, "--model", "popularity_in_genre", "--limit", "60", "--out", tmp_path / "out")
        code = cli.main([*map(str, (*words, *arguments))])
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    return run


@pytest.mark.parametrize("task", ["pos", "neg"])
def test_points_are_runs_and_three_files_say_the_same(call, tmp_path, task):
    code, out, err = call(task, "--over", "match=all,any,exact", "--prompt-kind", "genres", "--json")
    assert code == 0, err
    curve = json.loads(out)
    assert [point["value"] for point in curve["points"]] == ["all", "any", "exact"] and curve["condition"] == "genres"
    for point in curve["points"]:
        metrics = json.loads((tmp_path / "out" / "runs" / point["run"] / "metrics.json").read_text())["metrics"]
        assert point["utility"]["value"] == metrics["ndcg@10"]["value"]
        if task == "pos":
            assert point["compliance"] == {key: metrics["compliance@10"][key] for key in ("value", "low", "high")}
        else:
            broken = metrics["violation@10"]
            assert point["compliance"] == {
                "value": 1 - broken["value"],
                "low": 1 - broken["high"],
                "high": 1 - broken["low"],
            }
    svg, table, document = (Path(file) for file in curve["files"])
    drawn = ElementTree.fromstring(svg.read_text())
    marks = drawn.findall("{http://www.w3.org/2000/svg}circle")
    assert len(marks) == 3
    left, wide = 74, 420
    for mark, point in zip(marks, curve["points"], strict=True):
        assert (float(mark.get("cx")) - left) / wide == pytest.approx(point["compliance"]["value"], abs=1e-3)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [float(row["ndcg@10"]) for row in rows] == pytest.approx(
        [point["utility"]["value"] for point in curve["points"]], abs=1e-6
    )
    assert json.loads(document.read_text()) == {key: value for key, value in curve.items() if key != "files"}


@pytest.mark.parametrize(
    ("task", "over", "told"),
    [
        ("pos", "mach=all,any", "Did you mean 'match'?"),
        ("pos", "match=all", "two different values"),
        ("pos", "match=all,most", "setting match"),
        ("seq", "match=all,any", "does not measure compliance"),
        ("pos", "match", "KEY=VALUE"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, task, over, told):
    code, _, err = call(task, "--over", over)
    assert code == 2 and told in err and err.count("\n") == 1
