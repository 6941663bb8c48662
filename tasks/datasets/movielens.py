"""MovieLens-1M in its published layout: `ratings.dat` and `movies.dat` with `::` between the fields.

Source: F. M. Harper, J. A. Konstan. The MovieLens Datasets: History and Context. ACM TiiS 5, 4 (2015).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from bench.cards import DatasetCard
from bench.contracts import Dataset, Longs, Progress, Ragged
from bench.errors import InputError
from tasks.datasets.base import GLOBAL, LEAVE_ONE_OUT, OWN, Item, assemble, cache_dir, item_text
from tasks.datasets.tags import Tags, find_tags, shipped_tags
from tasks.statistics import dataset_statistics

RATINGS, MOVIES = "ratings.dat", "movies.dat"
RATING_FIELDS = ("UserID", "MovieID", "Rating", "Timestamp")
RATING_LAYOUT, MOVIE_LAYOUT = "::".join(RATING_FIELDS), "MovieID::Title::Genre|Genre"
# Seconds that a real clock spans at the least, here a year.
LEAST_SPAN = 365 * 86_400
# 18 digits always fit in int64.
MAX_DIGITS = 18
# The six colons and the line end that follow or part the four numbers of a well-formed line.
SEPARATORS = np.frombuffer(b"::::::\n", np.uint8)
# C0 and C1 control characters are in no title: where one is, the file is not text, or in neither encoding.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class MovieLens1M:
    """MovieLens-1M: every rating is an event, whatever its value.

    `url` and `archive_sha256` say where `prepare` downloads from and what it must find there.
    """

    url: ClassVar[str] = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
    archive_sha256: ClassVar[str] = "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20"

    card: ClassVar[DatasetCard] = DatasetCard(
        name="ml-1m",
        summary="MovieLens-1M: 6,040 users, 3,666 films that occur in train, 1,000,153 events; 8:1:1 in time per user.",
        citation=(
            "F. M. Harper, J. A. Konstan. The MovieLens Datasets: History and Context. "
            "ACM Transactions on Interactive Intelligent Systems 5, 4 (2015), Article 19. doi:10.1145/2827872"
        ),
        licence="GroupLens terms: research use with acknowledgement, no redistribution without permission.",
        domain="film",
        source="https://grouplens.org/datasets/movielens/1m/",
        sha256=archive_sha256,
        windows=(3, 5, 10),
    )
    statistics = staticmethod(dataset_statistics)

    splits: ClassVar[tuple[str, ...]] = (LEAVE_ONE_OUT, GLOBAL)

    def load(self, data_dir: Path | None, progress: Progress | None = None, *, split: str = OWN) -> Dataset:
        """Read both files and split every user's events.

        A user's events are ordered by timestamp, ties by their order in the file; users stand in the order of their
        number. Tags come from `tags.jsonl` in the folder where there is one, else they are those that the package ships. An
        item's text is its title, its genres and its train tags, as sentences:
        `Title (Year). Genre, Genre. tag; tag; tag.`

        Args:
            data_dir: folder with both files, or with a folder `ml-1m` that has them; None for what `prepare` downloaded.
            progress: told what is being read.
            split: "ratio", "loo" or "global", see `cut`.

        Raises:
            InputError: a file is missing, or a line of it is wrong; the message names the file and the line.
        """
        folder = find_files(data_dir)
        if progress is not None:
            progress.note(f"reading MovieLens-1M from {folder}")
        items = read_movies(folder / MOVIES, find_tags(self.card.name, data_dir))
        user_ids, events, times = read_ratings(folder / RATINGS, np.array([int(item.id) for item in items], np.int64))
        return assemble(self.card, items, user_ids, events, split, trusted_clock(times))

    def prepare(self, data_dir: Path | None, progress: Progress | None = None) -> Path:
        """Make sure that the files are there, and say where.

        With `data_dir`, only looks whether it has both files. Without, downloads the archive to the cache folder unless
        it was downloaded before, checks its SHA-256 and unpacks it.

        Raises:
            InputError: `data_dir` lacks a file.
            CheckError: the download failed, or is not the published archive.
        """
        if data_dir is not None:
            return find_files(data_dir)
        from tasks.datasets.download import fetch_archive

        target = cache_dir(self.card.name)
        if not _has_files(target):
            fetch_archive(self.url, self.archive_sha256, target, (RATINGS, MOVIES), progress)
        return target


def find_files(data_dir: Path | None) -> Path:
    """The folder that has both files: `data_dir`, its `ml-1m`, or the cache folder where `data_dir` is None.

    Raises:
        InputError: neither has both; says what to do.
    """
    folder = cache_dir(MovieLens1M.card.name) if data_dir is None else data_dir
    for candidate in (folder, folder / "ml-1m"):
        if _has_files(candidate):
            return candidate
    missing = next(name for name in (RATINGS, MOVIES) if not (folder / name).is_file())
    if data_dir is None:
        raise InputError(
            f"MovieLens-1M is not downloaded ({folder / missing} is missing): run `bench data prepare ml-1m`, "
            "or name a folder that has it with `--data-dir DIR`."
        )
    raise InputError(
        f"{folder / missing} is missing: `--data-dir DIR` must name a folder with {RATINGS} and {MOVIES}; "
        "`bench data prepare ml-1m` downloads them."
    )


def _has_files(folder: Path) -> bool:
    return (folder / RATINGS).is_file() and (folder / MOVIES).is_file()


def load_tags() -> Tags:
    """The tags shipped with the package: item id to (train tags, eval tags)."""
    return shipped_tags(MovieLens1M.card.name)


def read_movies(path: Path, tags: Tags) -> list[Item]:
    """Items in file order, with tags where `tags` has them.

    The published file is latin-1. A file that is valid UTF-8 is read as such, since a converted copy is common and
    accented latin-1 is hardly ever valid UTF-8.

    Raises:
        InputError: an empty file or a wrong line, a film that stands there twice.
    """
    data = _read(path)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    items: dict[int, Item] = {}
    for number, line in enumerate(text.split("\n"), 1):
        item = _movie(path, number, line, tags)
        if int(item.id) in items:
            raise InputError(f"{path}, line {number}: MovieID {item.id} stands there twice.")
        items[int(item.id)] = item
    return list(items.values())


def _movie(path: Path, number: int, line: str, tags: Tags) -> Item:
    fields = line.split("::")
    if len(fields) != 3:
        raise _wrong(path, number, line, f"expected {MOVIE_LAYOUT}, found {len(fields)} field(s)")
    key, title, genres = fields[0], fields[1].strip(), tuple(genre.strip() for genre in fields[2].split("|"))
    if not (key.isascii() and key.isdigit() and len(key) <= MAX_DIGITS):
        raise _wrong(path, number, line, f"MovieID must be a whole number, found {key!r}")
    if not title:
        raise _wrong(path, number, line, "the title is empty")
    if not all(genres) or len(set(genres)) != len(genres):
        raise _wrong(path, number, line, "genres must be non-empty and different, parted by |")
    if CONTROL.search(line):
        raise _wrong(path, number, line, "expected latin-1 or UTF-8 text, found a control character")
    train, evaluation = tags.get(key, ((), ()))
    text = item_text(title, genres, train)
    return Item(str(int(key)), title, text, genres, train, evaluation)


def trusted_clock(times: Longs) -> Longs | None:
    """The timestamps, or None where they cannot be a clock.

    The publication's span 34 months. Copies are in use whose timestamps carry each user's order alone; all of theirs lie within
    hours.
    """
    return times if times.max() - times.min() > LEAST_SPAN else None


def read_ratings(path: Path, movie_ids: Longs) -> tuple[list[str], Ragged, Longs]:
    """Users in the order of their number, and each one's events as positions in `movie_ids`, oldest first, with their times.

    Raises:
        InputError: an empty file or a wrong line, a film that `movie_ids` lacks, a film that a user rated twice.
    """
    data = _read(path)
    rows = _parse_ratings(data)
    if rows is None:
        raise _diagnose_ratings(path, data)
    users, movies, times = rows[:, 0], rows[:, 1], rows[:, 3]
    by_id = np.argsort(movie_ids)
    places = np.minimum(np.searchsorted(movie_ids[by_id], movies), len(movie_ids) - 1)
    items = by_id[places]
    unknown = np.flatnonzero(movie_ids[items] != movies)
    if len(unknown):
        number = int(unknown[0]) + 1
        raise InputError(f"{path}, line {number}: MovieID {movies[unknown[0]]} is not in {MOVIES}.")
    # lexsort is stable, so equal timestamps keep the order of the file.
    order = np.lexsort((times, users))
    names, lengths = np.unique(users, return_counts=True)
    row_of = np.repeat(np.arange(len(names)), lengths)
    _refuse_repeats(path, row_of * len(movie_ids) + items[order], order)
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    return [str(name) for name in names.tolist()], Ragged(offsets, items[order].astype(np.int32)), times[order]


def _refuse_repeats(path: Path, pairs: Longs, lines: Longs) -> None:
    # Seen items are masked in evaluation, so a second rating of a film could never be predicted.
    by_pair = np.argsort(pairs, kind="stable")
    again = np.flatnonzero(np.diff(pairs[by_pair]) == 0)
    if len(again):
        number = int(np.maximum(lines[by_pair[again]], lines[by_pair[again + 1]]).min()) + 1
        raise InputError(f"{path}, line {number}: this user rated this film before; expected one rating a film.")


def _parse_ratings(data: bytes) -> npt.NDArray[np.int64] | None:
    """Rows [E, 4], or None where any line is not `digits::digits::digit::digits` with a rating from 1 to 5."""
    raw = np.frombuffer(data + b"\n", np.uint8)
    separators = np.flatnonzero((raw < ord("0")) | (raw > ord("9")))
    if len(separators) % len(SEPARATORS):
        return None
    ends = separators.reshape(-1, len(SEPARATORS))
    if (raw[ends] != SEPARATORS).any() or (np.diff(ends[:, :6].reshape(-1, 3, 2), axis=2) != 1).any():
        return None
    starts = np.concatenate([[0], ends[:-1, 6] + 1])
    lengths = (
        ends[:, 0] - starts,
        ends[:, 2] - ends[:, 1] - 1,
        ends[:, 4] - ends[:, 3] - 1,
        ends[:, 6] - ends[:, 5] - 1,
    )
    if any((length < 1).any() or (length > MAX_DIGITS).any() for length in lengths):
        return None
    ratings = raw[ends[:, 4] - 1]
    if (lengths[2] != 1).any() or (ratings < ord("1")).any() or (ratings > ord("5")).any():
        return None
    # The structure is proven above, so the lenient text reader cannot misread anything.
    return np.fromstring(data.replace(b"::", b" "), np.int64, sep=" ").reshape(-1, 4)


def _diagnose_ratings(path: Path, data: bytes) -> InputError:
    """The error of the first wrong line; the slow twin of `_parse_ratings`, run only where that found something."""
    for number, raw in enumerate(data.split(b"\n"), 1):
        line = raw.decode("latin-1")
        fields = line.split("::")
        if len(fields) != 4:
            return _wrong(path, number, line, f"expected {RATING_LAYOUT}, found {len(fields)} field(s)")
        for name, field in zip(RATING_FIELDS, fields, strict=True):
            if not (field.isascii() and field.isdigit() and len(field) <= MAX_DIGITS):
                return _wrong(path, number, line, f"{name} must be a whole number, found {field!r}")
        if fields[2] not in ("1", "2", "3", "4", "5"):
            return _wrong(path, number, line, f"Rating must be 1 to 5, found {fields[2]!r}")
    return InputError(f"{path}: expected lines of the form {RATING_LAYOUT}.")


def _read(path: Path) -> bytes:
    """The file's bytes with Unix line ends and none at the end."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    data = data.replace(b"\r\n", b"\n").rstrip(b"\n")
    if not data:
        raise InputError(f"{path} is empty.")
    return data


def _wrong(path: Path, number: int, line: str, problem: str) -> InputError:
    shown = line if len(line) <= 80 else line[:77] + "..."
    return InputError(f"{path}, line {number}: {problem} (the line is {shown!r}).")
