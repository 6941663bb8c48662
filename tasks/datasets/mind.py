"""MIND: clicks on news, one sequence a user, thinned to the 20-core of the published tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bench.cards import DatasetCard
from bench.contracts import Longs, Progress
from bench.errors import InputError
from tasks.datasets.base import cache_dir
from tasks.datasets.big import BigDataset
from tasks.datasets.event_log import EventLog, UserCodes, first_of_pairs, pack
from tasks.datasets.mind_files import BEHAVIORS, NEWS, Clicks, history_events, read_behaviors, read_news
from tasks.datasets.prepared import Source

if TYPE_CHECKING:
    import polars as pl

CORE = 20
# The parts of the publication and what their folders are called, with and without the release's name.
PARTS = ("train", "dev", "test")
RELEASES = ("", "MINDlarge_", "MINDsmall_", "MINDdemo_")
READINGS = {"train-and-dev": ("train", "dev"), "train-only": ("train",), "with-test": PARTS}
# Table 5 of the paper.
PAPER = {"users": 265_016, "items": 21_901, "events": 12_376_034}


class MIND(BigDataset):
    """MIND from its published layout.

    A user's sequence is the longest history that an impression shows, then the clicked news by time (clicks of one impression
    in the order of the file: the publication shuffled it). The first of several clicks on one item is kept. Then users and
    items with fewer than 20 events are removed until none is left. The label is the category, or the subcategory with
    `mind@subcategory`; the text is title, label and abstract.

    Histories carry no times. By the publication those of train and dev are of the four weeks before the log begins, so they
    get the moment at which it begins, and those of test that of their own log; never later than what follows them.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="mind",
        summary=(
            "MIND: clicks on news (train and dev part), 20-core, category as label; 8:1:1 in time per user. "
            "Published with 265,016 users, 21,901 items, 12,376,034 events."
        ),
        citation=(
            "F. Wu, Y. Qiao, J.-H. Chen, C. Wu, T. Qi, J. Lian, D. Liu, X. Xie, J. Gao, W. Wu, M. Zhou. MIND: A Large-scale "
            "Dataset for News Recommendation. ACL 2020, 3597-3606."
        ),
        licence="Microsoft Research License Terms: research use, no redistribution; to be accepted before the download.",
        domain="news",
        source="https://msnews.github.io/",
        windows=(3, 5),
    )
    variants: ClassVar[dict[str, tuple[str, ...]]] = {
        "label": ("category", "subcategory"),
        "parts": tuple(READINGS),
    }

    def source(self, data_dir: Path | None, **reading: str) -> Source:
        """The files of the `parts` that are read, and which `label` is taken."""
        label, parts = (reading.get(key, words[0]) for key, words in self.variants.items())
        folders = part_folders(data_dir, READINGS[parts])
        files = tuple(folder / name for folder in folders for name in (BEHAVIORS, NEWS))
        return Source(self.card.name, files, {"label": label, "parts": READINGS[parts], "core": CORE})

    def read(self, source: Source, progress: Progress | None = None) -> EventLog:
        """All parts, in bounded memory: blocks of text, then numbers."""
        folders = [path.parent for path in source.files if path.name == NEWS]
        news = read_news(folders, source.reading["label"])
        users = UserCodes()
        read = [
            read_behaviors(folder / BEHAVIORS, part != "test", news, users, progress)
            for folder, part in zip(folders, source.reading["parts"], strict=True)
        ]
        if progress is not None:
            progress.note(f"ordering and thinning the events of {self.card.name}")
        table = users.table()
        return pack(sequences(read, folders, news, table), news, table["user"], CORE, compare=True)

    @staticmethod
    def generate(out: Path, users: int, seed: int = 0, progress: Progress | None = None) -> Path:
        """Made-up data in MIND's layout (see `tasks.datasets.generate`)."""
        from tasks.datasets.generate import generate, write_mind

        return generate(write_mind, out, users, seed, progress)

    def against_paper(self, data_dir: Path | None, progress: Progress | None = None) -> dict[str, Any]:
        """What each defensible way of preparing the data leaves, beside Table 5 of the paper, and which comes nearest.

        Ways are the parts that are read (those that the folder has) times what "20-core" means (see `core_counts`). Distance
        is the mean of the absolute relative differences of users, items and events.
        """
        ways: dict[str, dict[str, float]] = {}
        for reading, names in READINGS.items():
            try:
                part_folders(data_dir, names)
            except InputError:
                continue
            for core, counts in self.counts(data_dir, progress, parts=reading).items():
                gap = float(np.mean([abs(counts[key] - PAPER[key]) / PAPER[key] for key in PAPER]))
                ways[f"{reading}, {core}"] = {**counts, "gap": round(gap, 4)}
        nearest = min(ways, key=lambda name: ways[name]["gap"])
        events, users, items = PAPER["events"], PAPER["users"], PAPER["items"]
        published = {**PAPER, "mean_length": events / users, "density": events / users / items}
        return {"published": published, "variants": ways, "nearest": nearest}


def part_folders(data_dir: Path | None, parts: tuple[str, ...]) -> list[Path]:
    """The folders of some parts: `DIR/train`, `DIR/MINDlarge_train` or `DIR/MINDsmall_train`, and so on.

    Raises:
        InputError: a part or one of its files is missing.
    """
    root = cache_dir("mind") if data_dir is None else data_dir
    if data_dir is None and not root.is_dir():
        raise InputError(
            "MIND has to be fetched by hand, since its terms are to be accepted first (https://msnews.github.io/): unpack "
            "MINDlarge_train.zip and MINDlarge_dev.zip into one folder each and name the folder above with `--data-dir DIR`."
        )
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: `--data-dir DIR` must name the one with MIND's parts in it.")
    for release in RELEASES:
        folders = [root / f"{release}{part}" for part in parts]
        if folders[0].is_dir():
            break
    for folder in folders:
        for name in (BEHAVIORS, NEWS):
            if not (folder / name).is_file():
                raise InputError(
                    f"{folder / name} is missing: `--data-dir DIR` must name the folder with {', '.join(parts)} (or "
                    f"MINDlarge_{parts[0]} and so on) in it, each with {BEHAVIORS} and {NEWS}."
                )
    return folders


def sequences(read: list[Clicks], folders: list[Path], news: pl.DataFrame, users: pl.DataFrame) -> pl.DataFrame:
    """Every user's events in order, each item once: `row` (of `users`), `item`, `time`.

    The longest history of all parts comes first (the earlier part's where two are equally long), then clicks by time. What is
    in the history and was clicked as well happened no later than the click.
    """
    import polars as pl

    labelled = [part.begins for part in read[:2]]
    begins = [min(labelled) if number < 2 else part.begins for number, part in enumerate(read)]
    best = pl.concat(
        part.histories.with_columns(pl.lit(begin).alias("time"), pl.lit(number).alias("part"))
        for number, (part, begin) in enumerate(zip(read, begins, strict=True))
    )
    best = best.sort("n", descending=True, maintain_order=True).unique("code", keep="first", maintain_order=True)
    rows = users.select("code", "row")
    parts = []
    for number, folder in enumerate(folders):
        mine = best.filter((pl.col("part") == number) & (pl.col("n") > 0))
        loose = history_events(mine, news, folder / BEHAVIORS).join(
            mine.select("code", "time"), on="code", maintain_order="left"
        )
        parts.append(loose.with_columns(pl.lit(0, pl.Int8).alias("kind")))
    parts += [
        part.clicked.select("code", "item", "time").with_columns(pl.lit(1, pl.Int8).alias("kind")) for part in read
    ]
    frame = pl.concat(part.select("code", "item", pl.col("time").cast(pl.Int64), "kind") for part in parts)
    frame = frame.join(rows, on="code", maintain_order="left").select("row", "item", "time", "kind")
    frame = frame.sort("row", "kind", "time", maintain_order=True).drop("kind")
    first = pl.Series(first_of_pairs(frame["row"].to_numpy(), frame["item"].to_numpy(), len(news)))
    again = frame.filter(~first).group_by("row", "item").agg(pl.col("time").min().alias("again"))
    frame = frame.filter(first).join(again, on=["row", "item"], how="left", maintain_order="left")
    frame = frame.with_columns(pl.min_horizontal("time", "again"))
    return frame.select(
        "row", "item", pl.Series("time", never_falling(frame["row"].to_numpy(), frame["time"].to_numpy()))
    )


def never_falling(row: Any, times: Longs) -> Longs:
    """Bounds on times, each lowered to the least of those after it in the same row: what comes earlier happened no later."""
    # Rows are shifted apart by more than any time, so that one running minimum from the end serves all of them.
    span = int(times.max() - times.min() + 1)
    shifted = times - times.min() + row.astype(np.int64) * span
    lowest = np.minimum.accumulate(shifted[::-1])[::-1]
    lowered: Longs = lowest - row.astype(np.int64) * span + times.min()
    return lowered
