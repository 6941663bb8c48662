"""Goodreads: the poetry subset of the UCSD book graph, as LANCER uses it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bench.cards import DatasetCard
from bench.contracts import Progress
from bench.errors import InputError
from tasks.datasets.base import cache_dir, item_text
from tasks.datasets.big import BigDataset
from tasks.datasets.blocks import blocks, json_frame, refuse
from tasks.datasets.event_log import EventLog, UserCodes, settle
from tasks.datasets.prepared import Source

if TYPE_CHECKING:
    import polars as pl

CORE = 5
INTERACTIONS, BOOKS, GENRES = (
    "goodreads_interactions_poetry.json",
    "goodreads_books_poetry.json",
    "goodreads_book_genres_initial.json",
)
HOST = "https://mcauleylab.ucsd.edu/public_datasets/gdrive/goodreads"
URLS = {
    INTERACTIONS: f"{HOST}/byGenre/{INTERACTIONS}.gz",
    BOOKS: f"{HOST}/byGenre/{BOOKS}.gz",
    GENRES: f"{HOST}/{GENRES}.gz",
}
MAX_BYTES = 1 << 31
DATE_FORMAT = "%a %b %d %H:%M:%S %z %Y"
# Every book of the subset has this genre, so it tells books apart only where it stands alone.
OWN_GENRE = "poetry"


class Goodreads(BigDataset):
    """Goodreads poetry from the published JSON lines (plain or gzip).

    An event is a book that was read (`is_read`), at the moment at which it came onto the user's shelf (`date_added`; the date
    of reading is missing in most lines). Users and items with fewer than 5 events are removed until none is left. The labels
    are the book's genres without "poetry", most voted first, or "poetry" for a book that has no other. The text is title,
    labels and description.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="goodreads",
        summary="Goodreads, poetry subset of the UCSD book graph: books that were read, 5-core, genres as labels.",
        citation=(
            "M. Wan, J. McAuley. Item Recommendation on Monotonic Behavior Chains. RecSys 2018, 86-94; M. Wan, R. Misra, "
            "N. Nakashole, J. McAuley. Fine-Grained Spoiler Detection from Large-Scale Review Corpora. ACL 2019, 2605-2610."
        ),
        licence="Academic use only; no redistribution, no commercial use.",
        domain="book",
        source="https://cseweb.ucsd.edu/~jmcauley/datasets/goodreads.html",
        windows=(3, 5),
    )

    def source(self, data_dir: Path | None, **reading: str) -> Source:
        """The three files, each plain or packed."""
        folder = cache_dir(self.card.name) if data_dir is None else data_dir
        files = tuple(self._file(folder, name, data_dir is None) for name in (INTERACTIONS, BOOKS, GENRES))
        return Source(self.card.name, files, {"core": CORE})

    def read(self, source: Source, progress: Progress | None = None) -> EventLog:
        """Books whole, interactions in blocks."""
        interactions, books, genres = source.files
        items = read_books(books, read_genres(genres))
        users = UserCodes()
        events = read_interactions(interactions, items, users, progress)
        return settle(events, items, users.table(), CORE)

    def prepare(self, data_dir: Path | None, progress: Progress | None = None, **reading: str) -> Path:
        """Make sure that the files are there: in `data_dir`, or, without it, downloaded to the cache folder.

        Raises:
            InputError: `data_dir` lacks a file.
            CheckError: a download failed.
        """
        if data_dir is None:
            from tasks.datasets.download import fetch_file

            for name, url in URLS.items():
                fetch_file(url, cache_dir(self.card.name) / f"{name}.gz", progress, max_bytes=MAX_BYTES)
        return super().prepare(data_dir, progress)

    @staticmethod
    def generate(out: Path, users: int, seed: int = 0, progress: Progress | None = None) -> Path:
        """Made-up data in the layout of Goodreads (see `tasks.datasets.generate`)."""
        from tasks.datasets.generate import generate, write_goodreads

        return generate(write_goodreads, out, users, seed, progress)

    def _file(self, folder: Path, name: str, is_default: bool) -> Path:
        for path in (folder / f"{name}.gz", folder / name):
            if path.is_file():
                return path
        fetch = "run `bench data prepare goodreads`, or name the folder that has it with `--data-dir DIR`"
        here = f"`--data-dir DIR` must name the folder with {INTERACTIONS}, {BOOKS} and {GENRES} (plain or .gz)"
        raise InputError(f"{folder / name} is missing: {fetch if is_default else here}.")


def read_genres(path: Path) -> pl.DataFrame:
    """Genres of every book: `id` and `labels`, most voted first, ties by name.

    Raises:
        InputError: a wrong line.
    """
    import json

    import polars as pl

    ids, labels = [], []
    for block in blocks(path):
        # The genres are the keys of an object, which no column layout holds.
        for row, line in enumerate(block.data.split(b"\n")[:-1]):
            try:
                entry = json.loads(line)
                key, votes = entry["book_id"], entry["genres"]
                ranked = sorted(votes, key=lambda name: (-votes[name], name))
            except (ValueError, KeyError, TypeError):
                raise block.wrong(row, 'expected {"book_id": "...", "genres": {...}}') from None
            ids.append(str(key))
            labels.append([name for name in ranked if name != OWN_GENRE] or [OWN_GENRE])
    return pl.DataFrame({"id": ids, "labels": labels}, schema={"id": pl.String, "labels": pl.List(pl.String)})


def read_books(path: Path, genres: pl.DataFrame) -> pl.DataFrame:
    """The books with `id`, `title`, `text` and `labels`; a book that `genres` lacks is poetry and nothing else.

    Raises:
        InputError: a wrong line, a book without id or title, one id twice.
    """
    import polars as pl

    schema = {"book_id": pl.String, "title": pl.String, "description": pl.String}
    parts = []
    for block in blocks(path):
        frame = json_frame(block, schema)
        for column in ("book_id", "title"):
            refuse(block, frame[column].fill_null("").str.strip_chars() == "", f"the book has no {column}")
        parts.append(frame)
    found = pl.concat(parts).rename({"book_id": "id"})
    twice = found.filter(found["id"].is_duplicated())["id"]
    if len(twice):
        raise InputError(f"{path}: book {twice[0]!r} stands there twice; expected one line a book.")
    found = found.join(genres.unique("id", keep="first"), on="id", how="left", maintain_order="left")
    found = found.with_columns(pl.col("labels").fill_null(pl.lit([OWN_GENRE])), pl.col("title").str.strip_chars())
    texts = [
        item_text(title, tuple(labels), (told,) if told else ())
        for title, labels, told in found.select(
            "title", "labels", pl.col("description").fill_null("").str.strip_chars(" .\n")
        ).iter_rows()
    ]
    return found.select("id", "title", pl.Series("text", texts), "labels")


def read_interactions(
    path: Path, items: pl.DataFrame, users: UserCodes, progress: Progress | None = None
) -> pl.DataFrame:
    """The books that were read: `code`, `item`, `time`, in the order of the file.

    Raises:
        InputError: a wrong line: user, book, date (wrong, or in the future), a book that the books lack.
    """
    import polars as pl

    schema: dict[str, Any] = dict.fromkeys(("user_id", "book_id", "date_added"), pl.String) | {"is_read": pl.Boolean}
    advance = None if progress is None else progress.track(f"reading {path}", path.stat().st_size)
    ids = items.select(pl.col("id").alias("book_id"), pl.int_range(pl.len(), dtype=pl.Int32).alias("item"))
    parts = []
    for block in blocks(path, advance):
        frame = json_frame(block, schema)
        for column in ("user_id", "book_id"):
            refuse(block, frame[column].fill_null("") == "", f"no {column}")
        refuse(block, frame["is_read"].is_null(), "no is_read")
        moment = frame["date_added"].str.to_datetime(DATE_FORMAT, strict=False, time_zone="UTC").dt.epoch("s")
        refuse(block, moment.is_null(), "date_added must read like Tue Jul 30 21:45:28 -0700 2013")
        refuse(block, moment > time.time(), "date_added lies in the future")
        frame = frame.with_columns(moment.alias("time")).join(ids, on="book_id", how="left", maintain_order="left")
        refuse(block, frame["item"].is_null(), f"{BOOKS} does not have the book")
        read = frame.filter("is_read")
        parts.append(read.select(users.encode(read["user_id"]), "item", "time"))
    return pl.concat(parts)
