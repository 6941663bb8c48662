"""What the paper printed: every cell of Tables 1 to 4 and 6 to 10, with the cells that contradict others marked.

`published.jsonl` has one row a cell. `row` is the paper's name of the model within its table, `model` and `settings` are
ours, `gain` is the percentage printed beside the value (Tables 1, 6, 7: over the best Filter of the column; Tables 8, 10: over
the full model), and an erratum says what is wrong with the value; where the right
one follows from another table, it is given as `corrected`.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FILE = Path(__file__).with_name("published.jsonl")

Window = int | Literal["mean"]

# What holds for whole tables and not for single cells.
NOTES: dict[int, tuple[str, ...]] = {
    1: ("POS and NEG are means over N = 3, 5, 10 on ML-1M and over N = 3, 5 on MIND.",),
    3: ("The text speaks of K in {20, 30, 50, 100}; the table has 20 and 30 for Llama2, 20, 50 and 100 for DeepSeek.",),
    8: ("The cells are means over N, although the caption does not say so.",),
    9: ("The cells are means over N, although the caption does not say so.",),
    10: ("The cells are means over N, although the caption does not say so.",),
}


class Erratum(BaseModel):
    """What is wrong with a printed value; `corrected` is None where the right value cannot be told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = Field(min_length=1)
    corrected: float | None


class Published(BaseModel):
    """One printed cell. `window` is N, or "mean" for the mean over N (and for tasks without windows)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: int
    dataset: Literal["ml-1m", "mind"]
    task: Literal["seq", "pos", "neg", "nuanced"]
    backbone: Literal["sasrec", "gru4rec"] | None
    row: str
    model: str
    settings: dict[str, Any]
    window: Window
    metric: str
    value: float
    gain: float | None
    erratum: Erratum | None

    @property
    def best(self) -> float:
        """The corrected value where there is one, the printed one elsewhere."""
        corrected = None if self.erratum is None else self.erratum.corrected
        return self.value if corrected is None else corrected


Key = tuple[int, str, str, str | None, str, Window, str]


@cache
def cells() -> dict[Key, Published]:
    """Every printed cell by (table, dataset, task, backbone, row, window, metric), in the order of the file."""
    found: dict[Key, Published] = {}
    for line in FILE.read_text("utf-8").splitlines():
        cell = Published.model_validate(json.loads(line))
        key = (cell.table, cell.dataset, cell.task, cell.backbone, cell.row, cell.window, cell.metric)
        if key in found:
            raise ValueError(f"{FILE.name} has {key} twice")
        found[key] = cell
    return found


def look_up(
    table: int | None, dataset: str, task: str, backbone: str | None, row: str, window: Window, metric: str
) -> Published | None:
    """A printed cell, None where the paper has none (or `table` is None)."""
    return None if table is None else cells().get((table, dataset, task, backbone, row, window, metric))
