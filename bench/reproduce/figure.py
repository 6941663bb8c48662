"""A dot chart of measured against published values as static SVG: a panel for each backbone, task and window.

Written by hand, since a chart of dots needs no plotting library. A line is a model; a diamond is the published value
(corrected where it is an erratum), a dot a measured one with its 95 % interval, coloured by what the model was told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from bench.reproduce.grids import shown

if TYPE_CHECKING:
    from bench.reproduce.report import Entry, Place, Report

# Colours that stay apart for colour-blind readers (Okabe and Ito 2008).
COLOURS = {
    "none": "#444444",
    "oracle": "#CC79A7",
    "genre": "#0072B2",
    "genres": "#D55E00",
    "tag": "#009E73",
    "free": "#0072B2",
}
LEGEND = {
    "none": "history",
    "oracle": "oracle",
    "genre": "genre",
    "genres": "genres",
    "tag": "tag",
    "free": "free words",
}
INK, FAINT, GRID = "#222222", "#777777", "#e4e4e4"
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
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="11" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(SIDE, 24, title, size=14, weight="bold"),
        *_legend(used),
    ]
    y = TOP
    for row, tall in zip(rows, heights, strict=True):
        for place, panel in enumerate(row):
            parts += _panel(panel, SIDE + place * (labels + PLOT + GAP) + labels, y)
        y += tall
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(used: set[str]) -> list[str]:
    x, y = SIDE + 6.0, 46
    parts = [_diamond(x, y), _text(x + 10, y + 4, "published")]
    x += 84
    for condition, colour in COLOURS.items():
        if condition in used:
            name = LEGEND[condition]
            parts += [
                _dot(x, y, colour),
                _text(x + 9, y + 4, f"measured, {name}" if condition != "none" else "measured"),
            ]
            x += 30 + 6.2 * len(f"measured, {name}" if condition != "none" else "measured")
    return parts


def _panel(panel: Panel, left: int, y: int) -> list[str]:
    top = y + HEAD
    bottom = top + LINE * len(panel.lines)
    ends = [line.published for line in panel.lines if line.published is not None]
    ends += [end for line in panel.lines for value in line.measured.values() for end in value if end is not None]
    step, last = axis(max(ends, default=1.0))
    scale = PLOT / last

    parts = [_text(left, y + 16, panel.title, weight="bold")]
    ticks = round(last / step)
    for tick in range(ticks + 1):
        at = left + tick * step * scale
        parts.append(_line(at, top - 4, at, bottom, GRID))
        parts.append(_text(at, bottom + 14, f"{tick * step:g}", anchor="middle", colour=FAINT, size=10))
    for place, line in enumerate(panel.lines):
        middle = top + LINE * place + LINE / 2
        parts.append(_text(left - 8, middle + 4, line.label, anchor="end"))
        parts += _marks(line, left, middle, scale)
    return parts


def _marks(line: Line, left: float, middle: float, scale: float) -> list[str]:
    parts = []
    # Several conditions of one model lie on tracks of their own, so that none hides another.
    tracks = len(line.measured)
    for place, (condition, (value, low, high)) in enumerate(line.measured.items()):
        colour = COLOURS.get(condition, INK)
        y = middle + (place - (tracks - 1) / 2) * 5.0
        if low is not None and high is not None:
            parts.append(_line(left + low * scale, y, left + high * scale, y, colour, 1.6))
        parts.append(_dot(left + value * scale, y, colour))
    if line.published is not None:
        parts.append(_diamond(left + line.published * scale, middle))
    return parts


def axis(largest: float) -> tuple[float, float]:
    """Step and end of an axis from 0 that holds `largest`: steps of 1, 2 or 5 times a power of ten, at most six."""
    if not largest > 0:
        return 0.5, 1.0
    power = 10.0 ** math.floor(math.log10(largest / 5))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if largest / step <= 6)
    return step, step * math.ceil(largest / step - 1e-9)


def _text(x: float, y: float, text: str, **style: Any) -> str:
    anchor = f' text-anchor="{style["anchor"]}"' if "anchor" in style else ""
    weight = f' font-weight="{style["weight"]}"' if "weight" in style else ""
    size = f' font-size="{style["size"]}"' if "size" in style else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{style.get("colour", INK)}"{anchor}{weight}{size}>{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1.0) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width:g}"/>'


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'


def _diamond(x: float, y: float) -> str:
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in ((0, -5), (5, 0), (0, 5), (-5, 0)))
    return f'<polygon points="{points}" fill="none" stroke="{INK}" stroke-width="1.2"/>'
