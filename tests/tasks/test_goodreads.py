"""Goodreads' layout: what is an event, which genres are labels, and one clear line for whatever is wrong."""

import gzip
import json
from pathlib import Path

import pytest

from bench.errors import InputError
from tasks.datasets import goodreads
from tasks.datasets.goodreads import BOOKS, GENRES, INTERACTIONS, URLS, Goodreads

BOOK_LINES = [
    {"book_id": "1", "title": "Ariel", "description": "Poems.\nOf 1965.", "similar_books": ["9"]},
    {"book_id": "2", "title": "Howl", "description": "", "authors": [{"author_id": "3"}]},
    {"book_id": "3", "title": "Beowulf"},
]
GENRE_LINES = [
    {"book_id": "1", "genres": {"poetry": 90, "fiction": 5, "history, historical fiction, biography": 7}},
    {"book_id": "2", "genres": {"poetry": 3}},
    {"book_id": "7", "genres": {}},
]


def event(user: str, book: str, added: str = "Tue Jul 30 21:45:28 -0700 2013", read: bool = True) -> dict:
    return {"user_id": user, "book_id": book, "is_read": read, "rating": 4, "date_added": added, "read_at": ""}


EVENTS = [
    event("b", "1", "Wed Jan 01 00:00:01 +0000 2014"),
    event("b", "2", "Tue Dec 31 23:00:00 -0200 2013"),
    event("a", "3"),
    event("a", "1"),
    event("a", "2", read=False),
]


def write(root: Path, events=EVENTS, books=BOOK_LINES, genres=GENRE_LINES, packed: bool = True) -> Path:
    root.mkdir(exist_ok=True)
    for name, rows in ((INTERACTIONS, events), (BOOKS, books), (GENRES, genres)):
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (root / f"{name}.gz").write_bytes(gzip.compress(data)) if packed else (root / name).write_bytes(data)
    return root


@pytest.fixture(autouse=True)
def small_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goodreads, "CORE", 1)


@pytest.mark.parametrize("packed", [True, False])
def test_books_that_were_read_in_the_order_of_the_shelf(tmp_path, packed):
    log = Goodreads().read(Goodreads().source(write(tmp_path / "data", packed=packed)))
    names = [[log.items["title"][item] for item in log.events[row].tolist()] for row in range(2)]
    # b's second line is 01:00:00 UTC of the new year, an hour after the first; a's two share a second.
    assert log.users.to_list() == ["a", "b"] and names == [["Beowulf", "Ariel"], ["Ariel", "Howl"]]
    assert log.times.tolist() == [1375245928, 1375245928, 1388534401, 1388538000]
    labels = dict(zip(log.items["title"], log.items["labels"].to_list(), strict=True))
    assert labels["Ariel"] == ["history, historical fiction, biography", "fiction"]
    assert labels["Howl"] == labels["Beowulf"] == ["poetry"]
    assert log.items["text"][1] == "Howl. poetry."


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"events": [EVENTS[0], event("", "1")]}, "line 2: no user_id"),
        ({"events": [event("b", "8")]}, f"line 1: {BOOKS} does not have the book"),
        ({"events": [event("b", "1", "2013-07-30")]}, "line 1: date_added must read like"),
        ({"events": [event("b", "1", "Tue Jul 30 21:45:28 -0700 2999")]}, "line 1: date_added lies in the future"),
        ({"events": [{"user_id": "b", "book_id": "1"}]}, "line 1: no is_read"),
        ({"books": [*BOOK_LINES, BOOK_LINES[0]]}, "book '1' stands there twice"),
        ({"books": [{"book_id": "1"}]}, "line 1: the book has no title"),
        ({"genres": [{"book_id": "1", "genres": []}, {"genres": {}}]}, 'line 2: expected {"book_id"'),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, change, told):
    with pytest.raises(InputError, match=told):
        Goodreads().load(write(tmp_path / "data", **change))


def test_a_file_cut_short_or_missing_is_told(tmp_path):
    root = write(tmp_path / "data")
    path = root / f"{INTERACTIONS}.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="cut short or damaged"):
        Goodreads().load(root)
    path.unlink()
    with pytest.raises(InputError, match=r"interactions_poetry\.json is missing: `--data-dir DIR`"):
        Goodreads().load(root)
    with pytest.raises(InputError, match="run `bench data prepare goodreads`"):
        Goodreads().load(None)


def test_the_download_goes_to_the_cache_and_is_read_from_there(tmp_path, cache_root, monkeypatch):
    root, asked = write(tmp_path / "data"), []

    def fetch(url, target, progress=None, sha256=None, max_bytes=0):
        asked.append(url)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((root / target.name).read_bytes())
        return target

    monkeypatch.setattr("tasks.datasets.download.fetch_file", fetch)
    Goodreads().prepare(None)
    assert asked == list(URLS.values()) and all(url.startswith("https://") for url in asked)
    assert len(Goodreads().load(None).user_ids) == 2
