"""The file of judgements: what a language model said of items under requests, from 0 to 10; data that a fit reads.

JSON lines. The first line is the header, `{"judgements": 1, "dataset": NAME, ...}`, with who judged and how the requests were
drawn; each line below it is one request with the ids of its items and their scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.atomic import atomic_write
from bench.contracts import Dataset
from bench.errors import InputError, first_fault
from bench.identity import digest

HIGHEST = 10
Shape = TypeVar("Shape", bound=BaseModel)
Score = Annotated[int, Field(ge=0, le=HIGHEST, strict=True)]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class About(_Line):
    """The header. `seed` and `per_set` draw the requests again, `base` is the model whose items were among the judged."""

    judgements: Literal[1] = 1
    dataset: str = Field(min_length=1)
    seed: int = Field(0, ge=0)
    per_set: int = Field(4, ge=1)
    base: str = ""
    llm: dict[str, Any] | None = None
    templates: dict[str, str] = {}
    asked: str | None = None


class Judgement(_Line):
    """One request, the ids of the items that were judged under it, and their scores; `held_out` ones are not learned from."""

    request: str = Field(min_length=1)
    kind: Literal["label", "labels", "tag", "free"]
    polarity: Literal[1, -1] = 1
    held_out: bool
    items: tuple[str, ...] = Field(min_length=1)
    scores: tuple[Score, ...]

    @model_validator(mode="after")
    def _fits(self) -> Judgement:
        if len(self.items) != len(self.scores) or len(set(self.items)) != len(self.items):
            raise ValueError(f"{len(self.items)} items, each once, and {len(self.scores)} scores do not fit together")
        return self


@dataclass(frozen=True)
class JudgementFile:
    """Header and judgements; `name` is what errors call the file."""

    name: str
    about: About
    judgements: tuple[Judgement, ...]

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the judgements in order and of what draws the requests; who judged changes no training."""
        drawn = {"seed": self.about.seed, "per_set": self.about.per_set}
        return digest({**drawn, "judgements": [each.model_dump() for each in self.judgements]})

    def check(self, dataset: Dataset, expected: str) -> None:
        """Refuse what is not for a dataset, or not the file of a digest.

        Raises:
            InputError: the file is for another dataset, names an item that this one lacks, or has another digest.
        """
        if self.about.dataset != dataset.name:
            raise InputError(f"{self.name} has judgements on dataset {self.about.dataset!r}, not on {dataset.name!r}.")
        known = set(dataset.catalogue.ids)
        for number, each in enumerate(self.judgements, 2):
            missing = next((item for item in each.items if item not in known), None)
            if missing is not None:
                raise InputError(f"{self.name}, line {number}: dataset {dataset.name!r} has no item {missing!r}.")
        if expected and self.digest != expected:
            raise InputError(
                f"{self.name} has digest {self.digest[:12]}, expected {expected[:12]}: these are not the judgements that were meant."
            )


def read_judgements(path: Path) -> JudgementFile:
    """The judgements of a file.

    Raises:
        InputError: the file is missing or malformed; the message names the file and the line.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text: expected the JSON lines of `bench augment judgements`.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    if not lines or '"judgements"' not in lines[0]:
        raise InputError(f'{path}, line 1: expected a header such as {{"judgements": 1, "dataset": NAME, ...}}.')
    about = _parsed(About, lines[0], path, 1)
    rows = tuple(_parsed(Judgement, line, path, number) for number, line in enumerate(lines[1:], 2) if line.strip())
    if not rows:
        raise InputError(f"{path} has a header and no judgement.")
    return JudgementFile(str(path), about, rows)


def write_judgements(path: Path, about: About, judgements: Iterable[Judgement]) -> None:
    """Write a file, whole or not at all."""
    rows = [{"judgements": about.judgements} | about.model_dump(), *(each.model_dump() for each in judgements)]
    atomic_write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _parsed(shape: type[Shape], line: str, path: Path, number: int) -> Shape:
    try:
        return shape.model_validate_json(line)
    except ValidationError as error:
        raise InputError(f"{path}, line {number}: {first_fault(error, 'the line')}.") from None
