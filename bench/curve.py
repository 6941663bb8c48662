"""Utility against compliance, point by point over a setting that says how hard a model is steered: one number hides the price.

Every point is a run of its own as of `bench run`: kept, shared and gone on with in the same way.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import registry, svg
from bench.atomic import atomic_write
from bench.contracts import Progress
from bench.errors import CheckError, InputError, unknown_name
from bench.identity import digest
from bench.reproduce.figure import COLOURS
from bench.runner import TASK_PREFIX, RunConfig, execute
from bench.scoring import load_dataset

CURVES = "curves"
# What says how far a list complies, and whether more of it is better.
COMPLIANCE = {"compliance@10": True, "violation@10": False}
LEFT, TOP, WIDTH, HEIGHT, RIGHT, BOTTOM = 74, 54, 420, 300, 60, 60


@dataclass(frozen=True)
class Measured:
    """A mean with its 95 % interval, None where it has none."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Point:
    """A value of the setting, and what the run with it measured."""

    value: str
    run: str
    utility: Measured
    compliance: Measured


@dataclass(frozen=True)
class Curve:
    """Points in the order of the values; `utility` is the metric that stands for it, `compliance` is the share that complies."""

    task: str
    model: str
    dataset: str
    protocol: str
    condition: str
    setting: str
    utility: str
    points: tuple[Point, ...]

    @property
    def title(self) -> str:
        """What the curve shows, in a line."""
        return f"{self.model} on {self.task.upper()}, {self.dataset}: {self.protocol}, {self.condition}, over {self.setting}"


def trace(config: RunConfig, setting: str, values: Sequence[str], progress: Progress) -> Curve:
    """Run the model at every value of one of its settings.

    Args:
        config: what each run is told besides.
        setting: a (dotted) key of the model's settings.
        values: at least two.
        progress: told how far it is.

    Raises:
        InputError: an unknown setting, too few values, or a task whose lists are not checked for compliance.
        CheckError: a run failed, or measured nothing.
    """
    model, task = registry.get("models", config.model), registry.get("tasks", config.task)
    if not model.Settings.has(setting):
        raise unknown_name(f"setting of {config.model}", setting, model.Settings.model_fields)
    if len(set(values)) < 2:
        raise InputError(f"--over {setting}: a curve needs two different values at the least.")
    measured = next((name for name in COMPLIANCE if name in task.card.metrics), None)
    if measured is None:
        raise InputError(f"task {config.task!r} does not measure compliance: draw the curve of pos or neg.")
    own = {key: value for key, value in config.settings.items() if not key.startswith(TASK_PREFIX)}
    for value in values:
        # A wrong value is said before the runs of the others.
        model.Settings.parse(config.model, own | {setting: value})
    utility, points, result = task.card.main_metric, [], None
    dataset = load_dataset(config.dataset, config.data_dir, progress)
    for value in dict.fromkeys(values):
        run = execute(config.model_copy(update={"settings": config.settings | {setting: value}}), progress, dataset)
        result = run.result
        points.append(Point(value, result.run, _measured(run.metrics, utility), _complying(run.metrics, measured)))
    assert result is not None
    return Curve(
        config.task, config.model, config.dataset, result.protocol, result.condition, setting, utility, tuple(points)
    )


def write(curve: Curve, config: RunConfig) -> list[Path]:
    """Write curve.svg, curve.csv and curve.json under OUT/curves, each whole or not at all; gives their paths."""
    about = {"runs": [point.run for point in curve.points], "setting": curve.setting}
    folder = config.out / CURVES / f"{curve.task}-{curve.model}-{curve.dataset}-{digest(about)[:10]}"
    files = {
        "curve.svg": draw(curve),
        "curve.csv": _as_csv(curve),
        "curve.json": json.dumps(as_dict(curve), indent=2) + "\n",
    }
    for name, text in files.items():
        atomic_write(folder / name, text)
    return [folder / name for name in files]


def as_dict(curve: Curve) -> dict[str, Any]:
    """The curve as plain values."""
    return asdict(curve)


def draw(curve: Curve) -> str:
    """The curve as a static SVG: compliance to the right, utility upwards, a value beside each point, intervals as thin lines."""
    step, top = svg.axis(max(max(p.utility.high or 0.0, p.utility.value) for p in curve.points))
    width, height = LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM

    def x(share: float) -> float:
        return LEFT + WIDTH * share

    def y(value: float) -> float:
        return TOP + HEIGHT * (1 - value / top)

    parts = [svg.text(LEFT, 24, curve.title, size=13)]
    for place in range(6):
        parts += [
            svg.line(x(place / 5), TOP, x(place / 5), TOP + HEIGHT, svg.GRID),
            svg.text(x(place / 5), TOP + HEIGHT + 16, f"{place / 5:g}", anchor="middle", colour=svg.FAINT),
        ]
    for place in range(round(top / step) + 1):
        at = y(place * step)
        parts += [
            svg.line(LEFT, at, LEFT + WIDTH, at, svg.GRID),
            svg.text(LEFT - 8, at + 4, f"{place * step:g}", anchor="end", colour=svg.FAINT),
        ]
    name = curve.utility.replace("ndcg", "NDCG").replace("recall", "Recall")
    parts += [
        svg.text(LEFT + WIDTH / 2, TOP + HEIGHT + 38, "share of the top ten that complies", anchor="middle"),
        svg.text(LEFT - 44, TOP - 12, name),
    ]
    colour = COLOURS.get(curve.condition, svg.INK)
    parts.append(svg.path([(x(p.compliance.value), y(p.utility.value)) for p in curve.points], colour))
    for place, point in enumerate(curve.points):
        at, up = x(point.compliance.value), y(point.utility.value)
        if point.utility.low is not None and point.utility.high is not None:
            parts.append(svg.line(at, y(point.utility.low), at, y(point.utility.high), colour))
        if point.compliance.low is not None and point.compliance.high is not None:
            parts.append(svg.line(x(point.compliance.low), up, x(point.compliance.high), up, colour))
        parts.append(svg.dot(at, up, colour, 3.2))
        # Above and below by turns: neighbours often lie close together.
        parts.append(svg.text(at + 6, up + (14 if place % 2 else -6), point.value))
    return svg.document(width, height, curve.title, parts)


def _measured(metrics: dict[str, Any], name: str) -> Measured:
    found = metrics.get(name)
    if found is None or found.value is None:
        raise CheckError(f"the run has no {name}: no curve can be drawn of it.")
    return Measured(found.value, found.low, found.high)


def _complying(metrics: dict[str, Any], name: str) -> Measured:
    found = _measured(metrics, name)
    if COMPLIANCE[name]:
        return found
    low, high = (None if end is None else 1 - end for end in (found.high, found.low))
    return Measured(1 - found.value, low, high)


def _as_csv(curve: Curve) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        [
            curve.setting,
            *(f"{name}{end}" for name in (curve.utility, "compliance") for end in ("", "_low", "_high")),
            "run",
        ]
    )
    for point in curve.points:
        ends = [end for m in (point.utility, point.compliance) for end in (m.value, m.low, m.high)]
        writer.writerow([point.value, *("" if end is None else f"{end:.6f}" for end in ends), point.run])
    return stream.getvalue()
