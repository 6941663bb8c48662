"""RecLM-gen as a contestant, both stages, from scratch and with LoRA on a model from a folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.language.padding import IGNORED
from baselines.reclm.adapter import RecLMGen
from baselines.reclm.data import Example
from baselines.reclm.prompts import Words
from baselines.reclm.settings import RecLMSettings
from baselines.reclm.sft import Coder, Supervised, with_lora
from bench.contracts import NO_ITEM, Ragged, Requests
from bench.errors import InputError
from tests.conftest import ScratchContext, small_dataset
from tests.tools.language_models import write_model

BACKBONE = {"backbone.epochs": 1, "backbone.length": 12, "backbone.dim": 8, "backbone.batch": 40}
QUICK = {
    "base_model": "tiny",
    "pretraining.epochs": 1,
    "sft.epochs": 1,
    "tasks": "I0",
    "sft.users": 16,
    "max_tokens": 32,
    **BACKBONE,
}
RL = {"stage": "rl", "rl.epochs": 1, "rl.prompts": 6, "rl.batch_size": 6, "rl.accumulate": 1}


def fitted(values, folder: Path, dataset=None):
    dataset = (dataset or small_dataset()).for_training()
    model = RecLMGen(RecLMSettings.parse("reclm_gen", values))
    model.fit(dataset, ScratchContext(folder))
    return model


def requests(prompts=("More Comedy, please.", "No Drama.")):
    return Requests(np.arange(2, dtype=np.int32), Ragged.of([[0, 1, 2], [5]]), prompts)


def test_settings_suit_a_model_from_scratch_where_nothing_else_was_said():
    published, scratch = RecLMSettings(), RecLMSettings(base_model="tiny")
    assert (published.sft.epochs, published.sft.batch_size, published.rl.learning_rate) == (40, 64, 5e-6)
    assert scratch.sft.epochs < 40 and scratch.sft.accumulate == 1
    said = RecLMSettings.parse("reclm_gen", {"base_model": "tiny", "sft.epochs": 3})
    assert said.sft.epochs == 3 and said.sft.batch_size == scratch.sft.batch_size
    assert RecLMSettings.model_validate(said.model_dump()) == said
    with pytest.raises(InputError, match="tasks are I0, I1, I2, I3 and I3-re, not I9"):
        RecLMSettings.parse("reclm_gen", {"tasks": "I0,I9"})


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    return fitted(QUICK, tmp_path_factory.mktemp("tuned"))


def test_it_ranks_saves_and_loads(tuned, tmp_path):
    tuned.save(tmp_path)
    again = RecLMGen.load(tmp_path, tuned.settings)
    for asked in (requests(), requests(None)):
        one, other = tuned.rank(asked, 20), again.rank(asked, 20)
        assert one.items.shape == (2, 20) and np.array_equal(one.items, other.items)
        assert (one.items[:, 10:] == NO_ITEM).all()
    assert [record["epoch"] for record in json.loads((tmp_path / "training.json").read_text())["sft"]] == [1]
    assert list((tmp_path / "tensorboard").rglob("events.*"))


def test_what_is_written_becomes_a_ranking(tuned, monkeypatch):
    answers = [
        "1. Title 7\n2. Titel 8\n3. Title 0\n4. Title 7\n5. Something else\n6. Title 9\n",
        "",
    ]
    monkeypatch.setattr("baselines.language.generation.greedy", lambda *_, **__: answers)
    ranking = tuned.rank(requests(), 20)
    # "Titel 8" is within three edits of "Title 0" as well, which is first but in the history of no use.
    counted = {name.removeprefix("llm_"): values[0] for name, values in ranking.extras.items() if name != "llm_failure"}
    assert ranking.items[0, 0] == 7 and NO_ITEM in ranking.items[0]
    assert counted["entries"] == 6 and counted["exact"] == 4 and counted["normalised"] == 1
    assert counted["out_of_catalogue"] == 1 and counted["duplicate"] == 1 and counted["wrong_count"] == 1
    assert ranking.failed.tolist() == [False, True] and ranking.extras["llm_failure"][1] == "empty"


def test_prompts_in_training_and_testing_are_the_same_tokens(tuned):
    words = tuned.words
    coder = Coder(tuned.base.tokenizer, words)
    example = Example("I1", (3, 4), "More Comedy, please.", 10, (5, 6), 5)
    batch = coder.batch([example, replace(example, history=(3,), items=(5,))])
    (asked,) = tuned._instructions(Requests(np.zeros(1, np.int32), Ragged.of([[3, 4]]), ("More Comedy, please.",)))
    from bench.llm.hf_engine import chat_prompt

    prompt = tuned.base.tokenizer(chat_prompt(tuned.base.tokenizer, asked), add_special_tokens=False).input_ids
    row = batch["input_ids"][0].tolist()
    assert row[: len(prompt)] == prompt
    answer = batch["answers"][0].tolist()
    assert row[len(prompt) :] == answer and answer[-1] == tuned.base.tokenizer.eos_token_id
    assert tuned.base.tokenizer.decode(answer[:-1]) == "1. Title 5\n2. Title 6\n"
    # The second row is shorter on both sides.
    assert batch["attention_mask"][1, 0] == 0 and batch["attention_mask"][1, -1] == 0
    assert (batch["answers"][1] == IGNORED).any()


def test_the_loss_is_a_mean_over_the_answers_of_each_example(tuned):
    coder, model = Coder(tuned.base.tokenizer, tuned.words), Supervised(tuned.base.model).eval()
    examples = [Example("I0", (3, 4, 5), None, 2, (5, 6), 5), Example("I0", (1,), None, 1, (2,), 2)]
    with torch.no_grad():
        together = model(**coder.batch(examples))
        alone = torch.stack([model(**coder.batch([each])) for each in examples])
        batch = coder.batch(examples[:1])
        length = batch["answers"].shape[1]
        logits = tuned.base.model(input_ids=batch["input_ids"]).logits[0, -length - 1 : -1]
        by_hand = torch.nn.functional.cross_entropy(logits, batch["answers"][0])
    torch.testing.assert_close(together, alone.mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone[0], by_hand, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("base"))


def test_lora_is_on_all_linear_layers_and_nothing_else_is_trained(folder):
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(folder)
    layers = {name for name, layer in plain.named_modules() if isinstance(layer, torch.nn.Linear)} - {"lm_head"}
    model = with_lora(plain, 4, 8, 0.0)
    trained = {name for name, weights in model.named_parameters() if weights.requires_grad}
    assert all(".lora_A." in name or ".lora_B." in name for name in trained)
    # This model shares its output layer's weights with the input, so it is left out.
    assert {name.split(".lora_")[0].removeprefix("base_model.model.") for name in trained} == layers
    assert len(layers) == 7


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "rl"])
def test_adapters_of_a_pretrained_base_are_kept(folder, stage, tmp_path):
    values = QUICK | {"base_model": str(folder), "sft.batch_size": 8, "sft.accumulate": 1}
    model = fitted(values | (RL if stage == "rl" else {}), tmp_path / "scratch")
    saved = tmp_path / "saved"
    saved.mkdir()
    model.save(saved)
    assert not (saved / "base").exists() and (saved / "sft.safetensors").is_file()
    assert (saved / "rl.safetensors").is_file() == (stage == "rl")
    again = RecLMGen.load(saved, model.settings)
    pairs = zip(model.base.model.parameters(), again.base.model.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)
    assert np.array_equal(model.rank(requests(), 20).items, again.rank(requests(), 20).items)


@pytest.mark.slow
def test_the_second_stage_stands_on_the_first(tuned, tmp_path):
    model = fitted(QUICK | RL, tmp_path / "scratch")
    assert set(model.fitted.logs) == {"pretraining", "sft", "rl"}
    saved = tmp_path / "saved"
    saved.mkdir()
    model.save(saved)
    again = RecLMGen.load(saved, model.settings)
    pairs = zip(model.base.model.parameters(), again.base.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert RecLMGen.built_on({"stage": "rl"}) == ("sasrec", "reclm_gen")


def test_a_fitted_model_is_taken_only_for_its_own_catalogue(tuned, tmp_path):
    tuned.save(tmp_path)
    taken = fitted(QUICK | {"adapter": str(tmp_path)}, tmp_path / "scratch")
    assert np.array_equal(taken.rank(requests(), 20).items, tuned.rank(requests(), 20).items)
    other = replace(small_dataset(), fingerprint="another")
    with pytest.raises(InputError, match="trained on another catalogue"):
        fitted(QUICK | {"adapter": str(tmp_path)}, tmp_path / "scratch", other)
    with pytest.raises(InputError, match="not on base_model=small"):
        fitted(QUICK | {"adapter": str(tmp_path), "base_model": "small"}, tmp_path / "scratch")
    with pytest.raises(InputError, match="holds no fitted RecLM-gen"):
        fitted(QUICK | {"adapter": str(tmp_path / "scratch")}, tmp_path / "scratch")


def test_a_base_model_that_does_not_do_is_refused_before_its_teacher_is_trained(tmp_path):
    class NoTeacher(ScratchContext):
        def fitted(self, name, dataset, settings):
            raise AssertionError("the teacher was trained")

    bare = write_model(tmp_path / "bare", chat_template=False)
    model = RecLMGen(RecLMSettings(base_model=str(bare)))
    with pytest.raises(InputError, match="has no chat template"):
        model.fit(small_dataset().for_training(), NoTeacher(tmp_path / "scratch"))


def test_words_are_cleaned_as_they_are_quoted():
    dataset = small_dataset()
    assert Words.of(dataset).titles == dataset.catalogue.titles
