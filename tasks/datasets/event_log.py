"""Events of all users in one table: ordered in time, repeats removed, thinned to a k-core, and packed row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.contracts import Bools, Ints, Longs, Ragged
from bench.errors import InputError

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class EventLog:
    """What was recorded, before any split.

    `users` are the names of the U rows of `events`; `items` is a frame with `id`, `title`, `text` and `labels` (a list of
    texts) for the V positions that `events` refers to; `times` are seconds, int64 [E], or None without a clock. `counts` says
    what other ways of thinning would have left (see `core_counts`), empty where nobody asked.
    """

    users: pl.Series
    items: pl.DataFrame
    events: Ragged
    times: Longs | None
    counts: dict[str, dict[str, int]]


class UserCodes:
    """Names of users as 64-bit numbers, so that a table of events need not hold the names."""

    def __init__(self) -> None:
        self._parts: list[pl.DataFrame] = []
        self._pending = 0

    def encode(self, names: pl.Series) -> pl.Series:
        """The numbers of a column of names; the names are remembered."""
        import polars as pl

        codes = names.hash(0).alias("code")
        self._parts.append(pl.DataFrame({"code": codes, "user": names}).unique("code"))
        self._pending += len(self._parts[-1])
        if self._pending > 2 * len(self._parts[0]) + 1_000_000:
            self._merge()
        return codes

    def table(self) -> pl.DataFrame:
        """Every number with its name, sorted by name, and the position `row` in that order.

        Raises:
            InputError: two names have one number; at 64 bits that is next to impossible.
        """
        import polars as pl

        self._merge()
        found = self._parts[0].sort("user")
        if found["code"].is_duplicated().any():
            raise InputError("two user ids share one 64-bit number: rename one of the users.")
        return found.with_columns(pl.int_range(len(found), dtype=pl.Int32).alias("row"))

    def _merge(self) -> None:
        import polars as pl

        # Both columns decide, so that names which share a number stay apart and are noticed.
        self._parts = [pl.concat(self._parts).unique(["code", "user"])]
        self._pending = 0


def settle(events: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame, core: int) -> EventLog:
    """From loose events to a log.

    A user's events are ordered by time, those of one second by their order here. The first of several events of a user with
    one item is kept. Then users and items with fewer than `core` events are removed until none is left (a k-core).

    Args:
        events: `code` (of `users`), `item` (row of `items`, int32) and, with a clock, `time` (seconds); without `time` the
            order here is the order of events.
        items: the whole catalogue.
        users: what `UserCodes.table` gives.
        core: least number of events of a user and of an item; 1 keeps all.

    Raises:
        InputError: nothing is left, or one item alone.
    """
    frame = events.join(users.select("code", "row"), on="code", maintain_order="left").drop("code")
    by = ["row", "time"] if "time" in frame.columns else ["row"]
    ordered = frame.sort(by, maintain_order=True).select("row", "item", *by[1:])
    return pack(ordered, items, users["user"], core)


def pack(frame: pl.DataFrame, items: pl.DataFrame, names: pl.Series, core: int, *, compare: bool = False) -> EventLog:
    """The log of events that are ordered already: `row` (of `names`), `item`, and `time` or none; see `settle`.

    With `compare`, what other ways of thinning leave is counted.
    """
    row, item = frame["row"].to_numpy(), frame["item"].to_numpy()
    times = frame["time"].to_numpy() if "time" in frame.columns else None
    first = first_of_pairs(row, item, len(items))
    row, item = row[first].astype(np.int32), item[first].astype(np.int32)
    times = None if times is None else times[first].astype(np.int64)
    counts = core_counts(row, item, core) if compare else {}
    kept = k_core(row, item, core)
    row, item, times = row[kept], item[kept], None if times is None else times[kept]
    if not len(row):
        raise InputError(
            f"no event is left: no users and items have at least {core} events with each other."
            if core > 1
            else "there is no event."
        )
    have, lengths = np.unique(row, return_counts=True)
    used = np.unique(item)
    if len(used) < 2:
        raise InputError(f"only the item {items['id'][int(used[0])]!r} is left: a catalogue needs at least two.")
    place = np.full(len(items), -1, np.int32)
    place[used] = np.arange(len(used), dtype=np.int32)
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    return EventLog(names[have], items[used], Ragged(offsets, place[item]), times, counts)


def first_of_pairs(row: npt.NDArray[Any], item: npt.NDArray[Any], size: int) -> Bools:
    """Which events are the first of their user with their item, bool [E]."""
    import polars as pl

    return pl.Series(row.astype(np.int64) * size + item).is_first_distinct().to_numpy()


def k_core(row: Ints, item: Ints, core: int) -> Bools:
    """Which events remain when users and items with fewer than `core` are removed until none is left, bool [E]."""
    alive = np.arange(len(row))
    for left in _rounds(row, item, core):
        alive = left
    kept = np.zeros(len(row), bool)
    kept[alive] = True
    return kept


def core_counts(row: Ints, item: Ints, core: int) -> dict[str, dict[str, int]]:
    """Users, items and events that are left by each way in which "k-core" is read.

    Returns:
        `fixpoint` (users and items until none has fewer), `one pass` (both once), `users only` (users with fewer are removed,
        items stay).
    """
    active = np.flatnonzero((np.bincount(row) >= core)[row])
    rounds = _rounds(row, item, core)
    once = next(rounds, np.arange(len(row)))
    ways = {"fixpoint": [once, *rounds][-1], "one pass": once, "users only": active}
    return {
        name: {"users": len(np.unique(row[kept])), "items": len(np.unique(item[kept])), "events": len(kept)}
        for name, kept in ways.items()
    }


def _rounds(row: Ints, item: Ints, core: int) -> Iterator[Longs]:
    """The events that are left after each round in which something was removed."""
    alive = np.arange(len(row))
    while core > 1 and len(alive):
        users, items = row[alive], item[alive]
        keep = (np.bincount(users) >= core)[users] & (np.bincount(items) >= core)[items]
        if keep.all():
            return
        alive = alive[keep]
        yield alive
