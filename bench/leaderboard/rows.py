"""The board's shape: what `leaderboard.json` holds, read and written so that a diff of two boards shows what changed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bench.atomic import atomic_write
from bench.cards import Information
from bench.errors import InputError
from bench.results import AnswersReport, Condition, Health, Protocol, RouterReport, Source, fitting, read_versioned

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
SCHEMA_FILE = Path(__file__).parents[1] / "schemas" / "leaderboard.schema.json"
FILE = "leaderboard.json"
# The page is one folder beside the file; examples lie in it, so that it can be carried away whole.
FOLDER, EXAMPLES = "leaderboard", "examples"
# A name that leads out of the folder is no name.
EXAMPLES_FILE = re.compile(r"examples/[\w+-][\w.+-]*\.json")
MAX_ROWS = 100_000
# The document, its rows, their fields, and within these the metrics.
LINES_TO = 4
ONE_LINE = json.JSONEncoder(sort_keys=True, allow_nan=False, ensure_ascii=False).encode


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Metric(_Shape):
    """A mean over n examples with its 95 % interval; n, failed and the interval are null where only a value is known."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = Field(default=None, ge=0)
    failed: int | None = Field(default=None, ge=0)


class AskedLLM(_Shape):
    """The language model that a system asked."""

    name: str
    model: str
    engine: str


class Contamination(_Shape):
    """What `bench probe contamination` found of the language model on the dataset: `mark` says that it knows it by heart."""

    mark: bool
    rule: str
    probe: str


class Cost(_Shape):
    """US dollars and tokens for all answers of the run; the price is 0 where nobody is paid, null where it is unknown."""

    price: float | None = None
    price_per_1000: float | None = None
    calls: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Latency(_Shape):
    """Milliseconds of a request at the 50th and 95th percentile, and how they were taken.

    `of` is "request" where a model was asked one request at a time, "call" for the calls of a language model (a request may
    take several), and "batch" where every request is charged its share of a batch of up to `batch`: a user would wait for
    the whole of it.
    """

    p50_ms: float = Field(ge=0)
    p95_ms: float = Field(ge=0)
    of: Literal["request", "call", "batch"]
    batch: int | None = Field(default=None, ge=1)


class Training(_Shape):
    """Wall time of fitting the model and the models that it stands on, and where."""

    seconds: float = Field(ge=0)
    device: str | None = None


class Origin(_Shape):
    """Code and machine behind a measured row."""

    version: str | None = None
    commit: str | None = None
    dirty: bool | None = None
    python: str | None = None
    torch: str | None = None
    cpu: str | None = None
    cores: int | None = None
    gpu: str | None = None


class Erratum(_Shape):
    """A printed value that contradicts others: `shown` is what the row holds in its place (the printed one if null)."""

    table: int
    metric: str
    window: str
    printed: float
    shown: float | None
    text: str


class Printed(_Shape):
    """Where a published row stands in the paper; `otherwise` are cells of further tables that print another value."""

    label: str
    tables: list[int]
    errata: list[Erratum] = []
    otherwise: list[Erratum] = []


class Submission(_Shape):
    """The archive that a submitted row comes from."""

    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class JudgedBy(_Shape):
    """Who scored the lists of a judged row: results of one `identity` are comparable; `failures` of its verdicts gave none."""

    name: str
    identity: str
    is_llm: bool | None = None
    llm: str | None = None
    verdicts: int | None = None
    failures: int | None = None


class Row(_Shape):
    """One system on one task under one protocol and condition, with one seed.

    `system` is equal for rows that differ in their seed alone. `variant` are the settings that tell the row from others
    of the same model. A published row has no run, seed, fingerprint or intervals.
    """

    id: str
    source: Source
    run: str | None = None
    task: str
    task_version: int | None = None
    model: str
    model_version: int | None = None
    variant: dict[str, Any] = {}
    system: str
    dataset: str
    dataset_fingerprint: str | None = None
    targets_digest: str | None = None
    protocol: Protocol
    condition: Condition
    information: Information
    windows: list[int] = []
    seed: int | None = None
    examples: int | None = None
    settings: dict[Literal["task", "model"], dict[str, Any]] = {}
    encoder: str | None = None
    llm: AskedLLM | None = None
    judge: JudgedBy | None = None
    contamination: Contamination | None = None
    metrics: dict[str, Metric]
    per_window: dict[str, dict[str, Metric]] = {}
    health: Health | None = None
    router: RouterReport | None = None
    answers: AnswersReport | None = None
    cost: Cost = Cost()
    latency: Latency | None = None
    training: Training | None = None
    parameters: int | None = Field(default=None, ge=0)
    provenance: Origin | None = None
    published: Printed | None = None
    submission: Submission | None = None
    examples_file: str | None = None


class Spread(_Shape):
    """A metric over seeds: mean, sample standard deviation, smallest and largest."""

    mean: float
    sd: float
    smallest: float
    largest: float


class Test(_Shape):
    """A difference (this system minus the other) with its 95 % interval; p before and after Holm's correction over the systems
    that were tested together. It is paired over users on all seeds that both systems have, or by the intervals of both where
    either is not `Place.paired` or they share no seed.
    """

    other: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


class Place(_Shape):
    """A system within its group. Those that share `rank` are not told apart from its best (`bench.statistics.tie_ranks`).

    `value` is the group's metric, the mean over the seeds. `against_best` is the test against the system with the largest
    value, `against_baseline` that against the group's baseline; both are null for that system itself. `paired` is false
    where the system's scores by example were not there when the board was built, or are not of the seeds and questions of the
    others, so that its rank and tests (and those of others against it) rest on intervals. Rank and tests are null where it
    has no interval either.
    """

    system: str
    rows: list[str]
    seeds: list[int]
    rank: int | None
    value: float | None
    spread: dict[str, Spread] = {}
    paired: bool = True
    against_best: Test | None = None
    against_baseline: Test | None = None


class Group(_Shape):
    """The systems that may be ranked against each other: same task, dataset, protocol, condition and judge.

    `beside` are rows to be read with them without a rank: the paper's, and of the same questions those of systems that
    hear no prompt or are told the truth behind it.
    """

    id: str
    task: str
    dataset: str
    dataset_fingerprint: str
    protocol: Protocol
    condition: Condition
    windows: list[int]
    judge: str | None
    metric: str
    baseline: str | None
    places: list[Place]
    beside: list[str]


class Board(_Shape):
    """The whole board."""

    schema_version: Literal[1] = 1
    rows: list[Row]
    groups: list[Group] = []

    def to_json(self) -> str:
        """One JSON document: keys sorted, a field (and a metric) a line, no NaN, no time of building."""
        return _laid_out(self.model_dump(mode="json"), 0) + "\n"

    def to_pandas(self) -> pd.DataFrame:
        """A row for every row, with its rank and a column for every headline metric."""
        from bench.notebook import board_frame

        return board_frame(self)

    def _repr_html_(self) -> str:
        from bench.notebook import board_html

        return board_html(self)


def write_board(path: Path, board: Board) -> None:
    """Write a board whole or not at all."""
    atomic_write(path, board.to_json())


def read_board(path: Path) -> Board:
    """Read a board.

    Raises:
        InputError: the file is absent, is no JSON, is of a newer version, or a key of it is wrong; file and key are named.
    """
    values = read_versioned(path, SCHEMA_VERSION, "make it with `bench leaderboard build`")
    rows = values.get("rows") if isinstance(values, dict) else None
    if isinstance(rows, list) and len(rows) > MAX_ROWS:
        raise InputError(f"{path} has {len(rows)} rows; a board holds at most {MAX_ROWS}.")
    return fitting(path, Board, values)


def _laid_out(value: Any, depth: int) -> str:
    """JSON with a line for every entry down to `LINES_TO`; what lies deeper is one line. Python's own is a line for every
    number, and ten times slower.
    """
    if depth >= LINES_TO or not isinstance(value, dict | list) or not value:
        return ONE_LINE(value)
    inner, outer = " " * (depth + 1), " " * depth
    if isinstance(value, list):
        return "[\n" + ",\n".join(inner + _laid_out(each, depth + 1) for each in value) + f"\n{outer}]"
    lines = (f"{inner}{ONE_LINE(key)}: {_laid_out(value[key], depth + 1)}" for key in sorted(value))
    return "{\n" + ",\n".join(lines) + f"\n{outer}}}"


def schema() -> str:
    """The JSON Schema of a board, as kept in `bench/schemas/leaderboard.schema.json`."""
    return json.dumps(Board.model_json_schema(), indent=2, sort_keys=True) + "\n"
