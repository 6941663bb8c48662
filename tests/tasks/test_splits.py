"""Leave-one-out as another split of a dataset."""

from __future__ import annotations

import numpy as np
import pytest

from bench import scoring
from bench.errors import InputError
from bench.progress import SilentProgress
from tasks.datasets.base import split_points
from tasks.sequential import Sequential


def test_leave_one_out_keeps_the_last_event_for_test() -> None:
    """Of every user the last event is the test and the one before validation, unless train knows nothing of the item."""
    own, loo = (scoring.load_dataset(name, None, SilentProgress()) for name in ("mini", "mini@loo"))
    assert loo.fingerprint != own.fingerprint
    n = loo.events.lengths
    assert ((n - loo.train_end <= 2) & (n - loo.valid_end <= 1) & (loo.train_end > 0)).all()
    assert (n - loo.valid_end == 1).mean() > 0.99
    examples = Sequential(Sequential.Settings()).examples(loo, split="test", seed=0)
    assert (examples.targets.items.lengths == 1).all()
    users = examples.requests.users
    assert (examples.targets.items.values == loo.events.values[loo.events.offsets[users + 1] - 1]).all()
    assert (examples.requests.history.lengths == n[users] - 1).all()


def test_short_histories_give_no_negative_points() -> None:
    train, valid = split_points(np.array([0, 1, 2, 3, 10]), "loo")
    assert train.tolist() == [0, 0, 0, 1, 8] and valid.tolist() == [0, 0, 1, 2, 9]


@pytest.mark.parametrize(("name", "told"), [("mini@lo", "Did you mean 'loo'"), ("min@loo", "Did you mean 'mini'")])
def test_a_wrong_split_gets_a_suggestion(name: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        scoring.load_dataset(name, None, SilentProgress())
