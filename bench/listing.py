"""What `bench list` prints, remembered between calls: importing every registered class only to read its card takes longer.

The memory is keyed by every source file behind the registered names, so an edit or an installation is seen at once; a third
party's package counts by its own files too. Entries that do not load are never remembered.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench import added

VERSION = 1

Listing = dict[str, dict[str, dict[str, Any]]]


def listing() -> Listing:
    """Kind to name to card, as plain values; `{"broken": reason}` stands for an entry that does not load."""
    place = _place()
    key = _key()
    try:
        kept = json.loads(place.read_text("utf-8"))
        if kept["key"] == key:
            found: Listing = kept["listing"]
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    made = _read()
    if not any("broken" in card for cards in made.values() for card in cards.values()):
        from bench.atomic import atomic_write

        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(place, json.dumps({"key": key, "listing": made}))
        except OSError:
            pass  # A cache that cannot be written costs time, nothing else.
    return made


def _read() -> Listing:
    from bench import registry

    made: Listing = {}
    for kind in registry.GROUPS:
        made[kind] = {}
        for name, card in registry.cards(kind).items():
            if isinstance(card, registry.Broken):
                made[kind][name] = {"broken": card.reason}
            else:
                made[kind][name] = card.model_dump(mode="json", exclude={"name"})
    return made


def _place() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("promptrec-bench") / "listing.json"


def _key() -> str:
    """Hash of the registered names and of path, size and time of every source file in the packages that they point into."""
    found = entry_points()
    entries = [entry for group in found.groups if group.startswith("bench.") for entry in found.select(group=group)]
    about = sorted({(entry.group, entry.name, entry.value) for entry in entries})
    sources = [state for package in sorted(_packages(entries) | {"bench"}) for state in _sources(package)]
    mine = [(str(path), path.stat().st_mtime_ns) for path in added.manifests().values()]
    material = json.dumps([VERSION, sys.version_info[:3], about, sources, mine])
    return hashlib.sha256(material.encode()).hexdigest()


def _packages(entries: list[EntryPoint]) -> set[str]:
    return {entry.value.partition(":")[0].partition(".")[0] for entry in entries}


def _sources(package: str) -> Iterator[tuple[str, int, int]]:
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        spec = None
    for place in spec.submodule_search_locations or [] if spec else []:
        for folder, _, names in os.walk(place):
            for name in sorted(names):
                if name.endswith((".py", ".json")):
                    path = os.path.join(folder, name)  # noqa: PTH118  # a Path for each of the files takes longer
                    state = os.stat(path)  # noqa: PTH116
                    yield path, state.st_mtime_ns, state.st_size
    if spec and spec.origin and not spec.submodule_search_locations:
        state = os.stat(spec.origin)  # noqa: PTH116
        yield spec.origin, state.st_mtime_ns, state.st_size
