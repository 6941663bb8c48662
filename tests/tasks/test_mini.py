"""The generated dataset: the same bytes everywhere, and the structure that its card promises."""

import re
from pathlib import Path

import numpy as np
import pytest

from bench.contracts import Dataset
from bench.errors import InputError
from tasks.datasets.base import DatasetEntry
from tasks.datasets.mini import SEED, Mini, simulate, weighted
from tasks.datasets.mini_catalogue import GENRE_SIZES, read_grammar, write_items
from tasks.statistics import dataset_statistics

FINGERPRINT = "5f8e3e0144aaf4c7bbbb0d66ebc8d2e95884a371324abffbdc0723bd628c514b"
FUNCTION_WORDS = """
a an the of in on at by for to and or with from that this who which is are was be been their its his her one not no as into
over under through along among amid around inside within beside beneath upon before after across during between while
against than how
"""
GENRE_WORDS = re.compile(
    r"\b(action|animat\w+|comed\w+|crim\w+|document\w+|drama\w*|fantas\w+|horr\w+|music\w*|roman\w+|sci-?fi|western\w*)",
    re.I,
)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Mini().load()


def content_words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower())) - set(FUNCTION_WORDS.split())


def test_same_bytes_on_every_machine(dataset):
    assert dataset.fingerprint == FINGERPRINT
    assert Mini().load().fingerprint == FINGERPRINT


def test_another_seed_gives_other_data():
    items = write_items(SEED + 1)
    assert [item.title for item in items] != [item.title for item in write_items(SEED)]
    assert simulate(SEED + 1, items, 20).values.tolist() != simulate(SEED, write_items(SEED), 20).values.tolist()


def test_a_folder_is_refused():
    assert isinstance(Mini(), DatasetEntry)
    with pytest.raises(InputError, match="leave out `--data-dir`"):
        Mini().load(Path("somewhere"))


def test_sizes(dataset):
    statistics = dataset_statistics(dataset)
    assert statistics["users"] == 1200 and statistics["items"] == 600
    assert 80_000 < statistics["events"] < 110_000
    assert sum(statistics["splits"].values()) == statistics["events"]
    assert statistics["users_with_test_events"]["3"] == 1200
    assert statistics["users_with_test_events"]["10"] >= 300
    assert set(statistics) >= {"users", "items", "events", "mean_length", "density", "fingerprint", "labels"}
    assert statistics["density"] == pytest.approx(statistics["mean_length"] / 600)


def test_events_do_not_repeat_and_splits_are_ordered(dataset):
    for row in range(len(dataset.events)):
        assert len(set(dataset.events[row].tolist())) == len(dataset.events[row])
    assert (dataset.train_end <= dataset.valid_end).all() and (dataset.valid_end <= dataset.events.lengths).all()


def test_catalogue(dataset):
    catalogue = dataset.catalogue
    assert len(set(catalogue.titles)) == len(catalogue)
    assert all(re.fullmatch(r"The \w+ \w+ \((19|20)\d\d\)", title) for title in catalogue.titles)
    assert set(catalogue.label_names) == set(read_grammar().genres) and len(catalogue.label_names) == 12
    assert set(catalogue.labels.lengths.tolist()) == {1, 2, 3}
    first = np.bincount(catalogue.labels.values[catalogue.labels.offsets[:-1]])
    assert sorted(first.tolist()) == sorted(GENRE_SIZES)
    assert all(text.startswith(title) for text, title in zip(catalogue.texts, catalogue.titles, strict=True))


def test_tags_reword_the_same_facts_without_naming_a_genre(dataset):
    catalogue = dataset.catalogue
    overlaps = []
    for train, evaluation in zip(catalogue.train_tags, catalogue.eval_tags, strict=True):
        assert len(train) == len(evaluation) == 3
        for old, new in zip(train, evaluation, strict=True):
            words = content_words(new)
            overlaps.append(len(words & content_words(old)) / len(words))
            assert not GENRE_WORDS.search(old + " " + new)
    assert np.mean(overlaps) < 0.15
    # Narrative tags tell films apart; atmosphere and appeal are shared by a few.
    assert len({tags[0] for tags in catalogue.train_tags}) == len({tags[0] for tags in catalogue.eval_tags}) == 600


def test_weighted_choice_follows_the_weights_and_never_takes_weight_zero():
    weights = np.tile(np.array([0, 3, 0, 1, 0]), (4, 1))
    draws = np.array([0.0, 0.7499, 0.75, 1 - 2.0**-53])
    assert weighted(draws, weights).tolist() == [1, 1, 3, 3]


def ndcg_at_10(scores: np.ndarray, seen: np.ndarray, target: np.ndarray) -> float:
    rows = np.arange(len(target))
    scores = np.where(seen, -np.inf, scores)
    rank = (scores > scores[rows, target][:, None]).sum(axis=1)
    return float(np.where(rank < 10, 1 / np.log2(rank + 2.0), 0).mean())


@pytest.fixture(scope="module")
def controls(dataset) -> dict[str, float]:
    """NDCG@10 of the first test event, fitted on train counts."""
    size, train = len(dataset.catalogue), dataset.train_events()
    popularity = np.bincount(train.values, minlength=size).astype(float)
    pairs = np.arange(len(train.values) - 1)
    pairs = pairs[~np.isin(pairs + 1, train.offsets)]
    follows = np.zeros((size, size))
    np.add.at(follows, (train.values[pairs], train.values[pairs + 1]), 1)
    users = np.flatnonzero(dataset.events.lengths > dataset.valid_end)
    start = dataset.events.offsets[users] + dataset.valid_end[users]
    target, last = dataset.events.values[start], dataset.events.values[start - 1]
    seen = np.zeros((len(users), size), bool)
    for row, user in enumerate(users):
        seen[row, dataset.events[user][: dataset.valid_end[user]]] = True
    markov = follows[last] + 1e-3 * popularity
    first_label = dataset.catalogue.labels.values[dataset.catalogue.labels.offsets[target]]
    in_genre = dataset.catalogue.label_matrix()[:, first_label].T
    flat = np.tile(popularity, (len(users), 1))
    return {
        "popularity": ndcg_at_10(flat, seen, target),
        "popularity in genre": ndcg_at_10(np.where(in_genre, flat, -1), seen, target),
        "markov": ndcg_at_10(markov, seen, target),
        "markov in genre": ndcg_at_10(np.where(in_genre, markov, -1), seen, target),
    }


def test_order_carries_information(controls):
    assert controls["popularity"] > 0.02
    assert controls["markov"] > 5 * controls["popularity"]


def test_a_prompt_carries_information(controls):
    assert controls["popularity in genre"] > 2 * controls["popularity"]
    assert controls["markov in genre"] > 1.25 * controls["markov"]
