"""DPR: equations, target sets, stages, and that nothing outside the train slice is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.target_sets import HORIZON, TargetSets
from bench.contracts import NEGATIVE, POSITIVE, Dataset, Ragged, Requests
from dpr.adapter import DPRSAS
from dpr.fusion import Fusion, FusionBlock, Projector
from dpr.prompt_bank import Mix, PromptBank
from tests.conftest import ScratchContext, small_dataset

QUICK = {
    "backbone": {"dim": 16, "length": 12, "epochs": 2, "batch": 8},
    "epochs": 2,
    "tag_epochs": 2,
    "templates_per_set": 2,
    "batch": 8,
    "share": 1.0,
}


def test_fusion_block_is_equations_4_to_6() -> None:
    torch.manual_seed(0)
    block = FusionBlock(8, 2, 0.0).eval()
    h, c = torch.randn(5, 8), torch.randn(5, 1, 8)
    z = block.out(block.value(c[:, 0]))  # one key: its attention weight is 1, whoever asks
    res = h + z
    expected = F.layer_norm(
        res + block.down(F.gelu(block.up(res))), (8,), block.final_norm.weight, block.final_norm.bias
    )
    torch.testing.assert_close(block(h, c), expected)


def test_with_tokens_the_user_decides_what_is_read() -> None:
    torch.manual_seed(0)
    block = FusionBlock(8, 2, 0.0).eval()
    keys = torch.randn(1, 4, 8)
    moved = [block(h, keys) - block.final_norm(h + block.down(F.gelu(block.up(h)))) for h in torch.randn(2, 1, 8)]
    assert not torch.allclose(moved[0], moved[1], atol=1e-3)
    # Padding keys change nothing.
    real = torch.tensor([[True, True, False, False]])
    h = torch.randn(1, 8)
    torch.testing.assert_close(block(h, keys, real), block(h, keys[:, :2]))


def test_towers_are_separate_unless_there_is_one() -> None:
    two, one = Fusion(8, 2, 0.0, 2), Fusion(8, 2, 0.0, 1)
    assert two.tower(POSITIVE) is not two.tower(NEGATIVE)
    assert one.tower(POSITIVE) is one.tower(NEGATIVE)


def test_projector_noise_is_for_training_only() -> None:
    projector, vectors = Projector(6, 4, "mlp", 0.5, 0.0), torch.randn(3, 1, 6)
    assert torch.equal(projector.eval()(vectors), projector(vectors))
    assert not torch.equal(projector.train()(vectors), projector(vectors))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(1,), (2, 3), (3, 5, 10)]))
def test_target_sets_by_definition(seed: int, windows: tuple[int, ...]) -> None:
    data = small_dataset(users=12, seed=seed)
    sets, rng = TargetSets(data.catalogue, windows), np.random.default_rng(seed)
    users = rng.integers(0, 12, 30)
    start = data.events.offsets[users]
    last = start + (rng.random(30) * (data.train_end[users] - 1)).astype(np.int64)
    stop = start + data.train_end[users]
    own = [set(data.catalogue.labels[v].tolist()) for v in range(len(data.catalogue))]
    items = data.events.values
    made = sets.positive(items, last, stop, rng)
    for index, row in enumerate(made.row):
        before = own[items[last[row]]]
        fitting = [v for v in items[last[row] + 1 : stop[row]][:HORIZON].tolist() if own[v] - before]
        target = int(made.targets[index][0])
        assert target in fitting[: max(windows)] and target == made.item[index]
        assert made.label[index] in own[target] - before
    strict = rng.random(30) < 0.5
    made = sets.negative(items, last, stop, strict, rng)
    for index, row in enumerate(made.row):
        future = items[last[row] + 1 : stop[row]][:HORIZON].tolist()
        avoided = int(made.label[index])
        assert avoided in own[future[0]] and made.item[index] == future[0]
        fits = [v for v in future if (avoided not in own[v] if strict[row] else own[v] != own[future[0]])]
        assert made.targets[index].tolist() == fits[: len(made.targets[index])]
        assert len(made.targets[index]) in windows


def test_prompts_say_what_the_targets_mean(small: Dataset) -> None:
    rng = np.random.default_rng(0)
    sets = TargetSets(small.catalogue, (1, 2))
    bank = PromptBank(small.catalogue, "film", sets.group, 3, rng)
    assert not any("asked" in text for text in bank.texts), "evaluation tags are not for training"
    events, names = small.train_events(), small.catalogue.label_names
    last, stop = events.offsets[:-1].copy(), events.offsets[1:]
    for mix in (Mix(0.0, 0.0), Mix(0.0, 1.0), Mix(1.0, 0.0)):
        tag, whole = bank.kinds(len(last), mix, rng)
        made = sets.positive(events.values, last, stop, rng)
        for index, prompt in enumerate(bank.choose(made, tag[made.row], whole[made.row], rng)):
            text, item = bank.texts[prompt], int(made.item[index])
            if mix.tags:
                assert text in small.catalogue.train_tags[item]
            elif mix.whole:
                assert all(names[label] in text for label in small.catalogue.labels[item])
            else:
                assert names[made.label[index]] in text
        made = sets.negative(events.values, last, stop, ~whole, rng)
        for index, prompt in enumerate(bank.choose(made, tag[made.row], whole[made.row], rng)):
            named = (
                [names[made.label[index]]]
                if made.strict[index]
                else [names[v] for v in small.catalogue.labels[made.item[index]]]
            )
            assert all(name in bank.texts[prompt] for name in named)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[DPRSAS, Dataset]:
    data = small_dataset(users=120)
    model = DPRSAS(DPRSAS.Settings(**QUICK))
    model.fit(data.for_training(), ScratchContext(tmp_path_factory.mktemp("dpr")))
    return model, data


def requests(data: Dataset, prompts: tuple[str, ...] | None) -> Requests:
    size = 10 if prompts is None else len(prompts)
    return Requests(np.arange(size, dtype=np.int32), data.events.take(np.arange(size)), prompts)


def test_without_a_prompt_the_backbone_speaks(trained: tuple[DPRSAS, Dataset]) -> None:
    model, data = trained
    asked = requests(data, None)
    hidden = model.net.backbone.encode(asked.history)
    expected = (hidden @ model.net.table.t()).detach().numpy()
    assert np.allclose(model.score(asked)[0], expected, atol=1e-5)


def test_the_router_decides_which_tower_answers(trained: tuple[DPRSAS, Dataset]) -> None:
    model, data = trained
    asked = requests(
        data, ("I'm in the mood for a Comedy.", "No horror films, please.", "I'm in the mood for a Comedy.")
    )
    ranking = model.rank(asked, 10)
    assert ranking.extras["polarity"].tolist() == [POSITIVE, NEGATIVE, POSITIVE]
    hidden = model.net.backbone.encode(asked.history)
    vectors = torch.from_numpy(model.encoder.encode([asked.prompts[1]]))[:, None]
    expected = model.net.steer(hidden[1:2], vectors, NEGATIVE) @ model.net.table.t()
    torch.testing.assert_close(torch.from_numpy(model.score(asked)[0][1]), expected[0].detach(), rtol=1e-4, atol=1e-4)


def test_save_and_load(trained: tuple[DPRSAS, Dataset], tmp_path: Path) -> None:
    model, data = trained
    model.save(tmp_path)
    asked = requests(data, tuple(["A funny film, please.", "Nothing with war in it."] * 5))
    again = DPRSAS.load(tmp_path, model.settings)
    assert (again.rank(asked, 10).items == model.rank(asked, 10).items).all()


def test_training_never_reads_past_the_train_slice(tmp_path: Path) -> None:
    """Other events in validation and test: with one epoch a stage, validation can choose nothing, and the weights agree."""
    import dataclasses

    data = small_dataset(users=40)
    changed = data.events.values.copy()
    inside = np.arange(len(changed)) - np.repeat(data.events.offsets[:-1], data.events.lengths)
    late = inside >= np.repeat(data.train_end, data.events.lengths)
    changed[late] = (changed[late] + 7) % len(data.catalogue)
    other = dataclasses.replace(data, events=Ragged(data.events.offsets, changed))
    once = DPRSAS.Settings(**{**QUICK, "epochs": 1, "tag_epochs": 1, "backbone": {**QUICK["backbone"], "epochs": 1}})
    weights = []
    for number, version in enumerate((data, other)):
        model = DPRSAS(once)
        model.fit(version.for_training(), ScratchContext(tmp_path / str(number)))
        weights.append(model.net.state_dict())
    assert all(torch.equal(one, two) for one, two in zip(weights[0].values(), weights[1].values(), strict=True))


@pytest.mark.parametrize(
    "change",
    [{"towers": 1}, {"tokens": "all"}, {"stages": 2}, {"loss": "pos"}, {"loss": "neg"}, {"projector": "linear"}],
)
def test_every_setting_trains_saves_and_answers(tmp_path: Path, small: Dataset, change: dict) -> None:
    model = DPRSAS(DPRSAS.Settings(**{**QUICK, **change}))
    model.fit(small.for_training(), ScratchContext(tmp_path / "scratch"))
    model.save(tmp_path)
    again = DPRSAS.load(tmp_path, model.settings)
    ranking = again.rank(requests(small, ("I'd love a Comedy.", "No Action films.")), 5)
    assert ranking.items.shape == (2, 5) and np.isfinite(ranking.scores).all()
