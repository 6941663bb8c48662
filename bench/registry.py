"""Tasks, models, datasets, encoders, judges and routers, found by entry point: ours and a third party's alike.

Nothing is imported before it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from bench import added
from bench.cards import Card
from bench.errors import CheckError, InputError, unknown_name

GROUPS = {
    "tasks": "bench.tasks",
    "models": "bench.models",
    "datasets": "bench.datasets",
    "encoders": "bench.encoders",
    "judges": "bench.judges",
    "routers": "bench.routers",
}


@dataclass(frozen=True)
class Broken:
    """Stands in a list for an entry that does not load; `reason` is one line."""

    reason: str


def singular(kind: str) -> str:
    """The kind as a person says it of one: "model" of "models"."""
    return kind.removesuffix("s")


def names(kind: str) -> list[str]:
    """Registered names of a kind, sorted; of datasets also those that a person added.

    Raises:
        InputError: there is no such kind.
    """
    return sorted({*_entries(kind), *(added.manifests() if kind == "datasets" else ())})


def get(kind: str, name: str) -> type[Any]:
    """The class registered under a name.

    Raises:
        InputError: no such kind or name (with the nearest one), or two distributions claim the name.
        CheckError: the entry is there but does not import, or has no card.
    """
    known = names(kind)
    if kind == "datasets":
        name = split_name(name)[0]
    if name not in known:
        raise unknown_name(singular(kind), name, known)
    return _load(kind, name)


def split_name(name: str) -> tuple[str, str | None]:
    """A dataset's registered name and its split: "ml-1m@loo" is MovieLens-1M under leave-one-out; None is the dataset's own."""
    registered, at, split = name.partition("@")
    return registered, split if at else None


def cards(kind: str) -> dict[str, Card | Broken]:
    """The card of every name of a kind; `Broken` where an entry does not load, so that one plugin never spoils a list."""
    found: dict[str, Card | Broken] = {}
    for name in names(kind):
        try:
            found[name] = _load(kind, name).card
        except (InputError, CheckError) as error:
            found[name] = Broken(str(error))
    return found


def distribution_of(kind: str, name: str) -> str | None:
    """Name of the distribution that provides an entry, for the provenance."""
    entries = _entries(kind).get(split_name(name)[0] if kind == "datasets" else name, [])
    return entries[0].dist.name if entries and entries[0].dist is not None else None


def clear() -> None:
    """Forget what was found, so that the next question looks again (after an installation, in tests)."""
    _entries.cache_clear()
    _scan.cache_clear()


@cache
def _scan() -> tuple[EntryPoint, ...]:
    # One scan of the installed distributions for all groups: it is most of the cost of `bench list`.
    found = entry_points()
    return tuple(entry for group in GROUPS.values() for entry in found.select(group=group))


@cache
def _entries(kind: str) -> dict[str, list[EntryPoint]]:
    if kind not in GROUPS:
        raise unknown_name("kind", kind, GROUPS)
    return _by_name(entry for entry in _scan() if entry.group == GROUPS[kind])


def _by_name(found: Iterable[EntryPoint]) -> dict[str, list[EntryPoint]]:
    entries: dict[str, list[EntryPoint]] = {}
    for entry in found:
        same = entries.setdefault(entry.name, [])
        # An editable install beside its source tree shows the same entry twice; that is no collision.
        if all((entry.value, _owner(entry)) != (other.value, _owner(other)) for other in same):
            same.append(entry)
    return entries


def _owner(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown distribution"


def _load(kind: str, name: str) -> type[Any]:
    if kind == "datasets" and name not in _entries(kind):
        made: type[Any] = added.reader().of(added.manifests()[name])
        return made
    claims = _entries(kind)[name]
    if len(claims) > 1:
        owners = " and ".join(sorted(f"{_owner(entry)} ({entry.value})" for entry in claims))
        raise InputError(f"{singular(kind)} {name!r} is claimed by {owners}: uninstall one of them.")
    entry = claims[0]
    try:
        loaded: type[Any] = entry.load()
        card = loaded.card
    except Exception as error:
        raise CheckError(
            f"{singular(kind)} {name!r} of {_owner(entry)} does not load: {type(error).__name__}: {_line(error)}"
        ) from error
    if not isinstance(card, Card):
        raise CheckError(f"{singular(kind)} {name!r} of {_owner(entry)}: {entry.value}.card is not a Card.")
    return loaded


def _line(error: Exception) -> str:
    return (str(error) or "no message").splitlines()[0]
