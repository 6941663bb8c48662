"""From loose events to a log, against a plain reading of the same rules."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import InputError
from tasks.datasets.event_log import UserCodes, core_counts, settle

EVENTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=60)


def items(size: int = 6) -> pl.DataFrame:
    ids = [f"i{number}" for number in range(size)]
    return pl.DataFrame({"id": ids, "title": ids, "text": ids, "labels": [["l"]] * size})


def log_of(rows, core, clock=True):
    users = UserCodes()
    codes = users.encode(pl.Series("user", [f"u{user}" for user, _, _ in rows]))
    frame = pl.DataFrame([codes, pl.Series("item", [item for _, item, _ in rows], pl.Int32)])
    if clock:
        frame = frame.with_columns(pl.Series("time", [when for _, _, when in rows]))
    return settle(frame, items(), users.table(), core)


def plain(rows, core):
    """User name to item names with times, by the definition."""
    kept: dict[tuple[int, int], int] = {}
    for user, item, when in sorted(rows, key=lambda row: row[2]):
        kept.setdefault((user, item), when)
    while True:
        per_user = {u: sum(1 for user, _ in kept if user == u) for u, _ in kept}
        per_item = {i: sum(1 for _, item in kept if item == i) for _, i in kept}
        left = {pair: when for pair, when in kept.items() if per_user[pair[0]] >= core and per_item[pair[1]] >= core}
        if len(left) == len(kept):
            break
        kept = left
    found: dict[str, list[tuple[str, int]]] = {}
    for (user, item), when in kept.items():
        found.setdefault(f"u{user}", []).append((f"i{item}", when))
    return found


@settings(deadline=None, max_examples=150)
@given(rows=EVENTS, core=st.integers(1, 4))
def test_order_repeats_and_core_follow_the_definition(rows, core):
    expected = plain(rows, core)
    distinct = {item for row in expected.values() for item, _ in row}
    if len(distinct) < 2:
        with pytest.raises(InputError, match=r"no event is left|only the item"):
            log_of(rows, core)
        return
    log = log_of(rows, core)
    assert log.users.to_list() == sorted(expected)
    assert log.items["id"].to_list() == sorted(distinct)
    for row, user in enumerate(sorted(expected)):
        names = [log.items["id"][item] for item in log.events[row].tolist()]
        times = log.times[log.events.offsets[row] : log.events.offsets[row + 1]].tolist()
        assert list(zip(names, times, strict=True)) == expected[user]


def test_without_a_clock_the_order_of_the_file_counts():
    log = log_of([(0, 3, 9), (1, 2, 0), (0, 1, 1), (0, 3, 0)], 1, clock=False)
    assert log.times is None and [log.items["id"][item] for item in log.events[0].tolist()] == ["i3", "i1"]


def test_readings_of_a_core_are_counted():
    import numpy as np

    # User 2 has two events; without it item 2 has one, and without that user 1 has one.
    row, item = np.array([0, 0, 1, 1, 2, 3, 3], np.int32), np.array([0, 1, 0, 2, 2, 0, 1], np.int32)
    counts = core_counts(row, item, 2)
    assert counts["users only"] == {"users": 3, "items": 3, "events": 6}
    assert counts["one pass"] == {"users": 3, "items": 3, "events": 6}
    assert counts["fixpoint"] == {"users": 2, "items": 2, "events": 4}


def test_a_catalogue_of_one_item_is_refused():
    with pytest.raises(InputError, match="only the item 'i4' is left: a catalogue needs at least two"):
        log_of([(0, 4, 0), (1, 4, 0)], 1)
