"""DPR over other backbones, DPR-Rand, the sharing of stages, and `dpr_sas_plus`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import run
from bench.contracts import Dataset, Ragged, Requests
from bench.errors import InputError
from bench.progress import SilentProgress
from bench.rankings import read_rankings
from bench.store import Store
from dpr.adapter import DPRBERT, DPRGRU, DPRSAS
from dpr.evidence import EXPERTS, LABELS, NEAR, WISH, Asked
from dpr.plus import DPRSASPlus
from dpr.plus_training import shortened
from tests.conftest import ScratchContext, small_dataset

TINY = {"dim": 16, "length": 12, "epochs": 2, "batch": 8}
QUICK = {"backbone": TINY, "epochs": 2, "tag_epochs": 2, "templates_per_set": 2, "batch": 8, "share": 1.0}
PROMPTS = ("I'd love a Comedy.", "No Action films.", "A quiet story about a lighthouse.")


def asked(data: Dataset, prompts: tuple[str, ...] | None = PROMPTS) -> Requests:
    size = 3 if prompts is None else len(prompts)
    return Requests(np.arange(size, dtype=np.int32), data.events.take(np.arange(size)), prompts)


@pytest.mark.parametrize("kind", [DPRGRU, DPRBERT])
def test_other_backbones_train_save_and_answer(kind: Any, small: Dataset, tmp_path: Path) -> None:
    model = kind(kind.Settings(**QUICK))
    model.fit(small.for_training(), ScratchContext(tmp_path / "scratch"))
    model.save(tmp_path)
    again = kind.load(tmp_path, model.settings)
    told, plain = again.rank(asked(small), 5), again.rank(asked(small, None), 5)
    assert (told.items == model.rank(asked(small), 5).items).all()
    assert (told.items != plain.items).any()


def test_ablations_of_the_third_stage_share_what_comes_before(tmp_path: Path) -> None:
    """Stage 1 and Stage 2 are fitted once for two models that differ in Stage 3 alone, and once more where Stage 2 differs."""
    data, store = small_dataset(), Store(tmp_path)

    def fit(**changes: Any) -> None:
        store.fitted("dpr_sas", data, {**QUICK, **changes}, 0, "cpu", SilentProgress())

    fit()
    assert len(list(tmp_path.glob("sasrec-*"))) == 1 and len(list(tmp_path.glob("dpr_sas-*"))) == 2
    fit(replay=0.6)
    assert len(list(tmp_path.glob("dpr_sas-*"))) == 3  # Stage 2 is the one that was there
    fit(prompt="mismatched")
    assert len(list(tmp_path.glob("dpr_sas-*"))) == 3  # said at serving, learns nothing else
    fit(towers=1)
    assert len(list(tmp_path.glob("dpr_sas-*"))) == 5 and len(list(tmp_path.glob("sasrec-*"))) == 1


@pytest.mark.parametrize("size", [2, 3, 17, 512])
def test_mismatched_prompts_are_everybody_elses(size: int) -> None:
    model = DPRSAS(DPRSAS.Settings(prompt="mismatched"))
    users, history = np.arange(size, dtype=np.int32), Ragged.of([[1]] * size)
    prompts = tuple(f"prompt {number}" for number in range(size))
    requests = Requests(users, history, prompts)
    served = model.prepared(requests).prompts
    assert served is not None and sorted(served) == sorted(prompts)
    assert all(mine != given for mine, given in zip(prompts, served, strict=True))
    assert served == model.prepared(requests).prompts
    with pytest.raises(InputError, match="two at least"):
        model.prepared(requests.take(np.array([0])))
    assert DPRSAS(DPRSAS.Settings()).prepared(requests) is requests


def test_mismatched_prompts_do_not_hang_on_the_batches(tmp_path: Path) -> None:
    quick = {**QUICK, "backbone": {**TINY, "epochs": 1}, "epochs": 1, "tag_epochs": 1, "prompt": "mismatched"}
    items = []
    for size in (512, 7):
        made = run(task="pos", model="dpr_sas", limit=40, batch_size=size, settings=quick, out=tmp_path / str(size))
        items.append(read_rankings(made.directory / "rankings.parquet", 10).items)
    np.testing.assert_array_equal(*items)


@pytest.fixture(scope="module")
def plus(tmp_path_factory: pytest.TempPathFactory) -> tuple[DPRSASPlus, Dataset]:
    data = small_dataset(users=120)
    recurrent = {"dim": 16, "hidden": 16, "length": 12, "epochs": 1, "batch": 8}
    settings = {"dpr": QUICK, "recurrent": recurrent, "epochs": 2, "prompts_per_label": 2}
    model = DPRSASPlus(DPRSASPlus.Settings.model_validate(settings))
    model.fit(data.for_training(), ScratchContext(tmp_path_factory.mktemp("plus")))
    return model, data


def test_plus_saves_and_answers(plus: tuple[DPRSASPlus, Dataset], tmp_path: Path) -> None:
    model, data = plus
    model.save(tmp_path)
    again = DPRSASPlus.load(tmp_path, model.settings)
    for prompts in (PROMPTS, None):
        assert (again.rank(asked(data, prompts), 10).items == model.rank(asked(data, prompts), 10).items).all()


def test_a_request_is_weighed_the_same_alone_and_in_company(plus: tuple[DPRSASPlus, Dataset]) -> None:
    model, data = plus
    together = model.score(asked(data))[0]
    for row in range(len(PROMPTS)):
        alone = model.score(asked(data).take(np.array([row])))[0]
        assert np.allclose(alone[0], together[row], atol=1e-3)


def test_label_evidence_is_what_it_says(plus: tuple[DPRSASPlus, Dataset]) -> None:
    """Against plain set arithmetic, item by item."""
    model, data = plus
    catalogue = data.catalogue
    words = model.evidence.words(["I'd love a Comedy, or a Drama."])
    one = data.events.take(np.array([5]))
    columns = [column[0].numpy() for column in model.evidence.labels(words.named, one.values[-1:])]
    assert len(columns) == len(LABELS)
    named = {catalogue.label_names.index(name) for name in ("Comedy", "Drama")}
    last = set(catalogue.labels[one.values[-1]].tolist())
    for item in range(len(catalogue)):
        has = set(catalogue.labels[item].tolist())
        expected = [named <= has, named == has, bool(named & has), np.log1p(len(has - last)), np.log1p(len(has))]
        assert np.allclose([column[item] for column in columns], expected, atol=1e-6)


def test_evidence_is_added_up_as_its_weights_say(plus: tuple[DPRSASPlus, Dataset]) -> None:
    """The product with all tables side by side is the sum of every encoder's own scores."""
    import torch

    model, data = plus
    prompts = ["I'd love a Comedy."]
    with torch.inference_mode():
        words, read = model.evidence.words(prompts), model.read(prompts)
        one = Asked(data.events.take(np.array([5])), np.array([WISH]), np.array([0]))
        states = model.evidence.states(one, read)
        weights = torch.arange(1.0, len(EXPERTS) + 1)[None]
        total = model.evidence.logits(one, states, weights, words)[0]
        net = model.experts["dpr"].net
        joint = net.backbone.encode(one.history)
        nets = [model.experts[name].net for name in ("backbone", "recurrent")]
        vectors, real = read.take(torch.tensor([0]))
        parts = [net.steer(joint, vectors, 1, real) @ net.table.t(), joint @ net.table.t()]
        parts += [other.encode(one.history) @ other.table.t() for other in nets]
        cosine = words.cosine.float()
        parts += [
            10 * cosine,
            20 * (cosine - NEAR).clamp(min=0),
            *model.evidence.labels(words.named, one.history.values[-1:]),
        ]
        expected = sum(weight * part[0] for weight, part in zip(weights[0], parts, strict=True))
    assert torch.allclose(total, expected, atol=1e-3)


def test_how_a_refusal_is_read_is_said_and_changes_the_list(plus: tuple[DPRSASPlus, Dataset], tmp_path: Path) -> None:
    model, data = plus
    model.save(tmp_path)
    strict = DPRSASPlus.load(tmp_path, model.settings.model_copy(update={"reading": "strict"}))
    with pytest.MonkeyPatch.context() as patch:
        refusals = asked(data, ("No Action films.", "No Comedy, please.", "Anything without Horror."))
        for each in (model, strict):
            patch.setattr(each, "router", Refuses())
        assert not np.allclose(model.score(refusals)[0], strict.score(refusals)[0])
        for each in (model, strict):
            patch.setattr(each, "router", Refuses(side=1))
        np.testing.assert_array_equal(model.score(refusals)[0], strict.score(refusals)[0])


class Refuses:
    """Routes every prompt to one side."""

    def __init__(self, side: int = -1) -> None:
        self.side = side

    def route(self, prompts: list[str]) -> tuple[Any, Any]:
        return np.full(len(prompts), self.side, np.int8), np.ones(len(prompts), np.float32)


def test_a_shortened_tag_keeps_some_of_its_words_in_order() -> None:
    rng = np.random.default_rng(0)
    text = "a doll grows jealous of a flashy new plaything"
    made = [shortened(text, rng).split() for _ in range(50)]
    for words in made:
        left = iter(text.split())
        assert 2 <= len(words) <= len(text.split()) and all(word in left for word in words)
    assert len({tuple(words) for words in made}) > 20
    assert shortened("western", rng) == "western"


def test_a_left_out_ingredient_counts_for_nothing(plus: tuple[DPRSASPlus, Dataset], tmp_path: Path) -> None:
    model, data = plus
    model.save(tmp_path)

    def without(parts: str) -> DPRSASPlus:
        return DPRSASPlus.load(tmp_path, model.settings.model_copy(update={"without": parts}))

    def scores(of: DPRSASPlus) -> Any:
        return of.score(asked(data))[0]

    bare = without("text, labels, recurrent")
    kept = bare._kept.numpy()
    assert {name for name, stays in zip(EXPERTS, kept, strict=True) if stays} == {"dpr", "joint", "backbone"}
    assert not np.allclose(scores(bare), scores(model))
    unread = without("reading")
    assert not np.allclose(scores(unread), scores(model))
    with pytest.raises(InputError, match="none of"):
        DPRSASPlus(DPRSASPlus.Settings(without="texts")).fit(data.for_training(), ScratchContext(tmp_path / "x"))


def test_without_tags_two_stages_are_refused_and_three_end_after_the_second() -> None:
    """Stage 3 trains on tags: what would be left of two stages without them is nothing."""
    settings = DPRSAS.Settings
    data = small_dataset(tags=False)
    with pytest.raises(InputError, match="stages=2 trains on tags at once, and small has none"):
        DPRSAS.check(settings.parse("dpr_sas", {"stages": 2}), data)
    with pytest.raises(InputError, match="tag_epochs is 0"):
        DPRSAS.check(settings.parse("dpr_sas", {"stages": 2, "tag_epochs": 0}), small_dataset())
    DPRSAS.check(settings.parse("dpr_sas", {}), data)
