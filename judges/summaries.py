"""Summaries of items, as `bench augment summaries` writes them: JSON lines, a header and then one line an item."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import jsonlines

from bench.contracts import Dataset
from bench.errors import InputError
from bench.identity import digest

HEADER = "summaries"


def read_summaries(path: Path, dataset: Dataset) -> tuple[str, ...]:
    """The summary of every item, in the catalogue's order.

    Raises:
        InputError: the file cannot be read or is of another dataset, a line of it is no summary, or an item has none; the message
            names the file and the line.
    """
    found: dict[str, str] = {}
    for number, row in _rows(path):
        if HEADER in row:
            if row.get("dataset") not in (None, dataset.name):
                raise InputError(f"{path} has summaries of dataset {row['dataset']!r}, not of {dataset.name!r}.")
            continue
        if not isinstance(row.get("summary"), str) or not row["summary"].strip() or row.get("item_id") is None:
            raise InputError(f'{path}, line {number}: expected {{"item_id": ..., "summary": "..."}}.')
        found[str(row["item_id"])] = row["summary"]
    missing = [item for item in dataset.catalogue.ids if item not in found]
    if missing:
        raise InputError(
            f"{path} has no summary of {len(missing)} items, the first is {missing[0]!r}: write them as well."
        )
    return tuple(found[item] for item in dataset.catalogue.ids)


def digest_of(texts: tuple[str, ...]) -> str:
    """SHA-256 of the summaries in the catalogue's order."""
    return digest(list(texts))


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}.") from None
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append((number, jsonlines.Reader(io.StringIO(line)).read(type=dict)))
        except (jsonlines.InvalidLineError, EOFError):
            raise InputError(f"{path}, line {number}: not a JSON object.") from None
    return rows
