"""MIND's published files, read in blocks: `news.tsv` and `behaviors.tsv` of each part.

Source: https://github.com/msnews/msnews.github.io/blob/master/assets/doc/introduction.md; F. Wu et al. MIND: A Large-scale
Dataset for News Recommendation. ACL 2020.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.contracts import Progress
from bench.errors import InputError
from tasks.datasets.base import item_text
from tasks.datasets.blocks import Block, blocks, refuse, tab_frame
from tasks.datasets.event_log import UserCodes

if TYPE_CHECKING:
    import polars as pl

BEHAVIORS, NEWS = "behaviors.tsv", "news.tsv"
BEHAVIOR_COLUMNS = ("impression", "user", "time", "history", "shown")
NEWS_COLUMNS = ("id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
TIME_FORMAT = "%m/%d/%Y %I:%M:%S %p"
# A shown item is ID-1 (clicked) or ID-0; the test part, whose labels were not published, has bare ids.
LABELLED, BARE = r"\S+-[01]", r"\S+"
# How people call the categories whose names the files run together.
CATEGORY_WORDS = {
    "foodanddrink": "food and drink",
    "middleeast": "Middle East",
    "northamerica": "North America",
    "newscrime": "crime",
    "tv": "TV",
}


@dataclass(frozen=True)
class Clicks:
    """What one part says, all in order of its file.

    `histories` has for every user (`code`) the longest history as one text (`history`) and its length `n`; `clicked` a row for
    each click: `code`, `time` (seconds) and `item` (row of the news). `begins` is the second of the part's first impression.
    """

    histories: pl.DataFrame
    clicked: pl.DataFrame
    begins: int


def read_news(folders: Sequence[Path], label: str) -> pl.DataFrame:
    """The news of all parts, each once, in order of appearance: `id`, `title`, `text`, `labels`.

    Args:
        folders: of the parts.
        label: "category" or "subcategory", whose words become the one label of an item.

    Raises:
        InputError: a wrong line, an empty category or title, one id for two different news.
    """
    import polars as pl

    parts = [_news_part(folder / NEWS, label) for folder in folders]
    found = pl.concat(parts).unique(["id", "title", "label"], keep="first", maintain_order=True)
    again = found.filter(pl.col("id").is_duplicated())
    if len(again):
        first, second = again.filter(pl.col("id") == again["id"][0]).select("title", "label").rows()[:2]
        raise InputError(
            f"news {again['id'][0]!r} stands for different things in {NEWS} of {', '.join(map(str, folders))}: {first} and "
            f"{second}; the parts must be of one release."
        )
    texts = [
        item_text(title, (name,), (abstract,) if abstract else ())
        for title, name, abstract in found.select("title", "label", "abstract").iter_rows()
    ]
    return found.select("id", "title", pl.Series("text", texts), pl.concat_list("label").alias("labels"))


def _news_part(path: Path, label: str) -> pl.DataFrame:
    import polars as pl

    kept = []
    for block in blocks(path):
        frame = tab_frame(block, NEWS_COLUMNS).with_columns(
            pl.col("title", "category", "subcategory", "abstract").str.strip_chars()
        )
        for column in ("id", "title", label):
            refuse(block, frame[column] == "", f"the {column} is empty")
        words = pl.col(label).replace(CATEGORY_WORDS).str.replace_all(r"[_-]+", " ")
        kept.append(frame.select("id", "title", words.alias("label"), pl.col("abstract").str.strip_chars(".")))
    found = pl.concat(kept)
    twice = found.filter(found["id"].is_duplicated())["id"]
    if len(twice):
        raise InputError(f"{path}: news {twice[0]!r} stands there twice; expected one line an id.")
    return found


def read_behaviors(
    path: Path, labelled: bool, news: pl.DataFrame, users: UserCodes, progress: Progress | None = None
) -> Clicks:
    """One part's histories and clicks.

    Args:
        path: the part's behaviors.tsv.
        labelled: whether clicks are marked; in the test part they are not, so that only histories are taken.
        news: what `read_news` gave.
        users: learns the users' names.
        progress: shows the bytes.

    Raises:
        InputError: a wrong line: fields, user, time (wrong, or in the future), candidates, an id that the news lack.
    """
    import polars as pl

    advance = None if progress is None else progress.track(f"reading {path}", path.stat().st_size)
    ids = news.select("id", pl.int_range(pl.len(), dtype=pl.Int32).alias("item"))
    longest = _Longest()
    clicked, begins = [], None
    for block in blocks(path, advance):
        frame = _checked(block, labelled)
        frame = frame.with_columns(users.encode(frame["user"]))
        longest.add(frame.select("code", "history"))
        if labelled:
            clicked.append(_clicked(block, frame, ids))
        first = int(frame["time"].min())  # type: ignore[arg-type]  # a block has a line, and every line a time
        begins = first if begins is None else min(begins, first)
    assert begins is not None, "an empty file is refused"
    empty = {"code": pl.UInt64, "time": pl.Int64, "item": pl.Int32}
    return Clicks(longest.frame(), pl.concat(clicked) if clicked else pl.DataFrame(schema=empty), begins)


def history_events(histories: pl.DataFrame, news: pl.DataFrame, path: Path) -> pl.DataFrame:
    """The items of histories, user by user and oldest first: `code`, `item`.

    Raises:
        InputError: an id that the news lack.
    """
    import polars as pl

    ids = news.select("id", pl.int_range(pl.len(), dtype=pl.Int32).alias("item"))
    parts = []
    # A few users at a time: the texts of all histories at once would be the largest thing in memory.
    for start in range(0, len(histories), 50_000):
        piece = histories[start : start + 50_000]
        loose = piece.select("code", pl.col("history").str.split(" ").alias("id")).explode("id")
        loose = loose.filter(pl.col("id") != "").join(ids, on="id", how="left", maintain_order="left")
        unknown = loose.filter(pl.col("item").is_null())["id"]
        if len(unknown):
            raise InputError(f"{path}: a history names {unknown[0]!r}, which {NEWS} does not have.")
        parts.append(loose.select("code", "item"))
    return pl.concat(parts) if parts else pl.DataFrame(schema={"code": pl.UInt64, "item": pl.Int32})


def _checked(block: Block, labelled: bool) -> pl.DataFrame:
    """A block's lines with `user`, `time` in seconds, `history` and `shown`."""
    frame = tab_frame(block, BEHAVIOR_COLUMNS)
    refuse(block, frame["user"].str.strip_chars() == "", "the user is empty")
    moment = frame["time"].str.to_datetime(TIME_FORMAT, strict=False).dt.epoch("s")
    refuse(block, moment.is_null(), "the time must read like 11/15/2019 8:55:22 AM")
    refuse(block, moment > time.time(), "the time lies in the future")
    shown = frame["shown"].str.strip_chars()
    refuse(block, shown == "", "no news was shown")
    well = shown.str.count_matches(LABELLED if labelled else BARE) == shown.str.count_matches(" ", literal=True) + 1
    refuse(
        block, ~well, "what was shown must read like N1-0 N2-1" if labelled else "what was shown must read like N1 N2"
    )
    return frame.select("user", moment.alias("time"), "history", shown.alias("shown"))


def _clicked(block: Block, frame: pl.DataFrame, ids: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    marked = frame.with_row_index("line").select(
        "line", "code", "time", pl.col("shown").str.extract_all(r"\S+-1(?: |$)").alias("id")
    )
    loose = marked.filter(pl.col("id").list.len() > 0).explode("id")
    loose = loose.with_columns(pl.col("id").str.strip_chars_end(" ").str.strip_suffix("-1"))
    joined = loose.join(ids, on="id", how="left", maintain_order="left")
    unknown = joined.filter(pl.col("item").is_null())
    if len(unknown):
        raise block.wrong(int(unknown["line"][0]), f"{NEWS} does not have the clicked {unknown['id'][0]!r}")
    return joined.select("code", "time", "item")


class _Longest:
    """The longest history of every user; of equally long ones the first."""

    def __init__(self) -> None:
        self._kept: list[pl.DataFrame] = []
        self._pending = 0

    def add(self, frame: pl.DataFrame) -> None:
        """More lines: `code`, `history`."""
        import polars as pl

        length = pl.when(pl.col("history") == "").then(0).otherwise(pl.col("history").str.count_matches(" ") + 1)
        self._kept.append(self._best(frame.with_columns(length.cast(pl.Int32).alias("n"))))
        self._pending += len(self._kept[-1])
        if self._pending > len(self._kept[0]) + 200_000:
            self._kept, self._pending = [self.frame()], 0

    def frame(self) -> pl.DataFrame:
        """`code`, `history` and `n` for every user that was seen."""
        import polars as pl

        return self._best(pl.concat(self._kept))

    @staticmethod
    def _best(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.sort("n", descending=True, maintain_order=True).unique("code", keep="first", maintain_order=True)
