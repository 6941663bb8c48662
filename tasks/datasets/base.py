"""What every dataset entry shares: its shape, the split, the drop of items absent from train, and the fingerprint."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from bench.cards import DatasetCard
from bench.contracts import NO_ITEM, Catalogue, Dataset, Longs, Progress, Ragged
from bench.errors import InputError

OWN, LEAVE_ONE_OUT, GLOBAL = "ratio", "loo", "global"
FINGERPRINT_LAYOUT = b"promptrec-dataset-1\n"


@runtime_checkable
class DatasetEntry(Protocol):
    """A dataset as it is registered.

    An entry that can be downloaded or prepared also has `prepare(data_dir, progress) -> Path`. One with other splits than its
    own names them in `splits` and takes `split=` in `load`; one that can be read in other ways has `variants`, from a keyword
    of `load` to what it may be. The user writes NAME@SPLIT, NAME@VARIANT or NAME@VARIANT+SPLIT.
    """

    card: ClassVar[DatasetCard]

    def load(self, data_dir: Path | None, progress: Progress | None = None) -> Dataset:
        """Read the dataset from a folder, or, where that is None, from the place the entry documents."""


@dataclass(frozen=True)
class Item:
    """One line of a catalogue file, before it is known whether the item occurs in train."""

    id: str
    title: str
    text: str
    labels: tuple[str, ...]
    train_tags: tuple[str, ...] = ()
    eval_tags: tuple[str, ...] = ()


def item_text(title: str, labels: tuple[str, ...], tags: tuple[str, ...]) -> str:
    """What an encoder reads of an item: `Title. Label, Label. tag; tag; tag.`; parts that are empty are left out."""
    parts = (title, ", ".join(labels), "; ".join(tags))
    return " ".join(f"{part}." for part in parts if part)


def cache_dir(name: str) -> Path:
    """Folder of a downloaded dataset: `<cache>/datasets/<name>`."""
    return cache_root() / "datasets" / name


def cache_root() -> Path:
    """The project's cache folder; BENCH_CACHE_DIR overrides the platform's."""
    override = os.environ.get("BENCH_CACHE_DIR")
    if override:
        return Path(override)
    from platformdirs import user_cache_path

    return user_cache_path("promptrec-bench")


def split_points(lengths: npt.NDArray[Any], split: str = OWN) -> tuple[Longs, Longs]:
    """End of train and end of validation of sequences with n events.

    Args:
        lengths: events of every user, integers [U].
        split: "ratio" is int(.8n) and int(.9n), in exact arithmetic; "loo" is n - 2 and n - 1 (leave-one-out: the last event
            is the test, the one before validation; the split of most published tables).

    Returns:
        `train_end` and `valid_end`, int64 [U].
    """
    lengths = np.asarray(lengths, np.int64)
    if split == LEAVE_ONE_OUT:
        return np.maximum(lengths - 2, 0), np.maximum(lengths - 1, 0)
    return lengths * 8 // 10, lengths * 9 // 10


def split_moments(times: Longs) -> tuple[int, int]:
    """The last second of train and the last of validation, for one cut through all users at once.

    Train ends when 80 % of all events have happened, validation when half of the rest have. Events of the same second stay
    together, so where many share one (data whose clock begins late), train is larger.

    Raises:
        InputError: fewer than two moments lie after train.
    """
    ordered = np.sort(times)
    train = int(ordered[max(len(ordered) * 8 // 10 - 1, 0)])
    rest = ordered[np.searchsorted(ordered, train, "right") :]
    if not len(rest) or rest[0] == rest[-1]:
        raise InputError("these events cannot be split at one moment: too many happened in one second.")
    valid = int(rest[max(len(rest) // 2 - 1, 0)])
    # Where the last second holds half of the rest, validation ends before it, so that something is left for the test.
    return train, valid if valid < rest[-1] else int(rest[rest < rest[-1]][-1])


@dataclass(frozen=True)
class Cut:
    """A split log: which users and items are kept (positions, int64), their events, and where train and validation end."""

    users: Longs
    items: Longs
    events: Ragged
    times: Longs | None
    train_end: Longs
    valid_end: Longs


def cut(name: str, size: int, events: Ragged, split: str = OWN, times: Longs | None = None) -> Cut:
    """Split every user's events and keep the items that occur in train.

    The split points are taken on the sequence as it was recorded. Then validation and test events of items absent from
    train are dropped and the points moved accordingly. In the split "global" users without a train event are left out as
    well: nothing is known of them when training ends.

    Args:
        name: the dataset's name, for messages.
        size: number of items that `events` refers to.
        events: each user's item positions, oldest first.
        split: "ratio" and "loo" as in `split_points`; "global" cuts all users at the moments of `split_moments`.
        times: seconds of every event, int64 like `events.values`, never falling within a user; None without a clock.

    Raises:
        InputError: no event is left in train, or "global" is asked of data without a clock.
    """
    users = np.repeat(np.arange(len(events)), events.lengths)
    if split == GLOBAL:
        if times is None:
            raise InputError(
                f"dataset {name!r} has no clock, only each user's order of events, so it cannot be split at one moment "
                f"for all: leave out @{GLOBAL}."
            )
        train_last, valid_last = split_moments(times)
        in_train, before_test = times <= train_last, times <= valid_last
    else:
        train_end, valid_end = split_points(events.lengths, split)
        place = np.arange(len(events.values)) - events.offsets[users]
        in_train, before_test = place < train_end[users], place < valid_end[users]
    known = np.zeros(size, bool)
    known[events.values[in_train]] = True
    if not known.any():
        raise InputError(f"dataset {name!r} has no train event: every user has fewer than two events.")
    index = np.where(known, known.cumsum() - 1, NO_ITEM).astype(np.int32)
    keep = known[events.values]
    rows = np.arange(len(events))
    if split == GLOBAL:
        rows = np.flatnonzero(np.bincount(users[in_train], minlength=len(events)))
        keep &= np.isin(users, rows)

    def kept(condition: npt.NDArray[np.bool_] | None = None) -> Longs:
        chosen = keep if condition is None else keep & condition
        return np.bincount(users[chosen], minlength=len(events)).astype(np.int64)[rows]

    offsets = np.concatenate([[0], kept().cumsum()]).astype(np.int64)
    left = Ragged(offsets, index[events.values[keep]])
    moments = None if times is None else times[keep]
    return Cut(rows, np.flatnonzero(known), left, moments, kept(in_train), kept(before_test))


def assemble(
    card: DatasetCard,
    items: Sequence[Item],
    user_ids: Sequence[str],
    events: Ragged,
    split: str = OWN,
    times: Longs | None = None,
) -> Dataset:
    """Split every user's events (see `cut`) and make a dataset of what is kept. Items keep their order, labels are sorted.

    Args:
        card: the dataset's card.
        items: the whole catalogue; `events` refers to its positions.
        user_ids: a name for each of the U rows of `events`.
        events: each user's item positions, oldest first.
        split: "ratio", "loo" or "global".
        times: seconds of every event where the data have a clock.

    Raises:
        InputError: see `cut`.
    """
    parts = cut(card.name, len(items), events, split, times)
    names = tuple(user_ids[row] for row in parts.users.tolist())
    return dataset_of(card, [items[position] for position in parts.items.tolist()], names, parts)


def dataset_of(
    card: DatasetCard, items: Sequence[Item], user_ids: tuple[str, ...], parts: Cut, mark: str | None = None
) -> Dataset:
    """A dataset from a split log: `items` and `user_ids` are those that `parts` keeps; `mark` is its fingerprint, if known."""
    catalogue = _catalogue(items)
    if mark is None:
        mark = fingerprint(catalogue, user_ids, parts.events, parts.train_end, parts.valid_end)
    return Dataset(card, catalogue, user_ids, parts.events, parts.train_end, parts.valid_end, mark, parts.times)


def _catalogue(items: Sequence[Item]) -> Catalogue:
    names = tuple(sorted({label for item in items for label in item.labels}))
    number = {name: position for position, name in enumerate(names)}
    return Catalogue(
        ids=tuple(item.id for item in items),
        titles=tuple(item.title for item in items),
        texts=tuple(item.text for item in items),
        label_names=names,
        labels=Ragged.of([[number[label] for label in item.labels] for item in items]),
        train_tags=tuple(item.train_tags for item in items),
        eval_tags=tuple(item.eval_tags for item in items),
    )


def fingerprint(
    catalogue: Catalogue, user_ids: Sequence[str], events: Ragged, train_end: Longs, valid_end: Longs
) -> str:
    """SHA-256 (hexadecimal) of a dataset's content; the same on any machine. Item texts are derived, so left out.

    Byte layout: the line `promptrec-dataset-1`, then these fields one after the other: user ids, item ids, titles,
    label names, labels (offsets, values), train tags, eval tags, events (offsets, values), train ends, valid ends.
    A list of numbers is its length and then its values, all little-endian int64. A list of strings is its length, then
    for each string the number of its UTF-8 bytes (little-endian int64) and the bytes. Tags are the number of items, then
    for each item its tags as a list of strings.
    """
    digest = hashlib.sha256(FINGERPRINT_LAYOUT)

    def strings(values: Iterable[str]) -> bytes:
        coded = [value.encode() for value in values]
        return b"".join([struct.pack("<q", len(coded)), *(struct.pack("<q", len(text)) + text for text in coded)])

    def numbers(values: npt.NDArray[Any]) -> bytes:
        return struct.pack("<q", len(values)) + np.asarray(values).astype("<i8").tobytes()

    for names in (user_ids, catalogue.ids, catalogue.titles, catalogue.label_names):
        digest.update(strings(names))
    digest.update(numbers(catalogue.labels.offsets) + numbers(catalogue.labels.values))
    for tags in (catalogue.train_tags, catalogue.eval_tags):
        digest.update(struct.pack("<q", len(tags)) + b"".join(map(strings, tags)))
    for values in (events.offsets, events.values, train_end, valid_end):
        digest.update(numbers(values))
    return digest.hexdigest()
