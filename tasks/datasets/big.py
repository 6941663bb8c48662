"""What datasets share that are read from large files: prepared once, memory-mapped, split on demand."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from bench.cards import DatasetCard
from bench.contracts import Dataset, Progress
from tasks.datasets.base import GLOBAL, LEAVE_ONE_OUT, OWN, cache_dir, cache_root
from tasks.datasets.event_log import EventLog
from tasks.datasets.prepared import Prepared, Source
from tasks.datasets.tags import find_tags, with_tags
from tasks.statistics import dataset_statistics


class BigDataset:
    """Base of such datasets. A subclass says which files there are (`source`) and what is in them (`read`).

    Where the folder with the files has tags (`tags.jsonl`), they are the dataset's.

    `variants` are the keywords of `source` and the values that each takes; the first of them is the default.
    """

    card: ClassVar[DatasetCard]
    splits: ClassVar[tuple[str, ...]] = (LEAVE_ONE_OUT, GLOBAL)
    variants: ClassVar[dict[str, tuple[str, ...]]] = {}
    statistics = staticmethod(dataset_statistics)

    def source(self, data_dir: Path | None, **reading: str) -> Source:
        """The files in a folder, or in the place the dataset documents where that is None.

        Raises:
            InputError: a file is missing.
        """
        raise NotImplementedError

    def read(self, source: Source, progress: Progress | None = None) -> EventLog:
        """The events of the files.

        Raises:
            InputError: something in them is wrong; the message names the file and the line.
        """
        raise NotImplementedError

    def described(self, source: Source) -> DatasetCard:
        """The card of what a source holds."""
        return self.card

    def load(
        self, data_dir: Path | None, progress: Progress | None = None, *, split: str = OWN, **reading: str
    ) -> Dataset:
        """The dataset, prepared where it is not yet; arrays lie in memory-mapped files.

        Args:
            data_dir: folder with the files.
            progress: told of the preparation.
            split: "ratio", "loo" or "global".
            reading: values of `variants`.

        Raises:
            InputError: the files are missing or wrong, or there is no space to prepare them.
        """
        source = self.source(data_dir, **reading)
        prepared = Prepared(cache_root() / "prepared", source)
        read = prepared.dataset(lambda: self.read(source, progress), self.described(source), split, progress)
        return with_tags(read, find_tags(self.card.name, data_dir))

    def prepare(self, data_dir: Path | None, progress: Progress | None = None, **reading: str) -> Path:
        """Make sure that the files are there, and say where. Reading them is part of the first `load`."""
        self.source(data_dir, **reading)
        return cache_dir(self.card.name) if data_dir is None else data_dir

    def counts(self, data_dir: Path | None, progress: Progress | None = None, **reading: str) -> dict[str, Any]:
        """What other ways of thinning leave (see `core_counts`); prepares the data where they are not yet."""
        source = self.source(data_dir, **reading)
        prepared = Prepared(cache_root() / "prepared", source)
        prepared.log(lambda: self.read(source, progress), progress)
        found: dict[str, Any] = prepared.about()["counts"]
        return found
