"""A dot chart of measured against published values as static SVG: a panel for each backbone, task and window.

A line is a model; a diamond is the published value (corrected where it is an erratum), a dot a measured one with its 95 %
interval, coloured by what the model was told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import svg
from bench.reproduce.grids import shown

if TYPE_CHECKING:
    from bench.reproduce.report import Entry, Place, Report

COLOURS = {
    "none": "#444444",
    "oracle": svg.PURPLE,
    "genre": svg.BLUE,
    "genres": svg.VERMILION,
    "tag": svg.GREEN,
    "free": svg.BLUE,
}
LEGEND = {
    "none": "history",
    "oracle": "oracle",
    "genre": "genre",
    "genres": "genres",
    "tag": "tag",
    "free": "free words",
}
TASKS = {"seq": "SEQ", "pos": "POS", "neg": "NEG", "nuanced": "Nuanced"}
BACKBONES = {"sasrec": "SASRec", "gru4rec": "GRU4Rec", "bert4rec": "BERT4Rec"}

PER_ROW = 3
LABELS, PLOT, GAP = 118, 210, 26
# Width of a letter at the size of labels, on the safe side; a column grows with its longest label.
LETTER = 6.2
LINE, HEAD, FOOT = 19, 30, 34
TOP, SIDE = 66, 18


@dataclass(frozen=True)
class Line:
    """A line of a panel: the model's label, the published value, and by condition (value, low, high)."""

    label: str
    published: float | None
    measured: dict[str, tuple[float, float | None, float | None]]


@dataclass(frozen=True)
class Panel:
    """A panel: its title and lines."""

    title: str
    lines: tuple[Line, ...]

    @property
    def height(self) -> int:
        """Height in pixels."""
        return HEAD + LINE * len(self.lines) + FOOT


def draw(report: Report) -> str | None:
    """The chart of a report's main metric, None where nothing was measured."""
    metric = "ndcg@10" if "ndcg@10" in report.grid.metrics else report.grid.metrics[0]
    found = [entry for entry in report.entries if entry.metric == metric]
    if not any(entry.measured is not None for entry in found):
        return None
    title = f"{report.grid.name} on {report.dataset}: measured and published {metric.replace('ndcg', 'NDCG')}"
    return render(title, list(_panels(report, found)))


def heading(place: Place) -> str:
    """What a part of a table is called."""
    backbone, task, window, judge = place
    of = "" if judge else f"{BACKBONES.get(backbone or '', 'No backbone')}, "
    by = f", judged by {shown(judge)}" if judge else ""
    return f"{of}{TASKS.get(task, task)}{f', N = {window}' if window != 'mean' else ''}{by}"


def places(report: Report, entries: Iterable[Entry]) -> list[Place]:
    """The parts that some cells of a table fall into, backbone by backbone, then by task, window and judge."""
    there = {entry.place: None for entry in entries}
    backbones = list(dict.fromkeys(place[0] for place in there))

    def rank(place: Place) -> tuple[int, ...]:
        backbone, task, window, _ = place
        return backbones.index(backbone), report.grid.tasks.index(task), report.windows.index(window)

    return sorted(there, key=rank)


def _panels(report: Report, entries: list[Entry]) -> Iterable[Panel]:
    for place in places(report, entries):
        lines = _lines([entry for entry in entries if entry.place == place])
        if lines:
            yield Panel(heading(place), lines)


def _lines(entries: list[Entry]) -> tuple[Line, ...]:
    grouped: dict[str, list[Entry]] = {}
    for entry in entries:
        grouped.setdefault(entry.row.label, []).append(entry)
    lines = []
    for label, cells in grouped.items():
        values = {
            cell.condition: (cell.measured.value, cell.measured.low, cell.measured.high)
            for cell in cells
            if cell.measured is not None and cell.measured.value is not None
        }
        printed = cells[0].published
        if values or printed is not None:
            lines.append(Line(label, None if printed is None else printed.best, values))
    return tuple(lines)


def render(title: str, panels: list[Panel]) -> str:
    """The SVG of some panels."""
    rows = [panels[start : start + PER_ROW] for start in range(0, len(panels), PER_ROW)]
    across = max(len(row) for row in rows)
    longest = max((len(line.label) for panel in panels for line in panel.lines), default=0)
    labels = max(LABELS, math.ceil(LETTER * longest) + 8)
    width = 2 * SIDE + across * (labels + PLOT) + (across - 1) * GAP
    heights = [max(panel.height for panel in row) for row in rows]
    height = TOP + sum(heights) + 8
    used = {condition for panel in panels for line in panel.lines for condition in line.measured}
    parts = [svg.text(SIDE, 24, title, size=14, bold=True), *_legend(used)]
    y = TOP
    for row, tall in zip(rows, heights, strict=True):
        for place, panel in enumerate(row):
            parts += _panel(panel, SIDE + place * (labels + PLOT + GAP) + labels, y)
        y += tall
    return svg.document(width, height, title, parts)


def _legend(used: set[str]) -> list[str]:
    x, y = SIDE + 6.0, 46
    parts = [_diamond(x, y), svg.text(x + 10, y + 4, "published")]
    x += 84
    for condition, colour in COLOURS.items():
        if condition in used:
            name = LEGEND[condition]
            parts += [
                svg.dot(x, y, colour),
                svg.text(x + 9, y + 4, f"measured, {name}" if condition != "none" else "measured"),
            ]
            x += 30 + 6.2 * len(f"measured, {name}" if condition != "none" else "measured")
    return parts


def _panel(panel: Panel, left: int, y: int) -> list[str]:
    top = y + HEAD
    bottom = top + LINE * len(panel.lines)
    ends = [line.published for line in panel.lines if line.published is not None]
    ends += [end for line in panel.lines for value in line.measured.values() for end in value if end is not None]
    step, last = svg.axis(max(ends, default=1.0))
    scale = PLOT / last

    parts = [svg.text(left, y + 16, panel.title, bold=True)]
    ticks = round(last / step)
    for tick in range(ticks + 1):
        at = left + tick * step * scale
        parts.append(svg.line(at, top - 4, at, bottom, svg.GRID))
        parts.append(svg.text(at, bottom + 14, f"{tick * step:g}", anchor="middle", colour=svg.FAINT, size=10))
    for place, line in enumerate(panel.lines):
        middle = top + LINE * place + LINE / 2
        parts.append(svg.text(left - 8, middle + 4, line.label, anchor="end"))
        parts += _marks(line, left, middle, scale)
    return parts


def _marks(line: Line, left: float, middle: float, scale: float) -> list[str]:
    parts = []
    # Several conditions of one model lie on tracks of their own, so that none hides another.
    tracks = len(line.measured)
    for place, (condition, (value, low, high)) in enumerate(line.measured.items()):
        colour = COLOURS.get(condition, svg.INK)
        y = middle + (place - (tracks - 1) / 2) * 5.0
        if low is not None and high is not None:
            parts.append(svg.line(left + low * scale, y, left + high * scale, y, colour, 1.6))
        parts.append(svg.dot(left + value * scale, y, colour))
    if line.published is not None:
        parts.append(_diamond(left + line.published * scale, middle))
    return parts


def _diamond(x: float, y: float) -> str:
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in ((0, -5), (5, 0), (0, 5), (-5, 0)))
    return f'<polygon points="{points}" fill="none" stroke="{svg.INK}" stroke-width="1.2"/>'
