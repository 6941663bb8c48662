"""Amazon Reviews 2023, a category at a time, from the layout of its Hugging Face repository."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bench.cards import DatasetCard
from bench.contracts import Progress
from bench.errors import InputError
from tasks.datasets.base import cache_dir, item_text
from tasks.datasets.big import BigDataset
from tasks.datasets.blocks import Block, blocks, headed_frames, json_frame, refuse
from tasks.datasets.event_log import EventLog, UserCodes, settle
from tasks.datasets.prepared import Source

if TYPE_CHECKING:
    import polars as pl

CORE = 5
HOST = "https://huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023/resolve/main"
MAX_BYTES = 1 << 36
# fmt: off
CATEGORIES = (
    "All_Beauty", "Amazon_Fashion", "Appliances", "Arts_Crafts_and_Sewing", "Automotive", "Baby_Products",
    "Beauty_and_Personal_Care", "Books", "CDs_and_Vinyl", "Cell_Phones_and_Accessories", "Clothing_Shoes_and_Jewelry",
    "Digital_Music", "Electronics", "Gift_Cards", "Grocery_and_Gourmet_Food", "Handmade_Products",
    "Health_and_Household", "Health_and_Personal_Care", "Home_and_Kitchen", "Industrial_and_Scientific",
    "Kindle_Store", "Magazine_Subscriptions", "Movies_and_TV", "Musical_Instruments", "Office_Products",
    "Patio_Lawn_and_Garden", "Pet_Supplies", "Software", "Sports_and_Outdoors", "Subscription_Boxes",
    "Tools_and_Home_Improvement", "Toys_and_Games", "Unknown", "Video_Games",
)
# fmt: on
DOMAINS = {"Books": "book", "Kindle_Store": "book", "Movies_and_TV": "film"}
# Where the ratings of a category may lie, in the order in which they are looked for: the published 5-core, all ratings, and
# all reviews (which have the ratings and much more).
RATINGS = (
    "benchmark/5core/rating_only/{}.csv",
    "benchmark/0core/rating_only/{}.csv",
    "raw/review_categories/{}.jsonl",
    "{}.csv",
    "{}.jsonl",
)
ITEMS = ("raw/meta_categories/meta_{}.jsonl", "meta_{}.jsonl")
FIELDS = ("user_id", "parent_asin", "timestamp")


class AmazonReviews2023(BigDataset):
    """One category of Amazon Reviews 2023: `amazon-2023@Movies_and_TV`.

    Every rating is an event, whatever its value. Users and items with fewer than 5 events are removed until none is left. The
    label is the level of the item's category path below the category itself, or, where an item has none, the store's main
    category. Products of one `parent_asin` (colours, sizes) are one item; products without a title are left out with their
    ratings.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="amazon-2023",
        summary="Amazon Reviews 2023, one category (amazon-2023@Books, ...): ratings as events, 5-core, subcategory as label.",
        citation=(
            "Y. Hou, J. Li, Z. He, A. Yan, X. Chen, J. McAuley. Bridging Language and Items for Retrieval and Recommendation. "
            "arXiv:2403.03952 (2024)."
        ),
        licence="Not stated by its publishers; research use with acknowledgement.",
        domain="product",
        source="https://amazon-reviews-2023.github.io/",
        windows=(3, 5),
    )
    variants: ClassVar[dict[str, tuple[str, ...]]] = {"category": CATEGORIES}

    def source(self, data_dir: Path | None, **reading: str) -> Source:
        """The ratings and the items of a `category`, which may stay unsaid where the folder has only one."""
        folder = cache_dir(self.card.name) if data_dir is None else data_dir
        category = reading.get("category") or _only_category(folder)
        files = tuple(_file(folder, patterns, category) for patterns in (RATINGS, ITEMS))
        return Source(self.card.name, files, {"category": category, "core": CORE})

    def described(self, source: Source) -> DatasetCard:
        """The card with the wording that suits the category."""
        return self.card.model_copy(update={"domain": DOMAINS.get(source.reading["category"], "product")})

    def read(self, source: Source, progress: Progress | None = None) -> EventLog:
        """Items whole, ratings in blocks."""
        ratings, meta = source.files
        items = read_items(meta, source.reading["category"], progress)
        users = UserCodes()
        events = read_ratings(ratings, items, users, progress)
        return settle(events, items, users.table(), CORE)

    def prepare(self, data_dir: Path | None, progress: Progress | None = None, **reading: str) -> Path:
        """Make sure that the files are there: in `data_dir`, or, without it, downloaded (the 5-core ratings and the items).

        Raises:
            InputError: `data_dir` lacks a file, or no category is named.
            CheckError: a download failed.
        """
        if data_dir is None and "category" in reading:
            from tasks.datasets.download import fetch_file

            for pattern in (RATINGS[0], ITEMS[0]):
                name = pattern.format(reading["category"])
                fetch_file(f"{HOST}/{name}", cache_dir(self.card.name) / name, progress, max_bytes=MAX_BYTES)
        return super().prepare(data_dir, progress, **reading)

    @staticmethod
    def generate(out: Path, users: int, seed: int = 0, progress: Progress | None = None) -> Path:
        """Made-up data in this layout, as the category Books (see `tasks.datasets.generate`)."""
        from tasks.datasets.generate import generate, write_amazon

        return generate(write_amazon, out, users, seed, progress)


def read_items(path: Path, category: str, progress: Progress | None = None) -> pl.DataFrame:
    """The items with `id`, `title`, `text` and `labels`.

    Raises:
        InputError: a wrong line, an item without id, or no item with a title.
    """
    import polars as pl

    schema: dict[str, Any] = {
        "parent_asin": pl.String,
        "title": pl.String,
        "main_category": pl.String,
        "categories": pl.List(pl.String),
    }
    advance = None if progress is None else progress.track(f"reading {path}", path.stat().st_size)
    spoken = category.replace("_", " ")
    parts = []
    for block in blocks(path, advance):
        frame = json_frame(block, schema)
        refuse(block, frame["parent_asin"].fill_null("") == "", "no parent_asin")
        deeper = pl.col("categories").list.get(1, null_on_oob=True)
        label = pl.coalesce(deeper, "main_category", pl.lit(spoken)).str.strip_chars()
        parts.append(
            frame.select(
                pl.col("parent_asin").alias("id"),
                pl.col("title").fill_null("").str.strip_chars(),
                pl.when(label == "").then(pl.lit(spoken)).otherwise(label).alias("label"),
            ).filter(pl.col("title") != "")
        )
    found = pl.concat(parts).unique("id", keep="first", maintain_order=True)
    if not len(found):
        raise InputError(f"{path}: no item has a title.")
    texts = [item_text(title, (label,), ()) for title, label in found.select("title", "label").iter_rows()]
    return found.select("id", "title", pl.Series("text", texts), pl.concat_list("label").alias("labels"))


def read_ratings(path: Path, items: pl.DataFrame, users: UserCodes, progress: Progress | None = None) -> pl.DataFrame:
    """The ratings of items that have a title: `code`, `item`, `time` (seconds), in the order of the file.

    Raises:
        InputError: a wrong line: user, item, timestamp (wrong, or in the future).
    """
    import polars as pl

    advance = None if progress is None else progress.track(f"reading {path}", path.stat().st_size)
    ids = items.select(pl.col("id").alias("parent_asin"), pl.int_range(pl.len(), dtype=pl.Int32).alias("item"))
    if ".jsonl" in path.name:
        schema = dict.fromkeys(FIELDS, pl.String)
        frames: Iterator[tuple[Block, pl.DataFrame]] = (
            (block, json_frame(block, schema)) for block in blocks(path, advance)
        )
    else:
        frames = headed_frames(path, FIELDS, advance=advance)
    parts = []
    for block, frame in frames:
        for column in FIELDS[:2]:
            refuse(block, frame[column].fill_null("") == "", f"no {column}")
        moment = frame["timestamp"].cast(pl.Int64, strict=False) // 1000
        refuse(block, moment.is_null(), "timestamp must be milliseconds since 1970")
        refuse(block, moment > time.time(), "the timestamp lies in the future")
        frame = frame.with_columns(moment.alias("time")).join(ids, on="parent_asin", maintain_order="left")
        parts.append(frame.select(users.encode(frame["user_id"]), "item", "time"))
    return pl.concat(parts)


def _only_category(folder: Path) -> str:
    found = sorted(
        {
            path.name.removeprefix("meta_").split(".")[0]
            for pattern in ITEMS
            for path in folder.glob(f"{pattern.format('*')}*")
        }
    )
    if len(found) == 1:
        return found[0]
    what = f"{folder} has {', '.join(found)}" if found else f"{folder} has no meta_CATEGORY.jsonl"
    raise InputError(
        f"{what}: name a category, such as amazon-2023@Books, and with `--data-dir DIR` the folder that has it."
    )


def _file(folder: Path, patterns: tuple[str, ...], category: str) -> Path:
    for pattern in patterns:
        for end in ("", ".gz"):
            path = folder / f"{pattern.format(category)}{end}"
            if path.is_file():
                return path
    names = " or ".join(pattern.format(category) for pattern in patterns)
    raise InputError(
        f"{folder} has no {names} (plain or .gz): `bench data prepare amazon-2023@{category}` downloads what is needed."
    )
