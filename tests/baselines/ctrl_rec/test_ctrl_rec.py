"""CTRL-Rec: what is asked and paired, what the towers learn, how their verdict is added to a base, and how the weight is chosen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from baselines.ctrl_rec.adapter import CTRLRec, CTRLRecLite
from baselines.ctrl_rec.combination import Point, Trial, best_weight, chosen_weights, combine, curve
from baselines.ctrl_rec.compliance import compliance
from baselines.ctrl_rec.control_requests import ControlRequest, cards_without, request_bank
from baselines.ctrl_rec.judged import MixedPairs, Pairs
from baselines.ctrl_rec.pairs import propose
from baselines.ctrl_rec.reachability import reachability
from baselines.ctrl_rec.towers import Distillation, Towers
from bench.cards import ModelCard
from bench.cli import main as cli
from bench.contracts import NEGATIVE, NO_ITEM, POSITIVE, Catalogue, Dataset, Intent, Ragged, Ranking, Requests
from bench.errors import InputError
from bench.progress import SilentProgress
from bench.ranking import top_k
from tasks.datasets.mini import Mini
from tasks.label_words import LabelWords
from tasks.prompt_pools import render, templates
from tests.conftest import ScratchContext
from tests.tools.word_vectors import WordVectors

TINY = {"backbone": {"dim": 16, "length": 12, "epochs": 1, "batch": 16}, "mf": {"factors": 8, "iterations": 4}}


@pytest.fixture(scope="module")
def mini() -> Dataset:
    return Mini().load(None)


def lite(data: Dataset, context: ScratchContext, **settings: object) -> CTRLRecLite:
    model = CTRLRecLite(CTRLRecLite.Settings.model_validate(TINY | settings))
    model.encoder = WordVectors()
    model.fit(data.for_training(), context)
    return model


def catalogue(*labels: tuple[int, ...], tags: tuple[tuple[str, ...], ...] = ()) -> Catalogue:
    ids = tuple(map(str, range(len(labels))))
    return Catalogue(ids, ids, ids, ("Drama", "Comedy", "War"), Ragged.of(labels), tags)


def test_the_sum_is_that_of_z_scores_over_unseen_items() -> None:
    """By hand: unseen base 0, 2, 4 has mean 2 and deviation 1.63299; unseen approval 1, 0, 0 mean 1/3 and deviation .47140."""
    base = np.array([[0, 2, 4, 90]], np.float32)
    approval = np.array([[1, 0, 0, 0.7]], np.float32)
    seen = Ragged.of([[3]])
    z, v = np.array([-1.22474, 0, 1.22474]), np.array([1.41421, -0.70711, -0.70711])
    for weight in (0.0, 0.25, 2.0):
        made = combine(base, approval, seen, weight)
        np.testing.assert_allclose(made[0, :3], z + weight * v, atol=1e-4)
        assert np.isfinite(made).all()
    two = combine(np.repeat(base, 2, 0), np.repeat(approval, 2, 0), Ragged.of([[3], [3]]), np.array([0.0, 2.0]))
    np.testing.assert_allclose(two[:, :3], np.stack([z, z + 2 * v]), atol=1e-4)


@given(st.integers(2, 30), st.floats(0, 8), st.integers(0, 2**32 - 1))
def test_seen_items_and_the_scale_of_scores_do_not_matter(n_items: int, weight: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    base, approval = rng.normal(size=(1, n_items)), rng.random((1, n_items))
    base32, approval32 = base.astype(np.float32), approval.astype(np.float32)
    seen = Ragged.of([[0]])
    one = combine(base32, approval32, seen, weight)
    base32[0, 0] = 1e3
    other = combine(3 * base32 + 5, approval32, seen, weight)
    np.testing.assert_allclose(one[:, 1:], other[:, 1:], atol=1e-2, rtol=1e-2)


def points(*values: float) -> list[Point]:
    return [Point(weight, value, 0, 0) for weight, value in zip((0.0, 1.0, 2.0), values, strict=True)]


def test_the_weight_is_the_best_on_validation_for_each_polarity_and_for_both() -> None:
    wishes = {"label": points(0.1, 0.2, 0.5), "tag": points(0.1, 0.3, 0.2)}  # means .10 .25 .35
    refusals = {"label": points(0.3, 0.3, 0.1)}  # the smaller of two equal ones
    assert chosen_weights(wishes, refusals) == {"pos": 2.0, "neg": 0.0, "shared": 1.0}  # means of both .20 .275 .225
    assert best_weight([]) == 1.0


def test_a_curve_says_what_a_weight_gains_and_costs() -> None:
    base = np.array([[3, 2, 1, 0, 9]] * 2, np.float32)
    approval = np.array([[0, 0, 0, 1, 0]] * 2, np.float32)
    history, targets = Ragged.of([[4], [4]]), Ragged.of([[0], [3]])
    allowed = np.array([[False, False, False, True, False]])
    intent = Intent(np.zeros(2, np.int32), allowed, np.ones(2, np.int8))
    none, strong = curve(Trial(base, approval, history, targets, intent), (0.0, 8.0))
    assert none.recall == strong.recall == 1.0 and none.compliance == strong.compliance == 0.1
    assert none.ndcg == pytest.approx((1 + 1 / np.log2(5)) / 2)
    assert strong.ndcg == pytest.approx((1 / np.log2(3) + 1) / 2)


def test_compliance_is_read_off_labels_and_tags() -> None:
    has = catalogue((0,), (0, 1), (1,), (2,)).label_matrix()
    everything = np.arange(4, dtype=np.int32)[None]

    def of(**values: object) -> list[float]:
        return compliance([ControlRequest("words", **values)], everything, has)[0].tolist()

    assert of(kind="label", named=(0,)) == [1, 1, 0, 0]
    assert of(kind="label", named=(0,), polarity=NEGATIVE) == [0, 0, 1, 1]
    assert of(kind="labels", named=(0, 1)) == [0.5, 1, 0.5, 0]
    assert of(kind="labels", named=(0, 1), polarity=NEGATIVE) == [1, 0, 1, 1]
    assert of(kind="tag", about=(1, 3)) == [0, 1, 0, 1]
    with pytest.raises(ValueError, match="labels do not tell"):
        of(kind="free")


def test_requests_are_training_words_alone_and_some_are_held_out(mini: Dataset) -> None:
    data = mini.for_training().catalogue
    bank = request_bank(data, "film", per_set=2, seed=0, free=["Something for a rainy day"] * 2)
    texts = bank.texts()
    assert len(set(texts)) == len(texts) and "Something for a rainy day" in texts
    for polarity in (POSITIVE, NEGATIVE):
        asked = {render(t, [name], polarity) for t in templates("film", polarity, "eval") for name in data.label_names}
        assert not asked & set(texts)
        learned = {render(t, ["Horror"], polarity) for t in templates("film", polarity, "train")}
        held = [r.held_out for r in bank.requests if r.text in learned]
        assert len(held) == 20 and sum(held) == 4
    assert not {tag for tags in mini.catalogue.eval_tags for tag in tags} & set(texts)
    tags = [request for request in bank.requests if request.kind == "tag"]
    assert {t for mine in data.train_tags for t in mine} == {r.text for r in tags}
    assert 0.05 < np.mean([request.held_out for request in tags]) < 0.15
    for request in tags:
        assert [v for v, mine in enumerate(data.train_tags) if request.text in mine] == list(request.about)
    # Another seed holds out other words, the same one the same.
    assert request_bank(data, "film", 2, 0).texts() == [text for text in texts if text != "Something for a rainy day"]
    held_tag, item = next((r.text, r.about[0]) for r in tags if r.held_out)
    shown = cards_without(data, bank)
    assert held_tag in data.texts[item] and held_tag not in shown[item]
    assert sum(text != whole for text, whole in zip(shown, data.texts, strict=True)) == len(bank.held_tags)


def test_twenty_items_of_three_sources_are_judged() -> None:
    near = np.random.default_rng(0).random((30, 50)).astype(np.float32)
    lists = np.array([[7, 3, 9, 11, 13, 15, 17, 19, 21, 23, NO_ITEM]], np.int32)
    items = propose(near, lists, seed=0)
    assert items.shape == (30, 20) and all(len(set(row)) == 20 for row in items.tolist())
    for row, best in zip(items, near, strict=True):
        nearest = np.argsort(-best)[:5]
        given = [item for item in lists[0] if item != NO_ITEM and item not in nearest][:5]
        assert row[:10].tolist() == [*nearest.tolist(), *given]
    assert (propose(near[10:], lists, 0, start=10) == items[10:]).all()
    assert propose(near[:, :8], lists[:, :1], 0).shape == (30, 8)


def test_an_epoch_meets_groups_by_the_root_of_their_size() -> None:
    groups = np.repeat(["label", "tag"], [100, 900])
    pairs = Pairs(np.arange(1000), np.arange(1000), np.zeros(1000, np.float32))
    mixed = MixedPairs(pairs, groups, seed=0)
    epochs = []
    for epoch in (0, 1, 0):
        mixed.set_epoch(epoch)
        epochs.append([mixed[place][0] for place in range(len(mixed))])
    first = np.array(epochs[0])
    counts = np.bincount(first, minlength=1000)
    assert len(first) == 1000 and (first < 100).sum() == 250  # 10 : 30
    assert set(counts[:100]) == {2, 3} and counts[100:].max() == 1
    assert epochs[0] == epochs[2] != epochs[1]


def test_the_loss_is_bce_and_a_share_of_infonce() -> None:
    torch.manual_seed(0)
    towers = Towers(6, 6, 8, 4)
    requests, items = torch.randn(3, 6), torch.randn(4, 6)
    module = Distillation(towers, requests, items, weight=0.1, temperature=0.07)
    # Request 0 approves of items 0 and 1; item 0 also stands under request 1, item 3 under nothing approved.
    asked, offered = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 0, 3])
    approval = torch.tensor([1.0, 0.6, 0.2, 0.0])
    cosine = towers.request(requests) @ towers.item(items).t()
    v = torch.sigmoid(towers.scale * cosine[asked, offered] + towers.bias)
    bce = -(approval * v.log() + (1 - approval) * (1 - v).log()).mean()
    first = -torch.log_softmax(cosine[0, [0, 3]] / 0.07, 0)[0]  # item 1 is its own, item 0 is item 0
    # Row 2 holds item 0 under another request: a negative for the pair with item 1, but not for the one with item 0.
    second = -(cosine[0, 1] / 0.07 - torch.logsumexp(cosine[0, [1, 0, 3]] / 0.07, 0))
    expected = bce + 0.1 * (first * 1.0 + second * 0.6) / 1.6
    torch.testing.assert_close(module(asked, offered, approval), expected)


def test_towers_learn_what_complies(mini: Dataset, tmp_path: Path) -> None:
    # One tag an item is enough here.
    tags = tuple(mine[:1] for mine in mini.catalogue.train_tags)
    data = replace(mini, catalogue=replace(mini.catalogue, train_tags=tags))
    model = lite(data, ScratchContext(tmp_path), base="mf", towers={"epochs": 8, "batch": 256}, per_set=1)
    told, log = model.record["held_out"], model.record["log"]
    assert log[-1]["loss"] < log[0]["loss"]
    assert told["bce"] < 0.8 * told["bce_untrained"] and told["auc"] > 0.85
    assert told["by_group"]["label"] > 0.7 and min(told["by_group"].values()) > 0.55
    # What a wish asks for stands above what it does not, in words that nothing was learned from.
    has, names = mini.catalogue.label_matrix(), mini.catalogue.label_names
    words = [render(templates("film", POSITIVE, "eval")[0], [name]) for name in names]
    v = model.approve(words, np.ones(len(words), np.int8), model.arrays["items"])
    assert roc_auc_score(has.T.ravel(), v.ravel()) > 0.75
    chosen = model.record["weights"]["chosen"]
    wishes = model.record["weights"]["curves"]["pos"]["label"]
    assert chosen["pos"] > 0 and wishes[-1]["compliance"] > wishes[0]["compliance"] + 0.2


def test_without_words_the_base_ranks_and_weights_follow_the_polarity(
    small: Dataset, context: ScratchContext, tmp_path: Path
) -> None:
    model = lite(small, context, towers={"epochs": 2}, per_set=1)
    rows = np.arange(6, dtype=np.int32)
    asked = Requests(rows, Ragged.of([small.events[row][:5] for row in rows]))
    assert (model.rank(asked, 10).items == model.base.rank(asked, 10).items).all()
    prompts = ("I'm in the mood for a Comedy.", "No Comedy films tonight, please.") * 3
    prompted = replace(asked, prompts=prompts)
    model.record["weights"]["chosen"] = {"pos": 4.0, "neg": 0.5, "shared": 1.0}
    ranking = model.rank(prompted, 10)
    assert ranking.extras["polarity"].tolist() == [1, -1] * 3 and ranking.extras["weight"].tolist() == [4.0, 0.5] * 3
    model.save(tmp_path)
    for weight, expected in (("chosen", [4.0, 0.5]), ("shared", [1.0, 1.0]), ("0", [0.0, 0.0])):
        loaded = CTRLRecLite.load(tmp_path, model.settings.model_copy(update={"weight": weight}))
        loaded.encoder = WordVectors()
        again = loaded.rank(prompted, 10)
        assert again.extras["weight"].tolist() == expected * 3
        if weight == "chosen":
            assert (again.items == ranking.items).all() and loaded.record == json.loads(json.dumps(model.record))
        if weight == "0":
            assert (again.items == model.base.rank(asked, 10).items).all()


@pytest.mark.parametrize("value", ["-1", "inf", "nan", "much"])
def test_a_wrong_weight_is_refused(value: str) -> None:
    with pytest.raises(InputError, match="setting weight of ctrl_rec_lite"):
        CTRLRecLite.Settings.parse("ctrl_rec_lite", {"weight": value})


def test_ctrl_rec_goes_nowhere_without_judgements(small: Dataset, context: ScratchContext) -> None:
    with pytest.raises(InputError, match="bench augment judgements --dataset small"):
        CTRLRec.check(CTRLRec.Settings.parse("ctrl_rec", {}), small)
    with pytest.raises(InputError, match="cannot be read"):
        CTRLRec.Settings.parse("ctrl_rec", {"judgements": "nowhere.jsonl"})


class Listens:
    """Ranks by the number of the item, turned by the user's; `heeds` puts the labels that the words name first."""

    def __init__(self, data: Dataset, heeds: bool) -> None:
        self.has, self.words, self.heeds = data.catalogue.label_matrix(), LabelWords(data.catalogue.label_names), heeds
        self.card = ModelCard(name="listens", summary="", information="prompt")

    def rank(self, requests: Requests, k: int) -> Ranking:
        scores = (np.arange(len(self.has)) - 11.0 * requests.users[:, None]) % len(self.has)
        for row, prompt in enumerate(requests.prompts or () if self.heeds else ()):
            scores[row] += 100 * self.has[:, self.words.labels(prompt)].any(1)
        return top_k(scores.astype(np.float32), requests.history, k)


def test_reachability_tells_who_listens(small: Dataset) -> None:
    deaf = reachability(Listens(small, heeds=False), small, pairs=8, seed=0, progress=SilentProgress())
    assert deaf["before"] == deaf["best"] == pytest.approx(deaf["one"]) and deaf["moved"] == 0
    heard = reachability(Listens(small, heeds=True), small, pairs=8, seed=0, progress=SilentProgress())
    assert heard["before"] == deaf["before"] and heard["best"] > heard["one"] and heard["moved"] > 0
    assert heard == reachability(Listens(small, heeds=True), small, pairs=8, seed=0, progress=SilentProgress())
    silent = Listens(small, heeds=False)
    silent.card = silent.card.model_copy(update={"information": "none"})
    with pytest.raises(InputError, match="hears no words"):
        reachability(silent, small, pairs=1, seed=0, progress=SilentProgress())


def test_the_probe_is_kept_with_its_origin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--model", "popularity_in_genre", "--pairs", "3", "--out", str(tmp_path), "--json")
    assert cli.main(["probe", "reachability", *words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["pairs"] == 3 and report["best"] >= report["one"] and report["checkpoint"].startswith("popularity_in")
    kept = json.loads(Path(report["file"]).read_text())
    assert kept == {key: value for key, value in report.items() if key != "file"}
    assert cli.main(["probe", "reachability", "--model", "popularity", "--out", str(tmp_path)]) == 2
    assert "hears no words" in capsys.readouterr().err
