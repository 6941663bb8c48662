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

OWN, LEAVE_ONE_OUT = "ratio", "loo"
FINGERPRINT_LAYOUT = b"promptrec-dataset-1\n"


@runtime_checkable
class DatasetEntry(Protocol):
    """A dataset as it is registered. An entry that can be downloaded also has `prepare(data_dir, progress) -> Path`; one with
    other splits than its own names them in `splits` and takes `split=` in `load` (the user writes NAME@SPLIT).
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
    """Folder of a downloaded dataset: `<cache>/datasets/<name>`, where BENCH_CACHE_DIR overrides `<cache>`."""
    override = os.environ.get("BENCH_CACHE_DIR")
    if override:
        return Path(override) / "datasets" / name
    from platformdirs import user_cache_path

    return user_cache_path("promptrec-bench") / "datasets" / name


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


def assemble(
    card: DatasetCard, items: Sequence[Item], user_ids: Sequence[str], events: Ragged, split: str = OWN
) -> Dataset:
    """Split every user's events and keep the items that occur in train.

    The split points are taken on the sequence as it was recorded. Then validation and test events of items absent from
    train are dropped and the points moved accordingly. Items keep the order of `items`; label names are sorted.

    Args:
        card: the dataset's card.
        items: the whole catalogue; `events` refers to its positions.
        user_ids: a name for each of the U rows of `events`.
        events: each user's item positions, oldest first.
        split: see `split_points`.

    Raises:
        InputError: no event is left in train.
    """
    train_end, valid_end = split_points(events.lengths, split)
    users = np.repeat(np.arange(len(events)), events.lengths)
    place = np.arange(len(events.values)) - events.offsets[users]
    in_train = place < train_end[users]
    known = np.zeros(len(items), bool)
    known[events.values[in_train]] = True
    if not known.any():
        raise InputError(f"dataset {card.name!r} has no train event: every user has fewer than two events.")
    index = np.where(known, known.cumsum() - 1, NO_ITEM).astype(np.int32)
    keep = known[events.values]

    def kept(condition: npt.NDArray[np.bool_]) -> Longs:
        return np.bincount(users[keep & condition], minlength=len(events)).astype(np.int64)

    lengths = kept(np.ones(len(users), bool))
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    catalogue = _catalogue([items[position] for position in np.flatnonzero(known).tolist()])
    rows = Ragged(offsets, index[events.values[keep]])
    train_end, valid_end = kept(in_train), kept(place < valid_end[users])
    mark = fingerprint(catalogue, user_ids, rows, train_end, valid_end)
    return Dataset(card, catalogue, tuple(user_ids), rows, train_end, valid_end, mark)


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
