"""Filters, popularity and text retrieval: each does what its card says, with the information that its card admits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from baselines.genre_parser import GenreParser, RoutedSettings
from baselines.popularity import Popularity, PopularityInGenre, Random
from baselines.sasrec import FilterSAS, FilterSASParsed
from baselines.scorer import zscore
from baselines.text_retrieval import TextRetrieval, TextRetrievalSAS
from bench.contracts import Dataset, Intent, Ragged, Requests
from tests.conftest import ScratchContext

QUICK = {"dim": 16, "length": 12, "epochs": 1, "batch": 16}
WISH, REFUSAL = "I'm in the mood for a Comedy.", "No Comedy films tonight, please."


def asked(data: Dataset, *prompts: str, intent: Intent | None = None) -> Requests:
    size = len(prompts) or 4
    rows = np.arange(size)
    # Short histories, so that every genre has enough unseen items.
    history = Ragged.of([data.events[row][:5] for row in rows])
    return Requests(rows.astype(np.int32), history, prompts or None, intent)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Recommend a film in the Comedy genre.", ["Comedy"]),
        ("comedies and westerns, please", ["Comedy", "Western"]),
        ("anything but Sci-Fi", ["Sci-Fi"]),
        ("some science fiction", ["Sci-Fi"]),
        ("a kids movie", ["Children's"]),
        ("Animation, Children's and Comedy", ["Animation", "Children's", "Comedy"]),
        ("a warm, warlike reaction", []),
        ("film noir or a drama", ["Drama", "Film-Noir"]),
    ],
)
def test_genres_are_read_by_name(prompt: str, expected: list[str]) -> None:
    names = ["Action", "Animation", "Children's", "Comedy", "Drama", "Film-Noir", "Sci-Fi", "War", "Western"]
    parser = GenreParser(names, np.zeros((3, len(names)), bool), RoutedSettings())
    assert [names[label] for label in parser.labels(prompt)] == expected


def test_several_genres_mean_items_with_all_of_them() -> None:
    has = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], bool)
    wish, refusal = "I'd love an Action and Comedy film.", "Please leave out the combined Action and Comedy type."
    rules = {
        match: GenreParser(["Action", "Comedy"], has, RoutedSettings(match=match)).allowed((wish, refusal), 2)[0]
        for match in ("all", "any", "exact")
    }
    assert rules["all"].tolist() == [[False, False, True, False], [True, True, False, True]]
    assert rules["any"].tolist() == [[True, True, True, False], [False, False, False, True]]
    assert rules["exact"].tolist() == rules["all"].tolist()


def test_the_oracle_filter_keeps_the_backbones_order(small: Dataset, context: ScratchContext) -> None:
    model = FilterSAS(FilterSAS.Settings(backbone=QUICK))
    model.fit(small.for_training(), context)
    has = small.catalogue.label_matrix()
    intent = Intent(np.array([1, 2, -1], np.int32), np.ascontiguousarray(has.T), np.array([1, 1, 0], np.int8))
    plain, filtered = (model.rank(asked(small, "a", "b", "c", intent=given), 5) for given in (None, intent))
    assert has[filtered.items[0], 1].all() and has[filtered.items[1], 2].all()
    assert (filtered.items[2] == plain.items[2]).all()
    deep = model.rank(asked(small, "a", "b", "c"), 40).items[0]
    assert filtered.items[0].tolist() == [v for v in deep.tolist() if v >= 0 and has[v, 1]][:5]


def test_the_parsed_filter_hears_wishes_and_refusals(small: Dataset, context: ScratchContext, tmp_path: Path) -> None:
    model = FilterSASParsed(FilterSASParsed.Settings(backbone=QUICK))
    model.fit(small.for_training(), context)
    comedy = small.catalogue.label_matrix()[:, 1]
    ranking = model.rank(asked(small, WISH, REFUSAL, "Something for a rainy day."), 3)
    assert comedy[ranking.items[0]].all() and not comedy[ranking.items[1]].any()
    assert ranking.extras["polarity"].tolist()[:2] == [1, -1]
    assert (ranking.items[2] == model.backbone.rank(asked(small, "a", "b", "c"), 3).items[2]).all()
    model.save(tmp_path)
    assert (
        FilterSASParsed.load(tmp_path, model.settings).rank(asked(small, WISH, REFUSAL), 3).items == ranking.items[:2]
    ).all()


def test_popularity_and_random(small: Dataset, context: ScratchContext) -> None:
    view = small.for_training()
    counts = np.bincount(view.events.values, minlength=len(small.catalogue))
    model = Popularity()
    model.fit(view, context)
    nobody = Requests(np.zeros(1, np.int32), Ragged.of([[]]), None)
    assert counts[model.rank(nobody, 1).items[0, 0]] == counts.max()
    inside = PopularityInGenre()
    inside.fit(view, context)
    comedy = small.catalogue.label_matrix()[:, 1]
    assert comedy[inside.rank(asked(small, WISH), 5).items[0]].all()
    chance = Random()
    chance.fit(view, context)
    assert (chance.rank(asked(small), 5).items == chance.rank(asked(small), 5).items).all()
    assert not (chance.rank(asked(small), 5).items[0] == chance.rank(asked(small), 5).items[1]).all()


def test_text_retrieval_finds_what_is_described(small: Dataset, context: ScratchContext, tmp_path: Path) -> None:
    import dataclasses

    texts = [f"An ordinary film number {v} about everyday errands" for v in range(len(small.catalogue))]
    texts[7], texts[9] = "A haunted lighthouse and the ghost of its keeper", "Two chefs compete for a bakery in Paris"
    catalogue = dataclasses.replace(small.catalogue, texts=tuple(texts), train_tags=())
    data = dataclasses.replace(small, catalogue=catalogue).for_training()
    model = TextRetrieval()
    model.fit(data, context)
    nobody = Requests(
        np.zeros(2, np.int32), Ragged.of([[], []]), ("spirits in an old lighthouse", "rival cooks in France")
    )
    assert model.rank(nobody, 1).items[:, 0].tolist() == [7, 9]
    away = Requests(np.zeros(1, np.int32), Ragged.of([[]]), ("Please, no more haunted lighthouses!",))
    assert model.rank(away, 40).items[0, -1] == 7
    both = TextRetrievalSAS(TextRetrievalSAS.Settings(backbone=QUICK, weight=50.0))
    both.fit(data, context)
    assert both.rank(nobody, 1).items[:, 0].tolist() == [7, 9]
    both.save(tmp_path)
    again = TextRetrievalSAS.load(tmp_path, both.settings)
    assert (again.rank(nobody, 10).items == both.rank(nobody, 10).items).all()
    alone = dataclasses.replace(nobody, prompts=None)
    assert (both.rank(alone, 5).items == both.backbone.rank(alone, 5).items).all()


def test_zscore_ignores_barred_items() -> None:
    scores = np.array([[1.0, 2.0, 3.0, -np.inf]], np.float32)
    scaled = zscore(scores)
    assert np.isneginf(scaled[0, 3])
    assert abs(scaled[0, :3].mean()) < 1e-6 and abs(scaled[0, :3].std() - 1) < 1e-6
