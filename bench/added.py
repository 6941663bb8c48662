"""Datasets that a person added with `bench data add`: a manifest each, read by the class behind the entry point.

    <data>/added/NAME.json

where <data> is the platform's folder for a person's data, or BENCH_CACHE_DIR. The class is found like any other part, in the
entry-point group `bench.added_datasets` under the name `files`: it makes a dataset class of a manifest (`of`), and a manifest
of what a person typed (`add`).
"""

from __future__ import annotations

import os
import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from bench.errors import CheckError, InputError

GROUP, READER = "bench.added_datasets", "files"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def folder() -> Path:
    """Where the manifests lie."""
    override = os.environ.get("BENCH_CACHE_DIR")
    if override:
        return Path(override) / "added"
    from platformdirs import user_data_path

    return user_data_path("promptrec-bench") / "added"


def manifests() -> dict[str, Path]:
    """Name to manifest of every added dataset, sorted."""
    return {path.stem: path for path in sorted(folder().glob("*.json"))}


def manifest_for(name: str, taken: list[str]) -> Path:
    """Where the manifest of a new dataset goes.

    Args:
        name: what the person wants to call it.
        taken: names of the datasets that there are.

    Raises:
        InputError: the name is taken, or cannot be one.
    """
    if not NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot be a dataset's name: lower-case letters, digits and . _ - only.")
    if name in taken:
        raise InputError(
            f"there is a dataset {name!r} already: choose another name, or `bench data remove {name}` first."
        )
    return folder() / f"{name}.json"


def reader() -> Any:
    """The class that reads added datasets.

    Raises:
        CheckError: no installed distribution offers one.
    """
    found = tuple(entry_points(group=GROUP, name=READER))
    if not found:
        raise CheckError(f"no entry point {READER!r} in {GROUP!r}: the package is not installed, or is damaged.")
    return found[0].load()
