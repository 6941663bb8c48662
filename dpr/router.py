"""Routers: does a prompt ask for something (+1) or refuse it (-1)? Decided from its text alone (appendix C).

`OfflineRouter` needs no download beyond the packaged encoder and is the default; `BartRouter` is the paper's.
"""

from __future__ import annotations

import hashlib
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from baselines.encoders import CachedEncoder, PackagedMiniLM, default_cache_directory
from bench.cards import RouterCard
from bench.contracts import NEGATIVE, POSITIVE, Encoder, Floats, Progress
from bench.errors import CheckError, InputError
from bench.text_batches import clean
from dpr.router_prompts import POOL, pool_sha256, read_report, training_prompts

WEIGHTS = POOL / "weights.safetensors"
# Appendix C.1.
HYPOTHESIS = "This text expresses a {}."
LABELS = {"positive preference": POSITIVE, "negative preference": NEGATIVE}

Polarity = npt.NDArray[np.int8]


class OfflineRouter:
    """A small classifier on MiniLM, trained on the pool of wishes and refusals in `router_pool`.

    With the packaged MiniLM its upper layers carry low-rank updates, which ship with this package. With another encoder a
    logistic regression is fitted on that encoder's vectors of the same pool at first use; it routes plain prompts well
    and misleading ones badly.

    Args:
        encoder: the encoder; the packaged MiniLM unless given.
    """

    card: ClassVar[RouterCard] = RouterCard(
        name="offline",
        version=3,
        summary="MiniLM with low-rank updates, trained on hand-written wishes and refusals; its accuracy on held-out "
        "prompts, by difficulty, is in router_pool/report.json.",
        licence="Apache-2.0",
    )

    def __init__(self, encoder: Encoder | None = None) -> None:
        self._encoder = encoder

    def route(self, prompts: list[str]) -> tuple[Polarity, Floats]:
        """Polarity (+1 or -1) int8 [B], and the confidence in it, float32 [B] in 0.5 to 1.

        Raises:
            InputError: a prompt is empty, or the encoder cannot be loaded.
            CheckError: the shipped weights do not belong to the pool.
        """
        _refuse_empty(prompts)
        if not prompts:
            return np.empty(0, np.int8), np.empty(0, np.float32)
        return _decide(self._logits(prompts))

    def _logits(self, prompts: list[str]) -> npt.NDArray[np.float64]:
        if self._encoder is None or self._encoder.identity == PackagedMiniLM.identity:
            adapted, temperature = self._adapted
            return adapted.encode(prompts)[:, 0].astype(np.float64) / temperature
        encoder, (weights, bias) = self._encoder, self._regression
        return encoder.encode(prompts).astype(np.float64) @ weights + bias

    @cached_property
    def _adapted(self) -> tuple[CachedEncoder, float]:
        report = read_report()
        if report["pool_sha256"] != pool_sha256() or report["encoder"] != PackagedMiniLM.identity:
            raise CheckError(
                f"{WEIGHTS} was trained on another pool or encoder: train it again with python -m dpr.router_train."
            )
        return _kept_log_odds(default_cache_directory()), float(report["temperature"])

    @cached_property
    def _regression(self) -> tuple[npt.NDArray[np.float64], float]:
        from sklearn.linear_model import LogisticRegression

        assert self._encoder is not None
        pool = training_prompts()
        vectors = self._encoder.encode(list(pool.prompts))
        fitted = LogisticRegression(C=10.0, max_iter=300).fit(vectors, pool.polarity)
        return fitted.coef_[0].astype(np.float64), float(fitted.intercept_[0])


@cache
def _kept_log_odds(directory: Path) -> CachedEncoder:
    """The adapted model, one for all routers of a process: recommenders side by side read the same prompts."""
    return CachedEncoder(_LogOdds(), directory, unit=False)


class _LogOdds:
    """The adapted model as an encoder of one dimension, so that its answers are kept on disk as vectors are."""

    card = PackagedMiniLM.card

    @cached_property
    def identity(self) -> str:
        """Changes with the weights."""
        return f"router@{hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:16]}"

    def encode(self, texts: list[str], progress: Progress | None = None) -> Floats:
        """Log-odds of a wish before calibration, float32 [n, 1]."""
        return self._model.logits(texts, progress)[:, None]

    @cached_property
    def _model(self) -> Any:
        from dpr.router_adapter import PolarityModels

        return PolarityModels.load(WEIGHTS)


class BartRouter:
    """BART-large fine-tuned on MNLI as a zero-shot classifier, with the labels and hypothesis of appendix C.1.

    Args:
        model: hub name, or the folder of a local copy.
    """

    card: ClassVar[RouterCard] = RouterCard(
        name="bart-large-mnli",
        summary="Zero-shot classification with facebook/bart-large-mnli, the router of the DPR paper (appendix C).",
        citation="https://huggingface.co/facebook/bart-large-mnli",
        licence="MIT",
    )

    def __init__(self, model: str | Path = "facebook/bart-large-mnli") -> None:
        self.model = str(model)

    def route(self, prompts: list[str]) -> tuple[Polarity, Floats]:
        """Polarity (+1 or -1) int8 [B], and the confidence in it, float32 [B] in 0.5 to 1.

        Raises:
            InputError: a prompt is empty, or the model is neither here nor to be had from the hub.
        """
        _refuse_empty(prompts)
        # Templated prompts repeat a lot, and this model is slow.
        distinct = list(dict.fromkeys(prompts))
        if not distinct:
            return np.empty(0, np.int8), np.empty(0, np.float32)
        texts = [clean(text) for text in distinct]
        found = self._pipeline(texts, candidate_labels=list(LABELS), hypothesis_template=HYPOTHESIS)
        answer = {
            text: (LABELS[result["labels"][0]], result["scores"][0])
            for text, result in zip(distinct, found, strict=True)
        }
        polarity = np.array([answer[text][0] for text in prompts], np.int8)
        return polarity, np.array([answer[text][1] for text in prompts], np.float32).clip(0.5, 1)

    @cached_property
    def _pipeline(self) -> Any:
        from transformers import pipeline

        try:
            return pipeline("zero-shot-classification", model=self.model, device=-1, trust_remote_code=False)
        except (OSError, ValueError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise InputError(
                f"router model {self.model!r} could not be loaded: {reason} "
                "Check the name and the connection to the hub, or use the router 'offline', which needs none."
            ) from None


def route_records(prompts: list[str], router: Any) -> list[dict[str, Any]]:
    """Routing decisions for people and files: prompt, polarity ("positive" or "negative") and confidence of each.

    Raises:
        InputError: a prompt is empty.
    """
    polarity, confidence = router.route(prompts)
    return [
        {"prompt": prompt, "polarity": "positive" if side > 0 else "negative", "confidence": round(float(sure), 4)}
        for prompt, side, sure in zip(prompts, polarity, confidence, strict=True)
    ]


def _refuse_empty(prompts: list[str]) -> None:
    for place, prompt in enumerate(prompts):
        if not prompt.strip():
            raise InputError(f"prompt {place + 1} is empty: write what you want, or what you do not want.")


def _decide(logits: npt.NDArray[np.float64]) -> tuple[Polarity, Floats]:
    polarity = np.where(logits >= 0, POSITIVE, NEGATIVE).astype(np.int8)
    return polarity, (1 / (1 + np.exp(-np.abs(logits)))).astype(np.float32)
