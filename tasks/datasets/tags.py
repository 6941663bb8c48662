"""Semantic tags of items: the file they lie in, where a dataset finds it, and how it is read and written.

JSON lines, `{"item_id", "train": [...], "eval": [...]}`; a first line without `item_id` is the header, which says who wrote
them. A dataset NAME reads `tags.jsonl` from the folder with its files; where there is none, those that the package ships for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bench.atomic import atomic_write
from bench.contracts import Dataset
from bench.errors import InputError, first_fault
from tasks.datasets.base import cache_dir, fingerprint

TAGS = "tags.jsonl"

# Item id to (train tags, eval tags).
Tags = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Authorship(_Line):
    """Which language model wrote something, with which prompts (SHA-256 by file name); `asked` is a digest of all requests."""

    llm: dict[str, Any]
    templates: dict[str, str]
    asked: str


class TagsHeader(_Line):
    """The header: whose tags, who wrote the train and the eval tags, and the measured share of shared content words."""

    tags: Literal[1] = 1
    dataset: str
    train: Authorship | None = None
    eval: Authorship | None = None
    overlap: float | None = None


class TagsLine(_Line):
    """The tags of one item; `eval` is empty until they are written."""

    item_id: str = Field(min_length=1)
    train: tuple[str, ...] = Field(min_length=1)
    eval: tuple[str, ...] = ()

    @field_validator("item_id", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if type(value) is int else value

    @field_validator("train", "eval")
    @classmethod
    def _said(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(tag.strip() for tag in value):
            raise ValueError("a tag is empty")
        return value


@dataclass(frozen=True)
class TagFile:
    """A file of tags; `header` is None where it has none."""

    header: TagsHeader | None
    tags: Tags


def find_tags(name: str, data_dir: Path | None) -> Tags:
    """The tags of a dataset: from the folder with its files, or those shipped for it, or none.

    Raises:
        InputError: the file there is malformed, or is another dataset's.
    """
    folder = cache_dir(name) if data_dir is None else data_dir
    for path in (folder / TAGS, folder / name / TAGS):
        if path.is_file():
            return read_tags(path, name).tags
    return shipped_tags(name)


def shipped_tags(name: str) -> Tags:
    """The tags that the package ships for a dataset; empty where it ships none."""
    path = files("tasks.datasets").joinpath("data", f"{name}-{TAGS}")
    return parse_tags(path.read_text("utf-8"), path.name, name).tags if path.is_file() else {}


def read_tags(path: Path, dataset: str) -> TagFile:
    """Read a file of tags.

    Raises:
        InputError: it cannot be read, a line is wrong, or it is another dataset's; the message names the file and the line.
    """
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text: expected JSON lines of tags.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    return parse_tags(text, str(path), dataset)


def parse_tags(text: str, name: str, dataset: str) -> TagFile:
    """The tags in the text of a file; `name` is what errors call it.

    Raises:
        InputError: as `read_tags`.
    """
    header, tags = None, Tags()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        first = not tags and header is None and '"item_id"' not in line
        try:
            row = (TagsHeader if first else TagsLine).model_validate_json(line)
        except ValidationError as error:
            raise InputError(f"{name}, line {number}: {first_fault(error, 'the line')}.") from None
        if isinstance(row, TagsHeader):
            header = row
            if row.dataset != dataset:
                raise InputError(f"{name} has tags of dataset {row.dataset!r}, not of {dataset!r}.")
            continue
        if row.item_id in tags:
            raise InputError(f"{name}, line {number}: item {row.item_id!r} stands there twice.")
        tags[row.item_id] = (row.train, row.eval)
    return TagFile(header, tags)


def write_tags(path: Path, header: TagsHeader, tags: Tags) -> None:
    """Write a file of tags, whole or not at all."""
    rows: Iterable[dict[str, Any]] = (
        {"item_id": item, "train": list(train), "eval": list(evaluation)} for item, (train, evaluation) in tags.items()
    )
    lines = [header.model_dump_json(exclude_none=True), *(json.dumps(row, ensure_ascii=False) for row in rows)]
    atomic_write(path, "".join(line + "\n" for line in lines))


def with_tags(dataset: Dataset, tags: Tags) -> Dataset:
    """A dataset with tags, its texts and fingerprint with them; the same dataset where there are none."""
    if not tags:
        return dataset
    catalogue = dataset.catalogue
    train, evaluation = zip(*(tags.get(item, ((), ())) for item in catalogue.ids), strict=True)
    texts = tuple(
        f"{text} {'; '.join(said)}." if said else text for text, said in zip(catalogue.texts, train, strict=True)
    )
    catalogue = replace(catalogue, texts=texts, train_tags=train, eval_tags=evaluation)
    mark = fingerprint(catalogue, dataset.user_ids, dataset.events, dataset.train_end, dataset.valid_end)
    return replace(dataset, catalogue=catalogue, fingerprint=mark)
