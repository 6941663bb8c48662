"""The proxy's scale: exact, bounded, free of order, and the same for everybody who sees the same."""

from __future__ import annotations

import itertools
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.contracts import ASPECTS, Lists, Ragged, Requests
from bench.progress import SilentProgress
from judges.proxy import Proxy
from tests.conftest import small_dataset


class Words:
    """An encoder that gives every word a direction of its own; texts that share words are near."""

    card, identity = None, "words"

    def encode(self, texts, progress=None):
        rows = [
            sum(np.random.default_rng(zlib.crc32(word.encode())).normal(size=24) for word in text.split())
            for text in texts
        ]
        found = np.array(rows, np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def judge_of(dataset):
    judge = Proxy()
    judge.__dict__["encoder"] = Words()
    judge.prepare(dataset.for_training(), SilentProgress())
    return judge


SMALL = small_dataset(items=12)
JUDGE = judge_of(SMALL)


def scored(items, history=(0, 1, 2, 3), prompt="a plot of mood, please", judge=JUDGE):
    requests = Requests(np.zeros(1, np.int32), Ragged.of([list(history)]), (prompt,))
    padded = np.full((1, 10), -1, np.int32)
    padded[0, : len(items)] = items
    ((row, verdict),) = judge.judge(Lists(requests, padded))
    assert row == 0
    return verdict


def test_the_worst_list_has_1_and_the_best_10():
    """Against all lists of three that could be made."""
    every = [scored(items).scores for items in itertools.combinations(range(4, 12), 3)]
    for aspect in ASPECTS[:2]:
        values = [scores[aspect] for scores in every]
        assert min(values) == pytest.approx(1, abs=1e-5) and max(values) == pytest.approx(10, abs=1e-5)
        # Linear: the mean over all lists lies where the mean nearness lies.
    near = JUDGE.intent(Words().encode(["a plot of mood, please"])[0])[4:]
    worst, best = np.sort(near)[:3].mean(), np.sort(near)[-3:].mean()
    expected = 1 + 9 * (near.mean() - worst) / (best - worst)
    assert np.mean([scores[ASPECTS[1]] for scores in every]) == pytest.approx(expected, abs=1e-3)


@given(st.permutations(range(4, 12)), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_order_changes_nothing_and_overall_lies_between(order, size):
    items = order[:size]
    one, other = scored(items).scores, scored(items[::-1]).scores
    assert one == other and all(1 <= value <= 10 for value in one.values())
    alignment, intent, overall = (one[aspect] for aspect in ASPECTS)
    assert overall == pytest.approx((alignment + 2 * intent) / 3)


def test_the_words_move_the_intent_alone():
    items = [5, 7, 9]
    one, other = scored(items).scores, scored(items, prompt="zzz qqq").scores
    assert one["history_alignment"] == other["history_alignment"]
    assert one["intent_fulfillment"] != other["intent_fulfillment"]
    third = scored(items, history=(0, 1, 2)).scores
    assert third["history_alignment"] != one["history_alignment"]


def test_where_nothing_can_be_told_apart_there_is_no_score():
    """One unseen item alone: the list is the best and the worst at once."""
    verdict = scored([11], history=tuple(range(11)))
    assert verdict.scores is None and verdict.failure == "no_scale"


def test_reasons_say_where_the_scale_lies():
    verdict = scored([5, 7, 9])
    assert "worst list" in verdict.reasons["intent_fulfillment"] and "best" in verdict.reasons["history_alignment"]


def test_items_without_tags_are_read_by_their_text():
    bare = replace(SMALL, catalogue=replace(SMALL.catalogue, train_tags=()))
    judge = judge_of(bare)
    texts = Words().encode(list(bare.catalogue.texts))
    words = Words().encode(["a film"])[0]
    assert judge.intent(words) == pytest.approx(texts @ words, abs=1e-6)
