"""SEQ, POS and NEG as the protocol settles them, and what a model can never learn from a request."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.contracts import Dataset, Examples, Ragged
from tasks.negative import Negative
from tasks.positive import Positive
from tasks.prompted import PromptedSettings
from tasks.queries import closest
from tasks.sequential import Sequential
from tests.conftest import small_dataset

ML1M = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "ml-1m"
CASES = list(itertools.product((Positive, Negative), ("paper", "strict"), ("genre", "genres", "tag")))


def make(
    task, dataset: Dataset, protocol: str = "paper", kind: str = "genre", split: str = "test", seed: int = 0
) -> Examples:
    return task(PromptedSettings(protocol=protocol, prompt_kind=kind)).examples(dataset, split=split, seed=seed)


def labels_of(dataset: Dataset, item: int) -> set[int]:
    return set(dataset.catalogue.labels[item].tolist())


@pytest.mark.parametrize(("task", "protocol", "kind"), CASES)
def test_targets_comply_and_lie_in_the_future(small: Dataset, task, protocol: str, kind: str) -> None:
    examples = make(task, small, protocol, kind)
    assert set(examples.targets.window.tolist()) == {1, 2}
    for b in range(len(examples)):
        user, items = int(examples.requests.users[b]), examples.targets.items[b]
        future = small.events[user][small.valid_end[user] :]
        assert set(items.tolist()) <= set(future.tolist())
        assert examples.targets.intent.allowed[examples.targets.intent.rule[b], items].all()
        assert (examples.requests.history[b] == small.events[user][: small.valid_end[user]]).all()


@pytest.mark.parametrize("kind", ["genre", "genres", "tag"])
def test_pos_by_definition(small: Dataset, kind: str) -> None:
    examples = make(Positive, small, kind=kind)
    assert (examples.targets.items.lengths == 1).all()
    expected = 0
    for n, user in itertools.product((1, 2), range(len(small.user_ids))):
        last = labels_of(small, small.events[user][small.valid_end[user] - 1])
        fitting = [v for v in small.events[user][small.valid_end[user] :].tolist() if labels_of(small, v) - last]
        rows = np.flatnonzero((examples.requests.users == user) & (examples.targets.window == n))
        assert len(rows) == (len(fitting) >= n)
        if not len(rows):
            continue
        expected += 1
        target, label = int(examples.targets.items[rows[0]][0]), int(examples.targets.intent.rule[rows[0]])
        assert target in fitting[:n]
        assert label in labels_of(small, target) - last
        prompt = examples.requests.prompts[rows[0]]
        names = small.catalogue.label_names
        if kind == "tag":
            assert prompt in small.catalogue.eval_tags[target]
        elif kind == "genre":
            assert names[label] in prompt
        else:
            assert all(names[own] in prompt for own in labels_of(small, target))
    assert expected == len(examples)


@pytest.mark.parametrize("protocol", ["paper", "strict"])
def test_neg_by_definition(small: Dataset, protocol: str) -> None:
    examples = make(Negative, small, protocol)
    for n, user in itertools.product((1, 2), range(len(small.user_ids))):
        future = small.events[user][small.valid_end[user] :].tolist()
        rows = np.flatnonzero((examples.requests.users == user) & (examples.targets.window == n))
        following = labels_of(small, future[0])
        if protocol == "paper":
            fitting = [v for v in future if labels_of(small, v) != following]
            assert len(rows) == (len(fitting) >= n)
        if not len(rows):
            continue
        if protocol == "strict":
            avoided = int(examples.targets.intent.rule[rows[0]])
            assert avoided in following
            fitting = [v for v in future if avoided not in labels_of(small, v)]
            assert small.catalogue.label_names[avoided] in examples.requests.prompts[rows[0]]
        assert examples.targets.items[rows[0]].tolist() == fitting[:n]
        assert future[0] not in examples.targets.items[rows[0]]


def test_seq_asks_for_the_next_item(small: Dataset) -> None:
    examples = Sequential().examples(small, split="test", seed=0)
    assert examples.requests.prompts is None
    for b in range(len(examples)):
        user = int(examples.requests.users[b])
        assert examples.targets.items[b].tolist() == [small.events[user][small.valid_end[user]]]
    rolling = Sequential(Sequential.Settings(positions="rolling")).examples(small, split="test", seed=0)
    assert len(rolling) == int((small.events.lengths - small.valid_end).sum())


@pytest.mark.parametrize(("task", "protocol", "kind"), CASES)
def test_same_seed_same_examples(small: Dataset, task, protocol: str, kind: str) -> None:
    one, two, other = (make(task, small, protocol, kind, seed=seed) for seed in (3, 3, 4))
    assert one.requests.prompts == two.requests.prompts
    assert (one.targets.items.values == two.targets.items.values).all()
    assert one.requests.prompts != other.requests.prompts


def test_conditions_and_protocols_differ_in_words_only_where_they_should(small: Dataset) -> None:
    by_kind = [make(Positive, small, kind=kind).targets for kind in ("genre", "genres", "tag")]
    for targets in by_kind[1:]:
        assert (targets.items.values == by_kind[0].items.values).all()
        assert (targets.intent.rule == by_kind[0].intent.rule).all()
    both = [make(Positive, small, protocol=protocol) for protocol in ("paper", "strict")]
    assert both[0].requests.prompts == both[1].requests.prompts
    assert (both[0].targets.items.values == both[1].targets.items.values).all()
    strict = [make(Negative, small, "strict", kind) for kind in ("genre", "genres", "tag")]
    assert strict[0].requests.prompts == strict[1].requests.prompts == strict[2].requests.prompts
    whole = [make(Negative, small, "paper", kind).requests.prompts for kind in ("genre", "genres", "tag")]
    assert whole[0] != whole[1] == whole[2]


def test_a_request_carries_nothing_hidden(small: Dataset) -> None:
    """What a model receives: users, history, prompts. No target, label or polarity can be reached from it."""
    examples = make(Positive, small, kind="tag")
    fields = {field.name for field in dataclasses.fields(examples.requests)}
    assert fields == {"users", "history", "prompts", "intent"}
    assert examples.requests.intent is None
    view = small.for_training()
    assert view.catalogue.eval_tags == ()
    for user in range(len(small.user_ids)):
        assert (view.events[user] == small.events[user][: small.valid_end[user]]).all()
    assert len(view.events.values) == int(small.valid_end.sum())
    arrays = list(vars(view.events).values())
    # Not even a view of the memory in which test events lie.
    assert all(array.base is None or not np.shares_memory(array, small.events.values) for array in arrays)


def test_without_tags_the_condition_is_refused_and_not_guessed() -> None:
    from bench.errors import InputError

    with pytest.raises(InputError, match="without evaluation tags"):
        make(Positive, small_dataset(tags=False), kind="tag")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.booleans(), max_size=8), min_size=1, max_size=6), st.integers(1, 4))
def test_closest_by_definition(rows: list[list[bool]], n: int) -> None:
    future = Ragged.of([list(range(len(row))) for row in rows])
    comply = np.array([value for row in rows for value in row], bool)
    enough, near = closest(future, comply, n)
    at = 0
    for b, row in enumerate(rows):
        mine = [index for index, value in enumerate(row) if value]
        assert enough[b] == (len(mine) >= n)
        assert np.flatnonzero(near[at : at + len(row)]).tolist() == mine[:n]
        at += len(row)


@pytest.mark.skipif(not ML1M.is_dir(), reason="MovieLens-1M is not beside the checkout")
def test_movielens_example_counts() -> None:
    from tasks.datasets.movielens import MovieLens1M

    dataset = MovieLens1M().load(ML1M)
    count = lambda task, protocol: np.bincount(make(task, dataset, protocol).targets.window)[[3, 5, 10]].tolist()  # noqa: E731
    assert count(Positive, "paper") == [5298, 4081, 2541]
    assert count(Negative, "paper") == [5009, 4049, 2700]
    assert count(Negative, "strict")[0] < 5009
