"""Amazon Reviews 2023 in the layout of its repository."""

import json
from pathlib import Path

import pytest

from bench.errors import InputError
from bench.progress import SilentProgress
from bench.scoring import load_dataset
from tasks.datasets import amazon
from tasks.datasets.amazon import AmazonReviews2023

META = [
    {
        "parent_asin": "B1",
        "title": "Dune",
        "main_category": "Books",
        "categories": ["Books", "Science Fiction"],
        "price": 9,
    },
    {"parent_asin": "B2", "title": "Soup", "main_category": "Books", "categories": ["Books"]},
    {"parent_asin": "B3", "title": None, "main_category": "Books", "categories": []},
    {"parent_asin": "B4", "title": "Map", "main_category": None, "categories": []},
]
RATINGS = [
    ("u1", "B1", 1_500_000_000_000),
    ("u1", "B3", 1_500_000_000_001),
    ("u1", "B2", 1_400_000_000_000),
    ("u2", "B4", 5),
]


@pytest.fixture(autouse=True)
def small_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amazon, "CORE", 1)


def write(root: Path, ratings=RATINGS, meta=META, category: str = "Books", raw: bool = False) -> Path:
    (root / "raw" / "meta_categories").mkdir(parents=True, exist_ok=True)
    (root / "raw" / "meta_categories" / f"meta_{category}.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in meta)
    )
    if raw:
        folder, name = root / "raw" / "review_categories", f"{category}.jsonl"
        lines = [
            json.dumps({"user_id": user, "parent_asin": item, "timestamp": when, "text": "good", "images": []})
            for user, item, when in ratings
        ]
    else:
        folder, name = root / "benchmark" / "5core" / "rating_only", f"{category}.csv"
        lines = ["user_id,parent_asin,rating,timestamp", *(f"{user},{item},5.0,{when}" for user, item, when in ratings)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("raw", [True, False])
def test_ratings_become_events_of_titled_items(tmp_path, raw):
    root = write(tmp_path / "data", raw=raw)
    log = AmazonReviews2023().read(AmazonReviews2023().source(root))
    assert log.items["title"].to_list() == ["Dune", "Soup", "Map"]
    assert log.items["labels"].to_list() == [["Science Fiction"], ["Books"], ["Books"]]
    assert [log.events[row].tolist() for row in range(2)] == [[1, 0], [2]]
    assert log.times.tolist() == [1_400_000_000, 1_500_000_000, 0]


def test_the_category_is_named_or_the_only_one(tmp_path):
    root = write(tmp_path / "data")
    assert load_dataset("amazon-2023", root, SilentProgress()).card.domain == "book"
    write(root, category="Toys_and_Games")
    with pytest.raises(InputError, match=r"has Books, Toys_and_Games: name a category"):
        load_dataset("amazon-2023", root, SilentProgress())
    assert load_dataset("amazon-2023@Toys_and_Games", root, SilentProgress()).card.domain == "product"
    with pytest.raises(InputError, match=r"Did you mean 'Toys_and_Games'"):
        load_dataset("amazon-2023@Toys_and_Game", root, SilentProgress())
    with pytest.raises(InputError, match=r"has no benchmark/5core/rating_only/Software\.csv"):
        load_dataset("amazon-2023@Software", root, SilentProgress())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"ratings": [("u1", "B1", 5), ("", "B1", 5)]}, r"Books\.csv, line 3: no user_id"),
        ({"ratings": [("u1", "B1", "soon")]}, "line 2: timestamp must be milliseconds"),
        ({"ratings": [("u1", "B1", 10**14)]}, "line 2: the timestamp lies in the future"),
        ({"meta": [{"title": "x"}]}, r"meta_Books\.jsonl, line 1: no parent_asin"),
        ({"meta": [{"parent_asin": "B1", "title": ""}]}, "no item has a title"),
        ({"ratings": [("u1", "B1", 5)]}, "only the item 'B1' is left"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, change, told):
    with pytest.raises(InputError, match=told):
        AmazonReviews2023().load(write(tmp_path / "data", **change))
