"""What the page knows of a board: rows in short form, the lines of every group's table, and the points of its charts.

A *line* of a table is a system: the rows that differ in their seed alone stand in one line. Lines with a rank come from the
group's places; lines without one are read beside them (published rows, systems told nothing or everything).
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Any

from bench.leaderboard import page_words as words
from bench.leaderboard.page_charts import charts

# Six figures: more than an interval leaves standing, less than a float's seventeen.
FIGURES = 6
GROUP_KEYS = ("task", "dataset", "protocol", "condition")
# What a group is besides: shown where two groups agree in all of `GROUP_KEYS`.
FINER_KEYS = ("dataset_fingerprint", "windows", "judge")
MAIN_METRIC = "ndcg@10"

Values = dict[str, Any]


def payload(board: Values) -> Values:
    """Everything that the page's scripts read, as plain JSON values.

    Args:
        board: a board as `leaderboard.json` holds it.

    Returns:
        `rows` (short form), `groups` (with `lines` and `charts`), `metrics` (label, direction) and `words`.
    """
    rows = [_short(row) for row in board["rows"]]
    index = {row["id"]: place for place, row in enumerate(rows)}
    groups = [_group(group, rows, index) for group in (*board.get("groups", ()), *_ungrouped(board))]
    for group in groups:
        group["charts"] = charts(group, groups, rows)
    names = {name for row in rows for name in row["metrics"]}
    return {
        "schema_version": board["schema_version"],
        "rows": rows,
        "groups": groups,
        "metrics": {name: words.metric(name) for name in words.in_order(names)},
        "words": {
            "task": words.TASKS,
            "protocol": words.PROTOCOLS,
            "condition": words.CONDITIONS,
            "information": words.INFORMATION,
            "source": words.SOURCES,
        },
    }


def counts(board: Values) -> dict[str, int]:
    """Rows of each source."""
    return {source: sum(row["source"] == source for row in board["rows"]) for source in words.SOURCES}


def _short(row: Values) -> Values:
    """A row without what is empty; a metric is [value, low, high, n, failed]."""
    bare = {
        key: value for key, value in row.items() if key not in ("metrics", "per_window") and value not in (None, {}, [])
    }
    kept: Values = _rounded(bare)
    kept["metrics"] = {name: _cells(metric) for name, metric in row["metrics"].items()}
    kept["per_window"] = {
        window: {name: _cells(metric) for name, metric in metrics.items()}
        for window, metrics in row.get("per_window", {}).items()
    }
    return kept


def _cells(metric: Values) -> list[Any]:
    return [_rounded(metric.get(key)) for key in ("value", "low", "high", "n", "failed")]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{FIGURES}g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return value


def _group(group: Values, rows: list[Values], index: dict[str, int]) -> Values:
    lines = [_line([index[id_] for id_ in place["rows"]], rows, place) for place in group["places"]]
    lines += [_line(members, rows) for members in _systems([index[id_] for id_ in group["beside"]], rows)]
    present = {name for line in lines for name in rows[line["rows"][0]]["metrics"]}
    described = {key: group.get(key) for key in (*GROUP_KEYS, *FINER_KEYS, "id", "metric", "baseline")}
    return _rounded(described) | {"lines": lines, "metrics": words.in_order(present, group["metric"])}


def _ungrouped(board: Values) -> Iterator[Values]:
    """Groups without ranks for rows that the board put into none: the paper's on data that nobody measured here."""
    grouped = {id_ for group in board.get("groups", ()) for id_ in _members(group)}
    left: dict[tuple[Any, ...], list[Values]] = {}
    for row in board["rows"]:
        if row["id"] not in grouped:
            judge = (row.get("judge") or {}).get("name")
            left.setdefault((*(row[key] for key in GROUP_KEYS), judge), []).append(row)
    for (*key, judge), rows in left.items():
        names = {name for row in rows for name in row["metrics"]}
        yield dict(zip(GROUP_KEYS, key, strict=True)) | {
            "id": "/".join(["unranked", *key, *([judge] if judge else [])]),
            "judge": judge,
            "windows": max((row.get("windows", []) for row in rows), key=len),
            "metric": MAIN_METRIC if MAIN_METRIC in names else words.in_order(names)[0],
            "places": [],
            "beside": [row["id"] for row in rows],
        }


def _members(group: Values) -> Iterator[str]:
    for place in group["places"]:
        yield from place["rows"]
    yield from group["beside"]


def _systems(members: list[int], rows: list[Values]) -> list[list[int]]:
    """Rows of one source that differ in their seed alone, together."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for place in members:
        found.setdefault((rows[place]["source"], rows[place].get("system", rows[place]["id"])), []).append(place)
    return list(found.values())


def _line(members: list[int], rows: list[Values], place: Values | None = None) -> Values:
    line: Values = {"rows": members}
    if len(members) > 1:
        line["metrics"], line["per_window"] = _means(members, rows, (place or {}).get("spread", {}))
    if place is not None:
        line |= {
            key: _rounded(place[key]) for key in ("rank", "against_best", "against_baseline", "spread") if place[key]
        }
        if not place["paired"] and place["rank"] is not None:
            line["paired"] = False
    return line


def _means(members: list[int], rows: list[Values], spread: Values) -> tuple[Values, Values]:
    """Means over seeds; the interval is the range of the seeds, since intervals over users do not average."""

    def mean(parts: list[list[Any]]) -> list[Any]:
        values = [part[0] for part in parts if part[0] is not None]
        if not values:
            return [None, None, None, parts[0][3], parts[0][4]]
        failed = [part[4] for part in parts if part[4] is not None]
        return [_rounded(fmean(values)), min(values), max(values), parts[0][3], max(failed, default=None)]

    own = [rows[place] for place in members]
    names = set.intersection(*(set(row["metrics"]) for row in own))
    headline = {name: mean([row["metrics"][name] for row in own]) for name in sorted(names)}
    for name, told in spread.items():
        headline[name] = [
            _rounded(told["mean"]),
            _rounded(told["smallest"]),
            _rounded(told["largest"]),
            *headline[name][3:],
        ]
    windows = set.intersection(*(set(row["per_window"]) for row in own))
    per_window = {
        window: {
            name: mean([row["per_window"][window][name] for row in own])
            for name in sorted(set.intersection(*(set(row["per_window"][window]) for row in own)))
        }
        for window in sorted(windows, key=lambda window: (len(window), window))
    }
    return headline, per_window
