"""The result of a run: a versioned shape that the command line prints, the board reads, and a stranger can check."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.atomic import atomic_write
from bench.cards import Information
from bench.errors import InputError, first_fault
from bench.statistics import Estimate

SCHEMA_VERSION = 1
SCHEMA_FILE = Path(__file__).parent / "schemas" / "result.schema.json"

Protocol = Literal["paper", "strict"]
Condition = Literal["none", "genre", "genres", "tag", "oracle", "free"]
Source = Literal["measured", "published", "submitted"]
Shape = TypeVar("Shape", bound=BaseModel)


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class MetricValue(_Shape):
    """A mean over n examples with its 95 % interval; null where it applies to none. `failed` of the n had no answer."""

    value: float | None
    low: float | None
    high: float | None
    n: int = Field(ge=0)
    failed: int = Field(ge=0)

    @classmethod
    def of(cls, estimate: Estimate) -> MetricValue:
        """From an estimate, NaN becoming null."""
        value, low, high = (
            None if math.isnan(number) else number for number in (estimate.value, estimate.low, estimate.high)
        )
        return cls(value=value, low=low, high=high, n=estimate.n, failed=estimate.failed)


class Health(_Shape):
    """What the harness took out of the rankings before scoring (places), and the examples with empty places (`short`)."""

    seen: int = 0
    duplicate: int = 0
    out_of_catalogue: int = 0
    short: int = 0


class Share(_Shape):
    """A share of n."""

    accuracy: float
    n: int


class RouterReport(_Shape):
    """How often the model's own reading of a prompt's polarity was right."""

    accuracy: float
    n: int
    by_polarity: dict[Literal["positive", "negative"], Share]


class Rate(_Shape):
    """`count` of `n`; the rate is null where n is 0."""

    count: int = Field(ge=0)
    n: int = Field(ge=0)
    rate: float | None

    @classmethod
    def of(cls, count: int, n: int) -> Rate:
        """From the two numbers."""
        return cls(count=count, n=n, rate=count / n if n else None)


class UsedLLM(_Shape):
    """The language model that a recommender asked, without any key, and the SHA-256 of its prompt templates."""

    name: str
    model: str
    engine: str
    api_base: str = ""
    parameters: dict[str, Any] = {}
    templates: dict[str, str] = {}


class AnswersReport(_Shape):
    """What a language model's answers were like, before anything was taken out of the rankings.

    `failures` counts the examples without a ranking by reason. `per_call` holds failed, unparseable, repaired and
    wrong-count answers of all `calls`; `per_entry` how the `entries` of the answers (titles, or numbers of candidates)
    were grounded (exact, normalised, embedding) and which were out of the catalogue, repeated or in the history.
    """

    examples: int
    failures: dict[str, int] = {}
    calls: int
    entries: int
    per_call: dict[str, Rate] = {}
    per_entry: dict[str, Rate] = {}


class Result(_Shape):
    """One run."""

    schema_version: Literal[1] = 1
    run: str
    task: str
    task_version: int
    model: str
    model_version: int
    dataset: str
    protocol: Protocol
    condition: Condition
    source: Source
    information: Information
    encoder: str | None = None
    llm: UsedLLM | None = None
    seed: int
    limit: int | None = None
    examples: int
    settings: dict[Literal["task", "model"], dict[str, Any]]
    dataset_fingerprint: str
    targets_digest: str
    prompts_digest: str | None = None
    metrics: dict[str, MetricValue]
    per_window: dict[str, dict[str, MetricValue]]
    health: Health
    router: RouterReport | None = None
    answers: AnswersReport | None = None
    judge: dict[str, Any] | None = None
    provenance: dict[str, Any]
    cost: dict[str, Any] = {}
    timing: dict[str, float] = {}
    parameters: int | None = Field(default=None, ge=0)

    def to_json(self) -> str:
        """One JSON document, indented, without NaN."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def write_result(path: Path, result: Result) -> None:
    """Write a result whole or not at all."""
    atomic_write(path, result.to_json())


def read_result(path: Path) -> Result:
    """Read a result.

    Raises:
        InputError: the file is absent, is no JSON, or a key of it is wrong; the message names file and key.
    """
    values = read_versioned(path, SCHEMA_VERSION, "the run is not finished; give its command again")
    return fitting(path, Result, values)


def read_versioned(path: Path, version: int, absent: str) -> Any:
    """The JSON document in a file whose `schema_version` is at most `version`.

    Raises:
        InputError: the file is absent (`absent` says why, or what to do), is no JSON, or is of a newer version.
    """
    try:
        values = json.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {absent}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable as JSON: {error}") from None
    newer = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(newer, int) and newer > version:
        raise InputError(f"{path} has schema version {newer}, this is {version}: upgrade promptrec-bench.")
    return values


def fitting(path: Path, shape: type[Shape], values: Any) -> Shape:
    """The values of a file as a shape.

    Raises:
        InputError: a key is wrong; the message names file and key.
    """
    try:
        return shape.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error, 'the document')}.") from None


def schema() -> str:
    """The JSON Schema of a result, as kept in `bench/schemas/result.schema.json`."""
    return json.dumps(Result.model_json_schema(), indent=2, sort_keys=True) + "\n"
