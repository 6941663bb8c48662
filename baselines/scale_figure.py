"""The curves of `bench perf scale` as static SVG: core seconds and memory against everything that grows, logarithmic both ways."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from bench import svg

COLOURS = (svg.BLUE, svg.VERMILION, svg.GREEN, svg.PURPLE)
QUANTITIES = {"seconds": "core seconds", "mib": "memory, MiB"}
TITLE, HEAD, LEGEND, WIDTH, HEIGHT, FOOT = 40, 22, 15, 150, 130, 26
LEFT, GAP, SIDE = 40, 16, 12
# A peak that did not rise is 0: a logarithm needs more than that.
LEAST = {"seconds": 0.001, "mib": 1.0}

Row = dict[str, Any]
Spot = tuple[float, float]


def draw(rows: list[Row], machine: str) -> str:
    """The figure: a column for each axis, core seconds above and memory below; what searches find stands in the legend.

    Args:
        rows: what `bench perf scale` measured: `axis`, `way`, `size`, `seconds`, `mib`, `recall` or none.
        machine: where, for the title.
    """
    axes = list(dict.fromkeys(row["axis"] for row in rows))
    legend = LEGEND * max(len(_ways(rows, name)) for name in axes)
    width = 2 * SIDE + len(axes) * (LEFT + WIDTH) + (len(axes) - 1) * GAP
    height = TITLE + HEAD + legend + len(QUANTITIES) * (HEIGHT + FOOT + HEAD)
    title = f"Time and memory as things grow ({machine}); the dashed line is linear growth"
    parts = [svg.text(SIDE, 22, title, size=14, bold=True)]
    for column, name in enumerate(axes):
        left = SIDE + LEFT + column * (LEFT + WIDTH + GAP)
        mine = [row for row in rows if row["axis"] == name]
        parts.append(svg.text(left, TITLE + 12, name, bold=True))
        for place, way in enumerate(_ways(rows, name)):
            y = TITLE + HEAD + LEGEND * place + 4
            parts += [svg.dot(left + 4, y, COLOURS[place]), svg.text(left + 12, y + 4, _told(mine, way), size=10)]
        for place, (quantity, said) in enumerate(QUANTITIES.items()):
            top = TITLE + 2 * HEAD + legend + place * (HEIGHT + FOOT + HEAD)
            parts += _panel(mine, quantity, said if not column else "", left, top)
    return svg.document(width, height, title, parts)


def _panel(rows: list[Row], quantity: str, said: str, left: float, top: float) -> Iterable[str]:
    sizes, values = [row["size"] for row in rows], [max(row[quantity], LEAST[quantity]) for row in rows]
    across, up = _decades(sizes), _decades(values)

    def spot(size: float, value: float) -> Spot:
        x = left + WIDTH * (math.log10(size) - across[0]) / (across[1] - across[0])
        return x, top + HEIGHT * (1 - (math.log10(value) - up[0]) / (up[1] - up[0]))

    if said:
        yield svg.text(left - LEFT + 4, top - 8, said)
    for decade in range(across[0], across[1] + 1):
        x = spot(10.0**decade, 10.0 ** up[0])[0]
        yield svg.line(x, top, x, top + HEIGHT, svg.GRID)
        yield svg.text(x, top + HEIGHT + 13, _short(decade), anchor="middle", colour=svg.FAINT, size=10)
    for decade in range(up[0], up[1] + 1):
        y = spot(10.0 ** across[0], 10.0**decade)[1]
        yield svg.line(left, y, left + WIDTH, y, svg.GRID)
        yield svg.text(left - 4, y + 4, _short(decade), anchor="end", colour=svg.FAINT, size=10)
    yield _linear(spot, across, up, min(zip(sizes, values, strict=True)))
    for colour, way in zip(COLOURS, _ways(rows, rows[0]["axis"]), strict=False):
        points = [spot(row["size"], max(row[quantity], LEAST[quantity])) for row in rows if row["way"] == way]
        yield svg.path(points, colour)
        yield from (svg.dot(x, y, colour, 2.4) for x, y in points)


def _linear(spot: Any, across: tuple[int, int], up: tuple[int, int], first: Spot) -> str:
    """Linear growth from the smallest point up to the edge of the panel."""
    size, value = first
    far = min(10.0 ** across[1] / size, 10.0 ** up[1] / value)
    return svg.line(*spot(size, value), *spot(size * far, value * far), svg.FAINT, dashes="3 3")


def _ways(rows: list[Row], axis: str) -> list[str]:
    return list(dict.fromkeys(row["way"] for row in rows if row["axis"] == axis))


def _told(rows: list[Row], way: str) -> str:
    found = [row["recall"] for row in rows if row["way"] == way and "recall" in row]
    if not found:
        return way
    low, high = f"{min(found):.2f}", f"{max(found):.2f}"
    return f"{way}, recall@20 {low if low == high else f'{low} to {high}'}"


def _decades(values: list[float]) -> tuple[int, int]:
    """Powers of ten that hold all values; one more where they are of one power."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _short(decade: int) -> str:
    value = 10.0**decade
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
