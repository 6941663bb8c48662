"""Data in the layouts of MIND, Goodreads and Amazon Reviews at any size, to exercise loaders, trainers and the evaluator.

Made of `simulate`'s sequences and of words from a list: what such data show is that the machinery works at a scale, not how
good a model is on the real ones.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.contracts import Longs, Progress
from bench.errors import InputError
from bench.rng import named_generator
from bench.scoring import MADE_UP
from tasks.datasets.simulate import World, make_world, sequences

if TYPE_CHECKING:
    import polars as pl

# MIND's clock: histories are older; the log has six days of train and one of dev.
LOG_BEGINS, TRAIN_SECONDS, LOG_SECONDS = 1_573_257_600, 6 * 86_400, 7 * 86_400
# A user's share of events that the log has, by a beta distribution: some joined late, some hardly came back.
LOGGED_SHARE, UNCLICKED, SLATES = (1.3, 6.0), 36, 2_000
# The other layouts' clock: users begin between 2008 and 2016 and stay for up to five years.
CLOCK_BEGINS, BEGIN_SECONDS, SPAN_SECONDS = 1_199_145_600, 8 * 365 * 86_400, 5 * 365 * 86_400

Write = Callable[[Path, int, int, Progress | None], None]


@cache
def _words() -> dict[str, Any]:
    words: dict[str, Any] = json.loads(
        files("tasks.datasets").joinpath("data", "generated-words.json").read_text("utf-8")
    )
    return words


def generate(write: Write, out: Path, users: int, seed: int, progress: Progress | None = None) -> Path:
    """Let `write` fill a new folder, which appears whole or not at all, and mark it as made up.

    Args:
        write: one of this module's `write_*`.
        out: the folder to make.
        users: how many users.
        seed: of all draws.
        progress: shows the users.

    Raises:
        InputError: `out` is there already, or cannot be written.
    """
    if users < 1:
        raise InputError(f"--users takes a number of at least 1, got {users}.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already and not empty: name a new folder with --out.")
    making = out.with_name(f".{out.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    try:
        making.mkdir(parents=True)
        write(making, users, seed, progress)
        (making / MADE_UP).write_text(json.dumps({"users": users, "seed": seed}) + "\n", "utf-8")
        if out.exists():
            out.rmdir()
        making.rename(out)
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror or error}. Nothing was left there.") from None
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return out


def write_mind(out: Path, users: int, seed: int, progress: Progress | None = None) -> None:
    """`train` and `dev`, each with behaviors.tsv and news.tsv: one click an impression, about 36 others shown beside it."""
    import polars as pl

    world, ids = _world("categories", users, seed)
    news = _news(world, ids, seed)
    for part in ("train", "dev"):
        (out / part).mkdir()
        news.write_csv(out / part / "news.tsv", separator="\t", include_header=False, quote_style="never")
    names = pl.Series([f"N{key}" for key in ids.tolist()])
    slates = _slates(world, names, seed)
    written = {"train": 0, "dev": 0}
    with (out / "train" / "behaviors.tsv").open("wb") as train, (out / "dev" / "behaviors.tsv").open("wb") as dev:
        for first, frame, rng in _blocks(world, users, seed, progress):
            lines = _impressions(frame, names, slates, rng).with_columns(pl.col("row") + first)
            for part, sink, mine in (("train", train, True), ("dev", dev, False)):
                chosen = lines.filter((pl.col("second") < TRAIN_SECONDS) == mine)
                numbered = chosen.select(
                    (pl.int_range(pl.len()) + written[part] + 1).alias("impression"),
                    pl.format("U{}", "row").alias("user"),
                    pl.from_epoch(pl.col("second") + LOG_BEGINS).dt.strftime("%-m/%-d/%Y %-I:%M:%S %p").alias("time"),
                    "history",
                    "shown",
                )
                numbered.write_csv(sink, separator="\t", include_header=False, quote_style="never")
                written[part] += len(chosen)


def write_goodreads(out: Path, users: int, seed: int, progress: Progress | None = None) -> None:
    """Interactions, books and genres of the poetry subset, as gzip-packed JSON lines."""
    import polars as pl

    world, ids = _world("genres", users, seed)
    rng = named_generator(seed, "generate", "books")
    genres = list(_words()["genres"])
    title = _titles(world, "genres", rng)
    with (
        _lines(out / "goodreads_books_poetry.json.gz") as books,
        _lines(out / "goodreads_book_genres_initial.json.gz") as told,
    ):
        for item, key in enumerate(ids.tolist()):
            own = genres[int(world.category[item])]
            second = genres[int(rng.integers(len(genres)))]
            about = {"book_id": str(key), "title": title[item], "description": f"A book about {title[item].lower()}."}
            more = {
                "authors": [{"author_id": str(item % 977), "role": ""}],
                "average_rating": "3.9",
                "publication_year": "2008",
            }
            _line(books, about | more)
            _line(told, {"book_id": str(key), "genres": {own: 9} | ({second: 2} if second != own else {})})
    with _lines(out / "goodreads_interactions_poetry.json.gz") as sink:
        for first, frame, draw in _blocks(world, users, seed, progress):
            lines = _dated(frame, draw).select(
                pl.format("u{}", pl.col("row") + first).alias("user_id"),
                pl.Series(ids.astype(str)).gather(frame["item"]).alias("book_id"),
                pl.lit(True).alias("is_read"),
                pl.lit(5).alias("rating"),
                pl.from_epoch("second").dt.strftime("%a %b %d %H:%M:%S -0000 %Y").alias("date_added"),
            )
            sink.write(lines.write_ndjson().encode())


def write_amazon(out: Path, users: int, seed: int, progress: Progress | None = None) -> None:
    """Ratings and items of the category Books, in the layout of the Hugging Face repository."""
    import polars as pl

    world, ids = _world("aisles", users, seed)
    aisles = list(_words()["aisles"])
    title = _titles(world, "aisles", named_generator(seed, "generate", "books"))
    (out / "raw" / "meta_categories").mkdir(parents=True)
    (out / "benchmark" / "0core" / "rating_only").mkdir(parents=True)
    with (out / "raw" / "meta_categories" / "meta_Books.jsonl").open("wb") as sink:
        for item, key in enumerate(ids.tolist()):
            kind = ["Books", aisles[int(world.category[item])]]
            _line(
                sink, {"main_category": "Books", "title": title[item], "categories": kind, "parent_asin": f"B{key:09d}"}
            )
    with (out / "benchmark" / "0core" / "rating_only" / "Books.csv").open("wb") as sink:
        sink.write(b"user_id,parent_asin,rating,timestamp\n")
        keys = pl.Series([f"B{key:09d}" for key in ids.tolist()])
        for first, frame, draw in _blocks(world, users, seed, progress):
            lines = _dated(frame, draw).select(
                pl.format("A{}", pl.col("row") + first).alias("user_id"),
                keys.gather(frame["item"]).alias("parent_asin"),
                pl.lit(5.0).alias("rating"),
                (pl.col("second") * 1000).alias("timestamp"),
            )
            lines.write_csv(sink, include_header=False)


def _world(kind: str, users: int, seed: int) -> tuple[World, Longs]:
    """The items, and an id for each that says nothing of its category."""
    world = make_world([entry["share"] for entry in _words()[kind].values()], users, seed)
    ids = 10_000 + named_generator(seed, "generate", "ids").permutation(int(world.bounds[-1]))
    return world, ids.astype(np.int64)


def _titles(world: World, kind: str, rng: np.random.Generator) -> list[str]:
    words = _words()
    pools = [entry["words"] for entry in words[kind].values()]
    picks = rng.integers(0, 1 << 30, (len(world.category), 4))

    def pick(pool: list[str], number: int) -> str:
        return pool[number % len(pool)]

    if kind == "categories":
        return [
            f"{pick(words['names'], a)} {pick(words['verbs'], b)} {pick(pools[c], d)} {pick(words['tails'], a // 20 + e)}"
            for c, (a, b, d, e) in zip(world.category.tolist(), picks.tolist(), strict=True)
        ]
    return [
        f"The {pick(words['moods'], a).title()} {pick(pools[c], b).title()} of {pick(words['names'], d)}"
        for c, (a, b, d, _) in zip(world.category.tolist(), picks.tolist(), strict=True)
    ]


def _news(world: World, ids: Longs, seed: int) -> pl.DataFrame:
    import polars as pl

    names = list(_words()["categories"])
    title = _titles(world, "categories", named_generator(seed, "generate", "news"))
    category = [names[number] for number in world.category.tolist()]
    entities = [f'[{{"Label": "{text.split()[0]}", "Type": "P"}}]' for text in title]
    return pl.DataFrame(
        {
            "id": [f"N{key}" for key in ids.tolist()],
            "category": category,
            "subcategory": [f"{name}_{number % 6}" for number, name in enumerate(category)],
            "title": title,
            "abstract": [f"What is known about it: {text.lower()}." for text in title],
            "url": [f"https://example.org/{key}.html" for key in ids.tolist()],
            "title_entities": entities,
            "abstract_entities": ["[]"] * len(title),
        }
    ).sample(fraction=1.0, shuffle=True, seed=seed)


def _slates(world: World, names: pl.Series, seed: int) -> pl.Series:
    """Texts of news that are shown and not clicked, drawn by popularity; every impression takes two of them."""
    import polars as pl

    rng = named_generator(seed, "generate", "slates")
    slate = np.repeat(np.arange(SLATES), 1 + rng.geometric(2.0 / UNCLICKED, SLATES))
    shown = pl.DataFrame(
        {"slate": slate, "name": names.gather(world.draw(np.full(len(slate), -1), rng.random(len(slate))))}
    )
    joined = (pl.col("name") + "-0").str.join(" ")
    return shown.group_by("slate", maintain_order=True).agg(joined)["name"]


def _blocks(
    world: World, users: int, seed: int, progress: Progress | None
) -> Iterator[tuple[int, pl.DataFrame, np.random.Generator]]:
    """Blocks of users as a frame of events: `row` (user within the block), `place`, `length` (of the user) and `item`."""
    import polars as pl

    advance = (lambda _: None) if progress is None else progress.track("generating users", users)
    for first, events, lengths in sequences(world, users, seed):
        row = np.repeat(np.arange(len(lengths)), lengths)
        place = np.arange(len(row)) - np.repeat(lengths.cumsum() - lengths, lengths)
        frame = pl.DataFrame({"row": row, "place": place, "length": lengths[row], "item": events[row, place]})
        yield first, frame, named_generator(seed, "generate", "block", str(first))
        advance(len(lengths))


def _dated(frame: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Events with `second`: a user begins at some moment and goes on for two months to some years."""
    import polars as pl

    row = frame["row"].to_numpy()
    begin = CLOCK_BEGINS + rng.integers(0, BEGIN_SECONDS, int(row.max()) + 1)
    span = rng.integers(SPAN_SECONDS // 30, SPAN_SECONDS, len(begin))
    drawn = pl.DataFrame({"row": row, "second": begin[row] + (rng.random(len(row)) * span[row]).astype(np.int64)})
    return frame.with_columns(drawn.sort("row", "second")["second"])


def _impressions(frame: pl.DataFrame, names: pl.Series, slates: pl.Series, rng: np.random.Generator) -> pl.DataFrame:
    """`row`, `second` (since the log began), `history` and `shown` of every logged click, in random order."""
    import polars as pl

    length = frame["length"].to_numpy()
    row = frame["row"].to_numpy()
    share = rng.beta(*LOGGED_SHARE, int(row.max()) + 1)[row]
    logged = frame["place"].to_numpy() >= length - np.maximum(np.rint(length * share), 1)
    told = frame.with_columns(names.gather(frame["item"]).alias("name"))
    history = (
        told.filter(~logged).group_by("row", maintain_order=True).agg(pl.col("name").str.join(" ").alias("history"))
    )
    clicks = told.filter(logged)
    # Sorted draws within a user are a user's clicks in time.
    seconds = pl.DataFrame({"row": clicks["row"], "second": rng.integers(0, LOG_SECONDS, len(clicks))}).sort(
        "row", "second"
    )
    before, after = (slates.gather(rng.integers(0, len(slates), len(clicks))) for _ in range(2))
    lines = clicks.select(
        "row", seconds["second"], pl.concat_str(before, pl.lit(" "), "name", pl.lit("-1 "), after).alias("shown")
    )
    lines = lines.join(history, on="row", how="left", maintain_order="left").with_columns(
        pl.col("history").fill_null("")
    )
    return lines[rng.permutation(len(lines))]


@contextmanager
def _lines(path: Path) -> Iterator[Any]:
    # Level 1: the data are written once and read often, and packing them is most of the time.
    with gzip.open(path, "wb", compresslevel=1) as sink:
        yield sink


def _line(sink: Any, value: dict[str, Any]) -> None:
    sink.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")
