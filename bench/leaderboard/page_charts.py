"""The points of the page's charts, one question each; what is missing is said in a sentence instead of drawn.

A chart is {"points": [...]} or {"missing": sentence}. A point names its line (`line`, a place in its group's lines) and holds
what is drawn: `y` the group's metric with `low` and `high`, and `x`. Oracles are drawn and never on a frontier.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

Values = dict[str, Any]

STAGES = {2: "two", 3: "three"}


def charts(group: Values, groups: list[Values], rows: list[Values]) -> dict[str, Values]:
    """All charts that belong beside a group's table.

    Args:
        group: the group, with `lines` as `page_data` makes them.
        groups: all groups of the board: POS is drawn against NEG, and stages are compared over tasks.
        rows: the board's rows in short form.
    """
    return {
        "latency": _latency(group, rows),
        "price": _price(group, rows),
        "polarity": _polarity(group, groups, rows),
        "compliance": _compliance(group, rows),
        "rerank": _rerank(group, rows),
        "stages": _stages(group, groups, rows),
    }


def metric_of(line: Values, rows: list[Values], name: str) -> list[Any] | None:
    """[value, low, high, n, failed] of a line; None where it has no value."""
    cells: list[Any] | None = line.get("metrics", rows[line["rows"][0]]["metrics"]).get(name)
    return cells if cells and cells[0] is not None else None


def frontier(points: list[Values]) -> None:
    """Mark the points that no other one beats: none has a y as high at an x as small (Pareto). Changes them in place."""
    best = float("-inf")
    for point in sorted(points, key=lambda point: (point["x"], -point["y"])):
        if point["y"] > best:
            best, point["front"] = point["y"], True


def _points(group: Values, rows: list[Values], x: Callable[[Values], Any]) -> list[Values]:
    """A point for every line that has both the group's metric and an `x`, which takes the line's first row."""
    found = []
    for place, line in enumerate(group["lines"]):
        row = rows[line["rows"][0]]
        y, at = metric_of(line, rows, group["metric"]), x(row)
        if y is not None and at is not None:
            found.append({"line": place, "x": at, "y": y[0], "low": y[1], "high": y[2]})
    return found


def _competes(group: Values, rows: list[Values], point: Values) -> bool:
    return bool(rows[group["lines"][point["line"]]["rows"][0]]["information"] != "oracle")


def _latency(group: Values, rows: list[Values]) -> Values:
    points = _points(group, rows, lambda row: row.get("latency", {}).get("p50_ms"))
    if not points:
        return {
            "missing": "No system of this table has a latency: the paper gives none, and nothing was measured here."
        }
    for point in points:
        latency = rows[group["lines"][point["line"]]["rows"][0]]["latency"]
        point |= {"x_high": latency["p95_ms"], "of": latency["of"], "batch": latency.get("batch")}
    # A request's share of a batch is no time that anybody waits, so the two kinds have frontiers of their own.
    for kind in ("request", "batch"):
        frontier(
            [point for point in points if point["of"] == kind and point["x"] > 0 and _competes(group, rows, point)]
        )
    return {"points": points}


def _price(group: Values, rows: list[Values]) -> Values:
    points = _points(group, rows, lambda row: row.get("cost", {}).get("price_per_1000"))
    if not any(point["x"] for point in points):
        free = f"{len(points)} systems cost nothing to ask" if points else "no system of this table has a price"
        return {
            "missing": f"Nobody was paid for an answer here: {free}. A price appears once a paid language model is measured."
        }
    frontier([point for point in points if _competes(group, rows, point)])
    return {"points": points}


def _polarity(group: Values, groups: list[Values], rows: list[Values]) -> Values:
    """POS against NEG: the same system under the same protocol and condition."""
    wishes, refusals = (_sibling(group, groups, side, group["condition"]) for side in ("pos", "neg"))
    if wishes is None or refusals is None:
        return {"missing": "This needs both POS and NEG under one protocol and condition, and the board has not both."}
    by_name: dict[str, dict[str, list[tuple[int, list[Any]]]]] = {}
    for side, found in (("pos", wishes), ("neg", refusals)):
        for place, line in enumerate(found["lines"]):
            cells = metric_of(line, rows, group["metric"])
            if cells is not None:
                name = _identity(rows[line["rows"][0]])
                by_name.setdefault(name, {}).setdefault(side, []).append((place, cells))
    points = []
    for both in by_name.values():
        for (place, up), (_, down) in zip(both.get("pos", ()), both.get("neg", ()), strict=False):
            interval = {"low": up[1], "high": up[2], "x_low": down[1], "x_high": down[2]}
            points.append({"group": wishes["id"], "line": place, "x": down[0], "y": up[0]} | interval)
    return {"points": points} if points else {"missing": "No system stands in both the POS and the NEG table."}


def _compliance(group: Values, rows: list[Values]) -> Values:
    """Utility against the share of the first ten that complies."""
    found = []
    for place, line in enumerate(group["lines"]):
        y, complies = metric_of(line, rows, group["metric"]), _complying(line, rows)
        if y is not None and complies is not None:
            x, low, high = complies
            found.append({"line": place, "x": x, "x_low": low, "x_high": high, "y": y[0], "low": y[1], "high": y[2]})
    if not found:
        why = (
            "nothing is asked in this task"
            if group["condition"] == "none"
            else "no row here says how often its lists comply"
        )
        return {"missing": f"There is no compliance to draw: {why}."}
    return {"points": found}


def _complying(line: Values, rows: list[Values]) -> tuple[Any, Any, Any] | None:
    direct = metric_of(line, rows, "compliance@10")
    if direct is not None:
        return direct[0], direct[1], direct[2]
    broken = metric_of(line, rows, "violation@10")
    if broken is None:
        return None
    value, low, high = broken[:3]
    return 1 - value, None if high is None else 1 - high, None if low is None else 1 - low


def _rerank(group: Values, rows: list[Values]) -> Values:
    """Reranking against K, the number of candidates; systems that rank the catalogue by themselves are the rules beside it."""
    points = _points(group, rows, lambda row: _setting(row, "candidates"))
    for point in points:
        row = rows[group["lines"][point["line"]]["rows"][0]]
        point["series"] = _identity(row, without=("candidates",))
    if not points:
        return {
            "missing": "No reranker stands in this table. They need a language model: rerank_sas, with candidates=K."
        }
    return {"points": points}


def _stages(group: Values, groups: list[Values], rows: list[Values]) -> Values:
    """Two-stage against three-stage training, a pair for every model that has both, in every task."""
    pairs = []
    for task in ("seq", "pos", "neg"):
        found = _sibling(group, groups, task, "none" if task == "seq" else group["condition"])
        if found is not None:
            pairs += list(_pairs(found, rows, task))
    if not pairs:
        return {
            "missing": "No model here was trained both ways: it takes a row with stages=2 beside one with stages=3."
        }
    return {"points": pairs}


def _pairs(group: Values, rows: list[Values], task: str) -> Iterator[Values]:
    by_name: dict[str, dict[int, Values]] = {}
    for place, line in enumerate(group["lines"]):
        row = rows[line["rows"][0]]
        stages = _setting(row, "stages") or (
            3 if row["model"].startswith("dpr_") and row["source"] == "published" else None
        )
        cells = metric_of(line, rows, group["metric"])
        if stages in STAGES and cells is not None:
            end = {"group": group["id"], "line": place, "y": cells[0], "low": cells[1], "high": cells[2]}
            by_name.setdefault(_identity(row, without=("stages",)), {}).setdefault(stages, end)
    for ends in by_name.values():
        if len(ends) == len(STAGES):
            yield {"task": task} | {name: ends[stages] for stages, name in STAGES.items()}


def _sibling(group: Values, groups: list[Values], task: str, condition: str) -> Values | None:
    """The group of another task on the same data, under the same protocol where the task has words at all."""
    keys = ("dataset", "dataset_fingerprint") + (() if condition == "none" else ("protocol",))
    for other in groups:
        if other["task"] == task and other["condition"] == condition and all(other[key] == group[key] for key in keys):
            return other
    return None


def _setting(row: Values, name: str) -> Any:
    own = row.get("variant", {}).get(name)
    return own if own is not None else row.get("settings", {}).get("model", {}).get(name)


def _identity(row: Values, without: tuple[str, ...] = ()) -> str:
    """What is the same system on another task, or at another value of the settings left out."""
    variant = {key: value for key, value in row.get("variant", {}).items() if key not in without}
    label = None if without else row.get("published", {}).get("label")
    return json.dumps([row["source"], row["model"], row.get("llm", {}).get("name"), label, variant], sort_keys=True)
