"""`bench list` and `bench show`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from bench.cli.console import emit_json
from bench.errors import InputError, unknown_name

if TYPE_CHECKING:
    from bench.cards import Card


def show_list(kind: str | None = None, *, json: bool = False) -> None:
    """What there is.

    Parameters
    ----------
    kind
        tasks, models, datasets, encoders, judges or routers; all of them when not given.
    json
        One JSON document on stdout.
    """
    from bench.listing import listing

    found = listing()
    if kind is not None:
        if kind not in found:
            raise unknown_name("kind", kind, found)
        found = {kind: found[kind]}
    if json:
        emit_json({each: [{"name": name, **card} for name, card in cards.items()] for each, cards in found.items()})
        return
    for each, cards in found.items():
        _print_kind(each, cards)


def show(name: str, *, json: bool = False) -> None:
    """The card of a task, model, dataset, encoder, judge or router.

    Parameters
    ----------
    name
        Its name, or KIND/NAME (models/sasrec) where two kinds share one.
    json
        One JSON document on stdout.
    """
    kind, card, entry = _find(name)
    if json:
        emit_json({"kind": kind, **card.model_dump(mode="json")})
        return
    _print_card(kind, card, entry)


def _find(name: str) -> tuple[str, Card, type[Any]]:
    from bench import registry

    kind, slash, rest = name.rpartition("/")
    if slash and kind in registry.GROUPS:
        entry = registry.get(kind, rest)
        return kind, entry.card, entry
    holders = [each for each in registry.GROUPS if name in registry.names(each)]
    if not holders:
        raise unknown_name("name", name, {known for each in registry.GROUPS for known in registry.names(each)})
    if len(holders) > 1:
        choices = " or ".join(f"{each}/{name}" for each in holders)
        raise InputError(f"{name!r} is the name of several things: say {choices}.")
    entry = registry.get(holders[0], name)
    return holders[0], entry.card, entry


def _print_kind(kind: str, cards: dict[str, dict[str, Any]]) -> None:
    # Plain text: rich would double the time that a list takes.
    write = sys.stdout.write
    write(f"{kind}\n")
    if not cards:
        write("  none\n")
    width = max(map(len, cards), default=0)
    for name, card in cards.items():
        if "broken" in card:
            write(f"  {name:<{width}}  broken: {card['broken']}\n")
            continue
        told = f"[told: {card['information']}] " if "information" in card else ""
        write(f"  {name:<{width}}  {told}{card['summary']}\n")


def _print_card(kind: str, card: Card, entry: type[Any]) -> None:
    from bench.registry import singular

    write = sys.stdout.write
    write(f"{card.name} ({singular(kind)}, version {card.version})\n{card.summary}\n")
    values = card.model_dump(mode="json", exclude={"name", "version", "summary", "settings", "notes"})
    for key, value in values.items():
        if value not in ("", None, [], {}):
            write(f"  {key.replace('_', ' ')}: {', '.join(map(str, value)) if isinstance(value, list) else value}\n")
    described: dict[str, str] = getattr(card, "settings", {})
    fields = getattr(getattr(entry, "Settings", None), "model_fields", {})
    if fields:
        write("settings:\n")
    for key, field in fields.items():
        text = described.get(key) or field.description or ""
        write(f"  {key} = {field.get_default(call_default_factory=True)!r}{'  ' + text if text else ''}\n")
    notes: tuple[str, ...] = getattr(card, "notes", ())
    if notes:
        write("notes:\n" + "".join(f"  - {note}\n" for note in notes))
