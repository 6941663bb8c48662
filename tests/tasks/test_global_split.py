"""One cut through all users at once, and what the per-user split leaks beside it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.cards import DatasetCard
from bench.contracts import Ragged
from bench.errors import InputError
from bench.progress import SilentProgress
from bench.scoring import load_dataset
from tasks.datasets.base import Item, assemble, split_moments
from tasks.datasets.movielens import trusted_clock
from tasks.statistics import LEAKS, dataset_statistics, leakage

CARD = DatasetCard(name="made", summary="made up", domain="news", source="here", windows=(1,))


def made(rows: list[list[tuple[int, int]]], split: str):
    """A dataset of (item, time) pairs, a list a user."""
    items = [Item(f"i{number}", f"T{number}", f"T{number}", ("L",)) for number in range(12)]
    events = Ragged.of([[item for item, _ in row] for row in rows])
    times = np.array([when for row in rows for _, when in row], np.int64)
    return assemble(CARD, items, [f"u{row}" for row in range(len(rows))], events, split, times)


ROWS = st.lists(
    st.lists(st.integers(0, 11), min_size=1, max_size=10, unique=True).flatmap(
        lambda items: st.lists(st.integers(0, 40), min_size=len(items), max_size=len(items)).map(
            lambda times: list(zip(items, sorted(times), strict=True))
        )
    ),
    min_size=2,
    max_size=12,
)


@settings(deadline=None, max_examples=150)
@given(rows=ROWS)
def test_train_ends_before_validation_and_that_before_test_for_everybody(rows):
    times = np.array([when for row in rows for _, when in row])
    try:
        train_last, valid_last = split_moments(times)
    except InputError:
        ordered = np.sort(times)
        after = ordered[ordered > ordered[max(len(ordered) * 8 // 10 - 1, 0)]]
        assert len(set(after.tolist())) < 2
        return
    assert (times <= train_last).mean() >= 0.8 - 1 / len(times) and train_last < valid_last < times.max()
    dataset = made(rows, "global")
    assert leakage(dataset) == dict.fromkeys(LEAKS, 0.0)
    for row, user in enumerate(dataset.user_ids):
        told = rows[int(user[1:])]
        mine = dataset.times[dataset.events.offsets[row] : dataset.events.offsets[row + 1]]
        train, valid = dataset.train_end[row], dataset.valid_end[row]
        assert train > 0 and train == sum(when <= train_last for _, when in told)
        assert (mine[:train] <= train_last).all() and (mine[valid:] > valid_last).all()
        assert ((mine[train:valid] > train_last) & (mine[train:valid] <= valid_last)).all()


def test_events_of_one_second_stay_together():
    assert split_moments(np.array([5] * 90 + [6, 7, 8, 9])) == (5, 7)
    # Of 13 events the tenth is one of the last second's, which then belongs to train as a whole: nothing is left.
    with pytest.raises(InputError):
        split_moments(np.array([1] * 8 + [2] + [3] * 4))


def test_too_few_moments_are_refused():
    with pytest.raises(InputError, match="cannot be split at one moment"):
        made([[(0, 5), (1, 5)], [(2, 5), (3, 5), (1, 6)]], "global")


def test_the_leak_of_the_per_user_split_is_counted():
    # User 0 lives before user 1; item 9 is trained on only after user 0's test event with it.
    early = [(8, 0)] + [(item, 1 + item) for item in range(8)] + [(9, 9)]
    late = [(9, 20)] + [(item, 21 + item) for item in range(9)]
    found = leakage(made([early, late], "ratio"))
    assert found["test_events_before_a_train_event"] == 0.5
    # 8 of 16 train events are later than user 0's test event, none than user 1's.
    assert found["train_events_after_a_test_event"] == pytest.approx(0.25)
    assert found["test_items_first_trained_later"] == 0.5
    assert dataset_statistics(made([early, late], "ratio"))["leakage"] == found


def test_training_sees_no_later_time(tmp_path):
    dataset = made([[(item, 10 * item) for item in range(10)], [(9 - item, 3 * item) for item in range(10)]], "ratio")
    shown = dataset.for_training()
    assert len(shown.times) == len(shown.events.values) and shown.times.max() == 80


@pytest.mark.parametrize("name", ["mini@global"])
def test_data_without_a_clock_refuse(name):
    with pytest.raises(InputError, match="'mini' has no clock, only each user's order of events"):
        load_dataset(name, None, SilentProgress())


def test_timestamps_that_only_order_are_no_clock():
    assert trusted_clock(np.array([956703932, 956706245])) is None
    real = np.array([956703932, 1046454590])
    assert trusted_clock(real) is real
    assert "leakage" not in dataset_statistics(load_dataset("mini", None, SilentProgress()))
