"""Pieces of the figures that are written as static SVG by hand, since dots and lines need no plotting library."""

from __future__ import annotations

import math
from html import escape

INK, FAINT, GRID = "#222222", "#777777", "#e4e4e4"
# Colours that stay apart for colour-blind readers (Okabe and Ito 2008).
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"


def document(width: float, height: float, title: str, parts: list[str]) -> str:
    """A whole figure on white, which says its title to a screen reader."""
    begin = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="11" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    return "\n".join([*begin, *parts, "</svg>"]) + "\n"


def text(
    x: float, y: float, words: str, *, anchor: str = "", colour: str = INK, size: int | None = None, bold: bool = False
) -> str:
    """Words that begin at x, or end there, or have it in their middle (`anchor`: end, middle)."""
    style = f' text-anchor="{anchor}"' if anchor else ""
    style += ' font-weight="bold"' if bold else ""
    style += f' font-size="{size}"' if size else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}"{style}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1.0, dashes: str = "") -> str:
    """A straight line."""
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width:g}"{dashed}/>'


def path(points: list[tuple[float, float]], colour: str) -> str:
    """A line from point to point."""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.4"/>'


def dot(x: float, y: float, colour: str, radius: float = 3) -> str:
    """A full circle."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{colour}"/>'


def axis(largest: float) -> tuple[float, float]:
    """Step and end of an axis from 0 that holds `largest`: steps of 1, 2 or 5 times a power of ten, at most six."""
    if not largest > 0:
        return 0.5, 1.0
    power = 10.0 ** math.floor(math.log10(largest / 5))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if largest / step <= 6)
    return step, step * math.ceil(largest / step - 1e-9)
