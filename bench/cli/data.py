"""`bench data prepare` and `bench data stats`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App

from bench.cli.console import emit_json

if TYPE_CHECKING:
    from bench.contracts import Dataset

app = App(name="data", help="Prepare and describe datasets.")


@app.command
def prepare(name: str, *, data_dir: Path | None = None, json: bool = False) -> None:
    """Download a dataset where that is needed, check it, and say where it lies.

    Parameters
    ----------
    name
        A registered dataset.
    data_dir
        Folder that has its files already.
    json
        One JSON document on stdout.
    """
    from bench import progress, registry

    entry = registry.get("datasets", name)()
    place = None
    with progress.for_terminal(quiet=json) as bars:
        # A dataset that is part of the package has nothing to prepare.
        if hasattr(entry, "prepare"):
            place = entry.prepare(data_dir, bars)
        dataset = entry.load(place if place is not None else data_dir, bars)
    if json:
        emit_json({"dataset": name, "folder": str(place) if place else None, "fingerprint": dataset.fingerprint})
        return
    where = f"in {place}" if place else "part of the package"
    sys.stdout.write(f"{name} is ready, {where} (fingerprint {dataset.fingerprint}).\n")


@app.command
def stats(name: str, *, data_dir: Path | None = None, json: bool = False) -> None:
    """Size, density and labels of a dataset, and its fingerprint.

    Parameters
    ----------
    name
        A registered dataset; NAME@loo is its leave-one-out split.
    data_dir
        Folder with its files, where they are not in the default place.
    json
        One JSON document on stdout.
    """
    from bench import progress, registry, scoring

    entry_class = registry.get("datasets", name)
    with progress.for_terminal(quiet=json) as bars:
        dataset = scoring.load_dataset(name, data_dir, bars)
    figures = entry_class.statistics(dataset) if hasattr(entry_class, "statistics") else plain_statistics(dataset)
    if json:
        emit_json(figures)
        return
    for key, value in figures.items():
        _print_figure(key, value)


def plain_statistics(dataset: Dataset) -> dict[str, Any]:
    """Figures of a dataset that offers none of its own; `labels` counts the items of each label."""
    users, items, events = len(dataset.user_ids), len(dataset.catalogue), len(dataset.events.values)
    per_label = dataset.catalogue.label_matrix().sum(0).tolist()
    return {
        "users": users,
        "items": items,
        "events": events,
        "mean_length": events / max(users, 1),
        "density": events / max(users * items, 1),
        "fingerprint": dataset.fingerprint,
        "labels": dict(zip(dataset.catalogue.label_names, per_label, strict=True)),
    }


def _print_figure(key: str, value: Any, indent: str = "") -> None:
    write = sys.stdout.write
    name = str(key).replace("_", " ")
    if isinstance(value, dict):
        write(f"{indent}{name}:\n")
        for inner, figure in value.items():
            _print_figure(inner, figure, indent + "  ")
        return
    if isinstance(value, float):
        value = f"{value:.4g}"
    elif isinstance(value, int):
        value = f"{value:,}"
    elif isinstance(value, list):
        value = ", ".join(map(str, value))
    write(f"{indent}{name}: {value}\n")
