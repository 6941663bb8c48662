"""LANCER: its two prompts, what is trained and what is not, its beams, and the contestant as a whole."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from baselines.lancer.adapter import Lancer, LancerSettings
from baselines.lancer.beams import beam_search
from baselines.lancer.fitting import train_phases
from baselines.lancer.network import LancerNet
from baselines.lancer.probes import templates, transfer
from baselines.lancer.prompts import HISTORY_LENGTH, KNOWLEDGE_LENGTH, going_on
from baselines.lancer.reading import Sentences, collate
from baselines.lancer.wording import WORDINGS, ItemTexts, wording
from baselines.language.histories import Example
from baselines.language.padding import IGNORED
from bench.contracts import NO_ITEM, Dataset, Ragged, Requests
from bench.errors import InputError
from tests.conftest import ScratchContext, small_dataset

LAYERS, HEADS, WIDTH, VOCABULARY = 2, 2, 16, 24
END = 1


def gpt2(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=640,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        bos_token_id=0,
        eos_token_id=END,
        pad_token_id=0,
        initializer_range=0.5,
    )
    return GPT2LMHeadModel(config).eval()


def net(faithful: bool = False) -> LancerNet:
    texts = [[2 + v % 5, 3, 4 + v % 7, 9] for v in range(30)]
    torch.manual_seed(1)
    return LancerNet(gpt2(), gpt2(), texts, pad=0, faithful=faithful).eval()


def batch(rows: int = 3) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    made = [
        {
            "tokens": rng.integers(2, VOCABULARY, 5 + row).tolist(),
            "labels": [IGNORED, IGNORED, *rng.integers(2, VOCABULARY, 3 + row).tolist()],
            "history": rng.integers(0, 30, 4 + 4 * row).astype(np.int32),
            "learned": row,
        }
        for row in range(rows)
    ]
    return collate(made)


def test_prefixes_have_a_place_for_every_layer() -> None:
    model = net()
    knowledge = model.knowledge_prompt.prefix(3)
    assert [tuple(layer.keys.shape) for layer in knowledge.layers] == [
        (3, HEADS, KNOWLEDGE_LENGTH, WIDTH // HEADS)
    ] * LAYERS
    assert torch.equal(knowledge.layers[1].values[0], knowledge.layers[1].values[2])
    history = batch()["history"]
    assert tuple(history.shape) == (3, HISTORY_LENGTH) and history[0, :6].eq(NO_ITEM).all() and history[2, 0] >= 0
    reasoning = model.prefix(history)
    assert [tuple(layer.values.shape) for layer in reasoning.layers] == [
        (3, HEADS, HISTORY_LENGTH, WIDTH // HEADS)
    ] * LAYERS
    # By hand: softmax of one query over the twenty states, projected, cut into layers and into keys and values.
    prompt, states = model.reasoning_prompt, model.knowledge_prompt.states()
    item = model.item_vectors()[history[0, -1]]
    weights = torch.softmax(prompt.query(item) @ prompt.key(states).T / WIDTH**0.5, 0)
    slots = prompt.project(weights @ prompt.value(states)).view(2, LAYERS, HEADS, WIDTH // HEADS)
    assert torch.allclose(reasoning.layers[1].keys[0, :, -1], slots[0, 1], atol=1e-5)
    assert torch.allclose(reasoning.layers[0].values[0, :, -1], slots[1, 0], atol=1e-5)


def test_item_vectors_are_means_over_real_tokens() -> None:
    model = net()
    with torch.no_grad():
        cache = model.knowledge_prompt.prefix(1)
        hidden = model.knowing.transformer(input_ids=torch.tensor([[2, 3, 4, 9]]), **going_on(cache)).last_hidden_state
    assert torch.allclose(model.item_vectors()[0], hidden[0].mean(0), atol=1e-5)
    longer = net()
    longer.read([text + [5] * (v % 4) for v, text in enumerate(longer._texts)])
    # Texts without anything added keep their vectors, whatever they are padded with.
    assert torch.allclose(longer.item_vectors()[0], model.item_vectors()[0], atol=1e-5)
    assert not torch.allclose(longer.item_vectors()[1], model.item_vectors()[1], atol=1e-3)


def test_the_released_query_carries_the_length_of_a_history_only() -> None:
    same_length = torch.tensor([[NO_ITEM] * 6 + [1, 2, 3, 4], [NO_ITEM] * 6 + [9, 8, 7, 6]])
    shorter = torch.tensor([[NO_ITEM] * 7 + [1, 2, 3]])
    for faithful in (True, False):
        model = net(faithful)
        with torch.no_grad():
            one, other = model.prefix(same_length).layers[0].keys
            third = model.prefix(shorter).layers[0].keys[0]
        assert torch.equal(one, other) == faithful
        assert not torch.allclose(one, third)


def moved(model: LancerNet, steps: int = 2) -> set[str]:
    """Names of the parts whose weights change in training."""
    before = {name: weights.detach().clone() for name, weights in model.named_parameters()}
    optimizer = torch.optim.AdamW([weights for weights in model.parameters() if weights.requires_grad], lr=0.01)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(**batch()).backward()
        optimizer.step()
    after = dict(model.named_parameters())
    changed = {name for name, weights in before.items() if not torch.equal(weights, after[name])}
    return {".".join(name.split(".")[: 2 if name.startswith("knowledge") else 1]) for name in changed}


def test_frozen_parts_are_frozen() -> None:
    prompts = {"knowledge_prompt.embeddings", "knowledge_prompt.hidden", "reasoning_prompt"}
    model = net()
    assert moved(model) == prompts | {"knowledge_prompt.project"}
    model.set_phase(2)
    assert moved(model) == prompts | {"reasoning"}
    model.set_phase(1, knowledge=False)
    assert moved(model) == {"reasoning_prompt"}
    assert not any(weights.requires_grad for weights in model.release().knowing.parameters())
    assert all(weights.requires_grad for name, weights in model.named_parameters() if not name.startswith("knowing"))


def test_only_phase_one_learns_from_texts_and_padding_is_no_label() -> None:
    model, rows = net(), batch()
    assert (rows["labels"][rows["attention_mask"] == 0] == IGNORED).all()
    torch.manual_seed(0)
    with torch.no_grad():
        model.eval()
        alone = model(**rows)
        expected = model.knowledge_loss(rows["learned"])
        model.train()
        # No dropout, so that both compute the same.
        for part in model.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        assert torch.isclose(model(**rows), alone + expected, atol=1e-5)
        model.set_phase(2)
        assert torch.isclose(model(**rows), alone, atol=1e-5)


def brute_force(model: Any, prompt: list[int], prefix: Any, length: int) -> list[tuple[float, list[int]]]:
    """All continuations of up to `length` tokens with their mean log-probabilities, the best first."""
    found = []
    words = [token for token in range(VOCABULARY) if token != END]
    for size in range(1, length + 1):
        last = [END] if size < length else list(range(VOCABULARY))
        ways = [(*middle, end) for middle in itertools.product(words, repeat=size - 1) for end in last]
        ids = torch.tensor([prompt + list(way) for way in ways])
        logs = model(input_ids=ids, **going_on(prefix(len(ways)))).logits.log_softmax(-1)[:, len(prompt) - 1 : -1]
        totals = logs.gather(2, ids[:, len(prompt) :, None]).sum((1, 2)).tolist()
        written = [[token for token in way if token != END] for way in ways]
        found += [(total / size, tokens) for total, tokens in zip(totals, written, strict=True)]
    return sorted(found, key=lambda each: -each[0])


def test_beams_over_a_prefix_are_those_of_an_exhaustive_search() -> None:
    model, history = net(), torch.tensor([[NO_ITEM] * 7 + [1, 2, 3]])
    with torch.no_grad():
        best = brute_force(model.reasoning, [2, 3], lambda rows: model.prefix(history.expand(rows, -1)), 2)
        got = beam_search(
            model.reasoning,
            model.prefix(history),
            torch.tensor([[2, 3]]),
            torch.ones(1, 2),
            beams=VOCABULARY,
            max_tokens=2,
            ends={END},
        )
    kept = [
        (score, tokens) for score, tokens in zip(got.scores[0].tolist(), got.tokens[0], strict=True) if score > -1e8
    ]
    assert [tokens for _, tokens in kept[:5]] == [tokens for _, tokens in best[:5]]
    assert np.allclose([score for score, _ in kept[:5]], [score for score, _ in best[:5]], atol=1e-5)


@pytest.mark.parametrize(("beams", "length"), [(4, 6), (10, 5)])
def test_beams_without_a_prefix_are_those_of_transformers(beams: int, length: int) -> None:
    for seed in range(4):
        model = gpt2(seed)
        ids = torch.randint(2, VOCABULARY, (3, 5), generator=torch.Generator().manual_seed(seed))
        mask = torch.ones_like(ids)
        mask[1, :2] = mask[2, :1] = 0
        out = model.generate(
            ids * mask,
            attention_mask=mask,
            num_beams=beams,
            num_return_sequences=beams,
            max_new_tokens=length,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
        )
        got = beam_search(model, DynamicCache(), ids * mask, mask, beams=beams, max_tokens=length, ends={END})
        for place, (row, beam) in enumerate(itertools.product(range(3), range(beams))):
            tokens, score = got.tokens[row][beam], float(got.scores[row, beam])
            wanted = out.sequences[place, 5:].tolist()
            wanted = wanted[: wanted.index(END)] if END in wanted else wanted[: len(tokens)]
            assert tokens == wanted
            assert abs(float(out.sequences_scores[place]) - score) < 1e-4


QUICK = {**Lancer.quick_settings, "users": 24, "max_tokens": 12, "beams": 4}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Lancer, Path]:
    dataset, folder = small_dataset(), tmp_path_factory.mktemp("lancer")
    model = Lancer(LancerSettings.parse("lancer", QUICK))
    model.fit(dataset.for_training(), ScratchContext(folder / "scratch"))
    (folder / "saved").mkdir()
    model.save(folder / "saved")
    return dataset, model, folder / "saved"


def asked(dataset: Dataset, *prompts: str) -> Requests:
    rows = np.arange(3)
    return Requests(rows.astype(np.int32), Ragged.of([dataset.events[row][:14] for row in rows]), prompts or None)


def test_a_request_stands_before_the_prefix_text(fitted: tuple[Dataset, Lancer, Path]) -> None:
    dataset, model, _ = fitted
    history = dataset.events[0][:12]
    text = model.reader.tokenizer.decode(model.reader.sentence(history, "No <b>Horror</b>, please."))
    opening = "A user watched sequence of movies : "
    strings = model.texts.items(wording("released"))
    assert text == f"No ‹b>Horror‹/b>, please. {opening}" + "".join(f"{strings[v]} -> " for v in history[-10:])
    assert model.reader.tokenizer.decode(model.reader.sentence(history, None)).startswith(opening)


def test_training_sentences_end_with_the_separator(fitted: tuple[Dataset, Lancer, Path]) -> None:
    dataset, model, _ = fitted
    example = Example(dataset.events[0][:3], None, int(dataset.events[0][3]))
    row = Sentences([example], model.reader)[0]
    assert row["labels"] == row["tokens"] and row["tokens"][-len(model.reader.between) :] == model.reader.between
    answer = Sentences([example], model.reader, answer_only=True)[0]
    kept = [token for token in answer["labels"] if token != IGNORED]
    assert kept == model.reader.items[example.target] + model.reader.between and answer["tokens"] == row["tokens"]


def test_every_item_maps_to_itself(fitted: tuple[Dataset, Lancer, Path]) -> None:
    _, model, _ = fitted
    mapping = model.mapping()
    vectors = model.embed(list(mapping.strings))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    found = mapping.items_of(list(mapping.strings))
    # Where two items have the same vector, the first stands for both.
    assert np.allclose((vectors[found] * vectors).sum(1), 1, atol=1e-5) and (found <= np.arange(len(found))).all()


def test_saves_and_loads(fitted: tuple[Dataset, Lancer, Path]) -> None:
    dataset, model, folder = fitted
    ranking = model.rank(asked(dataset, "a comedy", "no horror", "a western"), 20)
    assert ranking.items.shape == (3, 20) and (ranking.items != NO_ITEM).all()
    loaded = Lancer.load(folder, model.settings)
    assert np.array_equal(loaded.rank(asked(dataset, "a comedy", "no horror", "a western"), 20).items, ranking.items)
    assert set(loaded.log) == {"lancer pretraining", "lancer phase 1", "lancer phase 2"}
    assert all(np.isfinite(record["loss"]) for log in loaded.log.values() for record in log)
    unprompted = model.rank(asked(dataset), 20)
    assert (unprompted.items != NO_ITEM).all()


def test_another_wording_in_serving_alone(fitted: tuple[Dataset, Lancer, Path]) -> None:
    _, model, folder = fitted
    assert "asked" in Lancer.serving_settings and len(WORDINGS) > 5
    other = Lancer.load(folder, model.settings.model_copy(update={"asked": "knowledge_bare"}))
    assert not torch.allclose(other.net.item_vectors(), model.net.item_vectors())
    assert other.mapping().strings == model.mapping().strings
    with pytest.raises(InputError, match=r"wording of lancer 'relaesed'\. Did you mean 'released'"):
        LancerSettings.parse("lancer", {"asked": "relaesed"})


def test_descriptions_and_labels_in_the_texts() -> None:
    texts = ItemTexts(("Heat (1995)",), ("Action, Crime",), ("a heist",), "film")
    assert texts.knowledge(wording("released")) == ["desc : a heist genres : Action, Crime title : Heat (1995)"]
    assert texts.items(wording("released")) == ["Action, Crime : Heat (1995)"]
    assert texts.opening(wording("opening_left_out"), None) == ""


def test_variants_of_the_checks() -> None:
    serving, trained = templates(retrain=False), templates(retrain=True)
    assert next(iter(serving.values())) == {} and list(serving) == list(trained) == list(WORDINGS)
    assert all(set(values) <= {"asked"} for values in serving.values())
    assert all(set(values) <= {"wording"} for values in trained.values())
    arms = transfer(source="mini", source_dir=None)
    assert [values["knowledge"] for values in arms.values()] == ["own", "source", "untrained"]
    for values in [*serving.values(), *trained.values(), *arms.values()]:
        LancerSettings.parse("lancer", values)


def test_a_knowledge_prompt_of_another_dataset(tmp_path: Path) -> None:
    dataset = small_dataset(seed=1)
    source = small_dataset(users=30, items=25)
    context = ScratchContext(tmp_path)
    lent = Lancer(LancerSettings.parse("lancer", QUICK | {"users": 8}))
    lent.fit(source.for_training(), context)
    nets = {}
    for knowledge in ("source", "untrained"):
        settings = LancerSettings.parse("lancer", QUICK | {"users": 8, "knowledge": knowledge, "source": "made up"})
        base, net, _, _ = train_phases(settings, dataset.for_training(), ScratchContext(tmp_path / knowledge), lent)
        assert base is lent.base and len(net.item_vectors()) == 40
        nets[knowledge] = net.knowledge_prompt.state_dict()
    own = lent.net.knowledge_prompt.state_dict()
    assert all(torch.equal(own[name], nets["source"][name]) for name in own)
    assert not torch.equal(own["embeddings"], nets["untrained"]["embeddings"])
    with pytest.raises(InputError, match="knowledge=source takes a knowledge prompt over: name its dataset"):
        Lancer(LancerSettings.parse("lancer", {"knowledge": "source"})).fit(dataset, context)
