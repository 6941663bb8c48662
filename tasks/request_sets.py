"""Request sets: what users asked for in their own words, frozen in a file, so that every model meets the same requests.

JSON lines. The first line is the header, `{"request_set": 1, "dataset": NAME, ...}`, with where the set comes from; each line
below it is one request, `{"user_id", "mode", "statement", "implied_intent"}`. Examples stand in the order of the lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bench.atomic import atomic_write
from bench.errors import InputError, first_fault
from bench.identity import digest
from bench.llm.quoting import LONGEST

MODES = ("mood", "plot", "occasion")
SHIPPED = "shipped"


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Origin(_Line):
    """The header: which dataset the users are from, and who wrote the requests and how.

    `source` is a sentence for people. Of a simulated set, `llm` is the language model without secrets, `templates` the
    SHA-256 of the prompt by file name, `asked` a digest of all that was asked, `seed` that of the draw of users, `history` how
    many last items the writer saw.
    """

    request_set: Literal[1] = 1
    dataset: str = Field(min_length=1)
    source: str = ""
    dataset_fingerprint: str | None = None
    llm: dict[str, Any] | None = None
    templates: dict[str, str] = {}
    asked: str | None = None
    seed: int | None = None
    history: int | None = None


class UserRequest(_Line):
    """What one user asks for, in one of three modes (Appendix B.4); `implied_intent` is never shown to a recommender."""

    user_id: str = Field(min_length=1)
    mode: Literal["mood", "plot", "occasion"]
    statement: str = Field(min_length=1, max_length=LONGEST)
    implied_intent: str = ""

    @field_validator("user_id", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        # MovieLens numbers its users, and files carry the numbers as such.
        return str(value) if type(value) is int else value


@dataclass(frozen=True)
class RequestSet:
    """A header and its requests."""

    origin: Origin
    requests: tuple[UserRequest, ...]

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the requests in order. The header is not in it: it changes no question."""
        return digest([request.model_dump() for request in self.requests])


def read_request_set(name: str, dataset: str) -> RequestSet:
    """The requests for a dataset.

    Args:
        name: a file, or "shipped" for the set that comes with the package.
        dataset: registered name of the dataset that the users must be of.

    Raises:
        InputError: none is shipped for the dataset, or the file is missing, malformed or for another dataset; the message
            names the file and the line.
    """
    if name != SHIPPED:
        return parse_request_set(_text(Path(name)), name, dataset)
    shipped = files("tasks.datasets").joinpath("data", f"{dataset}-requests.jsonl")
    if not shipped.is_file():
        raise InputError(
            f"no request set is shipped for dataset {dataset!r}: write one with `bench simulate --dataset {dataset} --llm NAME "
            "--llm-config FILE` and name it with --set task.requests=FILE."
        )
    return parse_request_set(shipped.read_text("utf-8"), shipped.name, dataset)


def parse_request_set(text: str, name: str, dataset: str) -> RequestSet:
    """The requests in the text of a file; `name` is what errors call it, `dataset` what it must be for.

    Raises:
        InputError: as `read_request_set`.
    """
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise InputError(f"{name} is empty: a request set begins with a line such as {_header(dataset)}.")
    origin = _parse_header(lines[0], name, dataset)
    requests: dict[tuple[str, str], UserRequest] = {}
    for number, line in lines[1:]:
        request = UserRequest.model_validate(_checked(UserRequest, number, line, name))
        key = request.user_id, request.mode
        if key in requests:
            raise InputError(
                f"{name}, line {number}: user {key[0]!r} has a second {key[1]} request; expected one of each mode."
            )
        requests[key] = request
    if not requests:
        raise InputError(f"{name} has a header and no request.")
    return RequestSet(origin, tuple(requests.values()))


def write_request_set(path: Path, origin: Origin, requests: Iterable[UserRequest]) -> None:
    """Write a set, whole or not at all."""
    rows = [{"request_set": origin.request_set} | origin.model_dump(exclude_defaults=True)]
    rows += [request.model_dump() for request in requests]
    atomic_write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _parse_header(first: tuple[int, str], name: str, dataset: str) -> Origin:
    number, line = first
    if '"request_set"' not in line:
        raise InputError(
            f"{name}, line {number}: expected the header of a request set, such as {_header(dataset)}; found {_short(line)}."
        )
    origin = Origin.model_validate(_checked(Origin, number, line, name))
    if origin.dataset != dataset:
        raise InputError(
            f"{name} has requests of users of dataset {origin.dataset!r}, not of {dataset!r}: run it on that one."
        )
    return origin


def _checked(shape: type[_Line], number: int, line: str, name: str) -> dict[str, Any]:
    """The values of a line that fits a shape."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(f"{name}, line {number}: not JSON: {_short(line)}.") from None
    try:
        return shape.model_validate(values).model_dump()
    except ValidationError as error:
        fault = first_fault(error, "the line")
        raise InputError(f"{name}, line {number}: {fault} (the line is {_short(line)}).") from None


def _header(dataset: str) -> str:
    return json.dumps({"request_set": 1, "dataset": dataset})


def _short(line: str) -> str:
    return repr(line if len(line) <= 80 else line[:77] + "...")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text: expected the JSON lines of a request set.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
