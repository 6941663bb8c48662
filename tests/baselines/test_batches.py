"""Windows and buckets: every transition once, no padding that is trained on."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.backbones.batches import bucket, cut_windows, padded
from bench.contracts import Ragged


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=12), st.integers(2, 20), st.integers(0, 99))
def test_every_event_but_the_first_is_a_target_once(lengths: list[int], length: int, seed: int) -> None:
    events = Ragged.of([list(range(n)) for n in lengths])
    windows = cut_windows(events, length, np.random.default_rng(seed))
    targets = [at for start, stop in zip(windows.start, windows.stop, strict=True) for at in range(start + 1, stop)]
    expected = [at for u in range(len(lengths)) for at in range(events.offsets[u] + 1, events.offsets[u + 1])]
    assert sorted(targets) == expected
    assert ((windows.stop - windows.start) <= length + 1).all()
    assert (windows.start >= events.offsets[windows.user]).all()
    assert (windows.stop <= events.offsets[windows.user + 1]).all()


@given(st.lists(st.integers(2, 201), min_size=1, max_size=300), st.integers(1, 64), st.integers(0, 99))
def test_buckets_hold_every_row_once_and_stay_within_their_slots(lengths: list[int], batch: int, seed: int) -> None:
    sizes = np.array(lengths)
    groups = list(bucket(sizes, batch, np.random.default_rng(seed)))
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    assert all(len(group) * sizes[group].max() <= batch * sizes.max() or len(group) == 1 for group in groups)


def test_padding_stands_at_the_right() -> None:
    items, real = padded(np.arange(10, 20, dtype=np.int32), np.array([0, 4]), np.array([3, 5]))
    assert real.tolist() == [[True, True, True], [True, False, False]]
    assert items[0].tolist() == [10, 11, 12]
    assert items[1, 0] == 14
