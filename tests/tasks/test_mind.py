"""MIND's layout: sequences, clock, variants, and one clear line for whatever is wrong."""

import calendar
from pathlib import Path

import numpy as np
import pytest

from bench.errors import InputError
from bench.progress import SilentProgress
from bench.scoring import load_dataset
from tasks.datasets import mind
from tasks.datasets.mind import MIND, never_falling
from tests.tools.mind_files import DEV, NEWS, TRAIN, write_mind


@pytest.fixture(autouse=True)
def small_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hand-written users have a few events: the core that is asked of them is 1."""
    monkeypatch.setattr(mind, "CORE", 1)


def second(day: int, hour: int = 0, minute: int = 0, sec: int = 0) -> int:
    return calendar.timegm((2019, 11, day, hour, minute, sec))


def test_longest_history_then_clicks_by_time_without_repeats(tmp_path):
    source = MIND().source(write_mind(tmp_path))
    log = MIND().read(source)
    names = [[log.items["id"][item] for item in log.events[row].tolist()] for row in range(3)]
    assert log.users.to_list() == ["U1", "U2", "U3"]
    # U1's longest history is that of dev, clicks of one impression keep the file's order; U3 repeats N3.
    assert names == [["N4", "N1", "N2"], ["N1", "N2", "N4", "N3"], ["N3", "N2", "N1"]]
    begin = second(9, 0, 0, 1)
    assert log.times.tolist() == [
        *(begin, second(10, 23), second(15, 1)),
        *(begin, begin, begin, second(11, 9, 5, 58)),
        *(begin, begin, second(15, 8, 55, 22)),
    ]


def test_text_labels_and_readings(tmp_path):
    root = write_mind(tmp_path, prefix="MINDsmall_")
    log = MIND().read(MIND().source(root))
    assert log.items["labels"].to_list() == [["sports"], ["food and drink"], ["TV"], ["news"]]
    assert (
        log.items["text"][0] == 'The "Eagles" fly. sports. A game.' and log.items["text"][1] == "Soup. food and drink."
    )
    deeper = MIND().read(MIND().source(root, label="subcategory"))
    assert deeper.items["labels"].to_list() == [["football nfl"], ["recipes"], ["tv celebrity"], ["newsus"]]
    alone = MIND().read(MIND().source(root, parts="train-only"))
    assert alone.users.to_list() == ["U1", "U2"]


def test_the_test_part_gives_histories_only(tmp_path):
    root = write_mind(tmp_path)
    write_mind(tmp_path / "more", train=[("1", "U3", "11/20/2019 8:00:00 AM", "N3 N2 N1 N4", "N1 N2")])
    (tmp_path / "more" / "train").rename(root / "test")
    log = MIND().read(MIND().source(root, parts="with-test"))
    names = [log.items["id"][item] for item in log.events[2].tolist()]
    assert names == ["N3", "N2", "N1", "N4"]
    # N1 was clicked on the 15th, so it and what stands before it are no later; of N4 only the test log's begin is known.
    assert log.times[-4:].tolist() == [second(15, 8, 55, 22)] * 3 + [second(20, 8)]


def test_bounds_on_times_never_fall_within_a_user():
    row, times = np.array([0, 0, 0, 1, 1]), np.array([9, 5, 7, 8, 3], np.int64)
    assert never_falling(row, times).tolist() == [5, 5, 7, 3, 3]


def test_names_with_variants_and_splits(tmp_path):
    root = write_mind(tmp_path)
    for name in ("mind", "mind@subcategory", "mind@train-only+loo", "mind@loo+subcategory"):
        assert len(load_dataset(name, root, SilentProgress()).catalogue) > 1
    with pytest.raises(InputError, match="'category' and 'subcategory' exclude each other"):
        load_dataset("mind@category+subcategory", root, SilentProgress())
    with pytest.raises(InputError, match=r"unknown split or variant of mind 'globl'\. Did you mean 'global'"):
        load_dataset("mind@globl", root, SilentProgress())


def test_ways_of_preparing_are_compared_with_the_paper(tmp_path):
    found = MIND().against_paper(write_mind(tmp_path))
    assert found["published"]["users"] == 265_016 and round(found["published"]["mean_length"], 2) == 46.70
    assert set(found["variants"]) == {
        f"{parts}, {core}"
        for parts in ("train-only", "train-and-dev")
        for core in ("fixpoint", "one pass", "users only")
    }
    assert found["variants"]["train-and-dev, fixpoint"]["events"] == 10
    assert found["nearest"].startswith("train-and-dev")


def replaced(rows, number: int, place: int, value: str):
    return [
        tuple(value if (r, c) == (number, place) else field for c, field in enumerate(row))
        for r, row in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"train": replaced(TRAIN, 1, 1, "")}, "line 2: the user is empty"),
        ({"train": replaced(TRAIN, 2, 2, "2019-11-09")}, "line 3: the time must read like"),
        ({"dev": replaced(DEV, 0, 2, "11/15/2999 1:00:00 AM")}, "line 1: the time lies in the future"),
        ({"train": replaced(TRAIN, 0, 4, "N3-1 N4")}, "line 1: what was shown must read like N1-0 N2-1"),
        ({"train": replaced(TRAIN, 0, 4, "")}, "line 1: no news was shown"),
        ({"train": replaced(TRAIN, 0, 4, "N9-1")}, "line 1: news.tsv does not have the clicked 'N9'"),
        ({"train": replaced(TRAIN, 0, 3, "N1 N8")}, "a history names 'N8', which news.tsv does not have"),
        ({"train": [row[:4] for row in TRAIN]}, "line 1: expected 5 fields, found 4"),
        ({"train": [*TRAIN, ("4", "U1", "11/11/20")]}, "line 4: expected 5 fields, found 3"),
        ({"news": replaced(NEWS, 1, 1, " ")}, "line 2: the category is empty"),
        ({"news": replaced(NEWS, 2, 3, "")}, "line 3: the title is empty"),
        ({"news": [*NEWS, NEWS[0]]}, "news 'N1' stands there twice"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, change, told):
    with pytest.raises(InputError, match=told) as caught:
        MIND().load(write_mind(tmp_path, **change))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_one_id_for_two_news_is_refused(tmp_path):
    root = write_mind(tmp_path)
    text = (root / "dev" / "news.tsv").read_text()
    (root / "dev" / "news.tsv").write_text(text.replace("Soup", "Stew"))
    with pytest.raises(InputError, match=r"news 'N2' stands for different things.*Soup.*Stew"):
        MIND().load(root)


def test_a_wrong_folder_is_told(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        MIND().load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"train/behaviors\.tsv is missing: .*MINDlarge_train"):
        MIND().load(tmp_path)
    with pytest.raises(InputError, match="terms are to be accepted"):
        MIND().load(None)
    root: Path = write_mind(tmp_path)
    with pytest.raises(InputError, match=r"test/behaviors\.tsv is missing"):
        MIND().load(root, parts="with-test")
