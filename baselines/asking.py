"""What recommenders that ask a language model share: the model lent to them, the catalogue's words, and the accounts."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.contracts import NO_ITEM, Dataset, Ints, Ranking
from bench.language import CALLS, ENTRIES, FAILURE, OF_CALLS, OF_ENTRIES, PREFIX, SUMS
from bench.llm.contracts import Answer, Failure
from tasks.domains import DOMAINS

CATALOGUE = "catalogue.json"
# These prompts have always said "films"; everything else is called what it is called elsewhere.
THINGS = {name: words.things for name, words in DOMAINS.items()} | {"film": "films"}


@dataclass(frozen=True)
class ItemWords:
    """What prompts say of the catalogue: titles and labels (one string an item), and what its items are called."""

    titles: tuple[str, ...]
    labels: tuple[str, ...]
    things: str

    @classmethod
    def of(cls, dataset: Dataset) -> ItemWords:
        """Those of a dataset."""
        catalogue = dataset.catalogue
        names = catalogue.label_names
        labels = tuple(", ".join(names[label] for label in catalogue.labels[v]) for v in range(len(catalogue)))
        return cls(catalogue.titles, labels, THINGS[dataset.card.domain])

    def save(self, directory: Path) -> None:
        """Write `catalogue.json`."""
        (directory / CATALOGUE).write_text(json.dumps(asdict(self), ensure_ascii=False), "utf-8")

    @classmethod
    def load(cls, directory: Path) -> ItemWords:
        """Read what `save` wrote."""
        kept = json.loads((directory / CATALOGUE).read_text("utf-8"))
        return cls(tuple(kept["titles"]), tuple(kept["labels"]), kept["things"])


class Accounts:
    """Counts and sums of a batch's examples, for `Ranking.extras` (see `bench.language`).

    Args:
        rows: B, the examples.
        entries: which of `bench.language.OF_ENTRIES` the recommender counts.
    """

    def __init__(self, rows: int, entries: tuple[str, ...]) -> None:
        unknown = set(entries) - set(OF_ENTRIES)
        if unknown:
            raise ValueError(f"the harness reports no {sorted(unknown)}")
        names = [CALLS, ENTRIES, *(PREFIX + each for each in (*OF_CALLS, *entries))]
        self.counts: dict[str, npt.NDArray[np.int32]] = {name: np.zeros(rows, np.int32) for name in names}
        self.sums = {name: np.zeros(rows) for name in SUMS}
        self.failure = ["" for _ in range(rows)]

    def call(self, row: int, answer: Answer) -> None:
        """Account for one call: its tokens and price, whether it failed, whether it was repaired."""
        self.counts[CALLS][row] += 1
        for name in SUMS:
            spent = getattr(answer.usage, name)
            if spent is not None or answer.ok:
                self.sums[name][row] += math.nan if spent is None else spent
        if answer.failure is Failure.UNPARSEABLE:
            self.add(row, unparseable=1)
        elif answer.failure is not None:
            self.add(row, failed_calls=1)
        elif answer.repaired:
            self.add(row, repaired=1)

    def add(self, row: int, **counts: int) -> None:
        """Add to counts of calls or entries, by their names in `bench.language` (`entries` for the number of those)."""
        for name, count in counts.items():
            self.counts[PREFIX + name][row] += count

    def fail(self, row: int, failure: Failure) -> None:
        """The example has no ranking; the first reason stands."""
        self.failure[row] = self.failure[row] or str(failure)

    def has_failed(self, row: int) -> bool:
        """Whether the example has no ranking."""
        return bool(self.failure[row])

    def ranking(self, lists: list[list[int]], k: int, **extras: npt.NDArray[Any]) -> Ranking:
        """The lists as a ranking of k places, best first; those of failed examples stay empty."""
        items: Ints = np.full((len(lists), k), NO_ITEM, np.int32)
        for row, best in enumerate(lists):
            if not self.has_failed(row):
                items[row, : min(k, len(best))] = best[:k]
        scores = np.where(items == NO_ITEM, -np.inf, -np.arange(k)[None]).astype(np.float32)
        sums = {PREFIX + name: values for name, values in self.sums.items()}
        failure = np.asarray(self.failure, str)
        return Ranking(items, scores, failure != "", {**self.counts, **sums, FAILURE: failure, **extras})
