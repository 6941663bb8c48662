"""`bench data`: prepare, describe, add and generate datasets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import App

from bench.cli.console import emit_json, numbers
from bench.errors import InputError, unknown_name

if TYPE_CHECKING:
    from bench.contracts import Dataset

app = App(name="data", help="Prepare and describe datasets.")


@app.command
def prepare(name: str, *, data_dir: Path | None = None, json: bool = False) -> None:
    """Download a dataset where that is needed, check it, and say where it lies.

    Parameters
    ----------
    name
        A registered dataset, also with a split or variant (NAME@SPLIT).
    data_dir
        Folder that has its files already.
    json
        One JSON document on stdout.
    """
    from bench import progress, registry, scoring

    entry = registry.get("datasets", name)()
    place = None
    with progress.for_terminal(quiet=json) as bars:
        # A dataset that is part of the package has nothing to prepare.
        if hasattr(entry, "prepare"):
            variant = {key: value for key, value in scoring.chosen(entry, name).items() if key != "split"}
            place = entry.prepare(data_dir, bars, **variant)
        dataset = scoring.load_dataset(name, data_dir, bars)
    if json:
        emit_json({"dataset": name, "folder": str(place) if place else None, "fingerprint": dataset.fingerprint})
        return
    where = f"in {place}" if place else "part of the package"
    sys.stdout.write(f"{name} is ready, {where} (fingerprint {dataset.fingerprint}).\n")


@app.command
def stats(name: str, *, data_dir: Path | None = None, json: bool = False) -> None:
    """Size, density and labels of a dataset, its fingerprint, and what its split leaks where the data have a clock.

    Parameters
    ----------
    name
        A registered dataset; NAME@loo is its leave-one-out split, NAME@global the split at one moment for all users.
    data_dir
        Folder with its files, where they are not in the default place.
    json
        One JSON document on stdout.
    """
    from bench import progress, registry, scoring

    entry_class = registry.get("datasets", name)
    with progress.for_terminal(quiet=json) as bars:
        dataset = scoring.load_dataset(name, data_dir, bars)
        # A dataset that the paper measured as well says how near each way of preparing it comes.
        paper = entry_class().against_paper(data_dir, bars) if hasattr(entry_class, "against_paper") else None
    figures = entry_class.statistics(dataset) if hasattr(entry_class, "statistics") else plain_statistics(dataset)
    figures |= {} if paper is None else {"paper": paper}
    if json:
        emit_json(figures)
        return
    for key, value in figures.items():
        _print_figure(key, value)


@app.command
def add(
    name: str,
    *,
    interactions: Path,
    items: Path,
    domain: Literal["film", "news", "book", "product"] = "product",
    core: int = 1,
    windows: str = "3,5",
    summary: str = "",
    licence: str = "",
    json: bool = False,
) -> None:
    """Register a dataset of your own: afterwards `--dataset NAME` works everywhere. The files stay where they are.

    Each file is CSV, TSV or JSON lines (also .gz), or parquet. Interactions have the columns `user`, `item` and, where there is
    a clock, `timestamp` (seconds since 1970, or ISO 8601). Items have `item`, `title`, `labels` (a list, or a text with |
    between them) and, if wanted, `text`.

    Parameters
    ----------
    name
        What to call it.
    interactions
        File of who met what.
    items
        File of the catalogue.
    domain
        Wording of the prompts.
    core
        Least events of a user and of an item; others are removed until none is left.
    windows
        Windows N of the steering tasks, with commas between them.
    summary
        One line for `bench list`.
    licence
        Whose data they are, and what may be done with them.
    json
        One JSON document on stdout.
    """
    from bench import added, progress, registry

    manifest = added.manifest_for(name, registry.names("datasets"))
    told = {"name": name, "interactions": interactions, "items": items, "domain": domain, "core": core}
    more = {"windows": numbers(windows, "--windows"), "summary": summary, "licence": licence}
    with progress.for_terminal(quiet=json) as bars:
        dataset = added.reader().add(manifest, bars, **told, **more)
    if json:
        emit_json({"dataset": name, "manifest": str(manifest), "fingerprint": dataset.fingerprint})
        return
    users, size, events = len(dataset.user_ids), len(dataset.catalogue), len(dataset.events.values)
    # A column of another name would be left out in silence, and the order of the file taken for that of events.
    order = (
        "in the order of their timestamps" if dataset.times is not None else "in the order of the file (no timestamps)"
    )
    sys.stdout.write(
        f"{name} is registered: {users:,} users, {size:,} items, {events:,} events {order}. Try: --dataset {name}\n"
    )


@app.command
def remove(name: str) -> None:
    """Forget a dataset that was added; its files stay where they are.

    Parameters
    ----------
    name
        An added dataset.
    """
    from bench import added

    manifests = added.manifests()
    if name not in manifests:
        raise unknown_name("added dataset", name, manifests)
    manifests[name].unlink()
    sys.stdout.write(f"{name} is forgotten.\n")


@app.command
def generate(name: str, *, users: int = 20_000, out: Path, seed: int = 0, json: bool = False) -> None:
    """Write made-up data in a dataset's published layout, at any size, to try what the real files would meet.

    Parameters
    ----------
    name
        A registered dataset whose layout is known (mind, goodreads, amazon-2023).
    users
        How many users; the catalogue grows with them.
    out
        The folder to make; `--data-dir` takes it.
    seed
        Another seed, other data.
    json
        One JSON document on stdout.
    """
    from bench import progress, registry

    entry = registry.get("datasets", name)
    if not hasattr(entry, "generate"):
        able = [each for each in registry.names("datasets") if hasattr(registry.get("datasets", each), "generate")]
        raise InputError(f"dataset {name!r} has no generator; {', '.join(able)} have one.")
    with progress.for_terminal(quiet=json) as bars:
        folder = entry.generate(out, users, seed, bars)
    if json:
        emit_json({"dataset": name, "folder": str(folder), "users": users, "seed": seed})
        return
    sys.stdout.write(f"{users:,} users in the layout of {name} lie in {folder}; they are made up.\n")


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
