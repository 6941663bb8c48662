"""Text from a base model in this process: greedy answers, and beams with their log-probabilities."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from baselines.language.base_model import Base
from bench.contracts import Floats
from bench.errors import CheckError
from bench.llm.causal import CausalGenerator
from bench.llm.contracts import Sampling
from bench.llm.failures import RequestError
from bench.llm.wire import Reply

if TYPE_CHECKING:
    from bench.llm.vllm_engine import VllmEngine

BATCH = 32


def greedy(
    base: Base,
    prompts: list[str],
    *,
    max_tokens: int,
    stop: tuple[str, ...] = (),
    batch: int = BATCH,
    once: Collection[int] = (),
) -> list[str]:
    """The greedy continuation of every prompt, up to the end token or one of `stop`; no token of `once` comes twice.

    Raises:
        CheckError: a prompt does not fit into the model's context or the GPU's memory.
    """
    replies = _complete(base, prompts, Sampling(max_tokens=max_tokens, stop=stop), batch, once)
    return [reply.texts[0] for reply in replies]


def beams(
    base: Base, prompts: list[str], *, beams: int = 10, max_tokens: int, batch: int = BATCH // 4
) -> tuple[list[list[str]], Floats]:
    """The best `beams` continuations of every prompt, best first, and their summed natural log-probabilities.

    Returns:
        Texts, [B][beams], and scores float32 [B, beams].

    Raises:
        CheckError: a prompt does not fit into the model's context or the GPU's memory.
    """
    return _beams_of(_complete(base, prompts, Sampling(max_tokens=max_tokens, n=beams, beams=beams), batch), beams)


def engine_beams(
    engine: VllmEngine, prompts: list[str], *, beams: int, max_tokens: int
) -> tuple[list[list[str]], Floats]:
    """The same from vLLM."""
    return _beams_of(engine.search(prompts, Sampling(max_tokens=max_tokens, n=beams, beams=beams)), beams)


def _beams_of(replies: list[Reply], beams: int) -> tuple[list[list[str]], Floats]:
    scores = np.asarray([reply.scores for reply in replies], np.float32).reshape(len(replies), beams)
    return [list(reply.texts) for reply in replies], scores


def _complete(
    base: Base, prompts: list[str], sampling: Sampling, batch: int, once: Collection[int] = ()
) -> list[Reply]:
    """Replies in the order of the prompts; those of like length are generated together, the longest first."""
    base.model.eval()
    generator = CausalGenerator(base.model, base.tokenizer, base.device, once)
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    replies: dict[int, Reply] = {}
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        refused = next(filter(None, (generator.too_long(prompts[place], sampling) for place in places)), None)
        made = [refused] if refused else generator.complete([prompts[place] for place in places], sampling)
        for place, reply in zip(places, made, strict=False):
            if isinstance(reply, RequestError):
                raise CheckError(f"{base.identity}: {reply.detail}.")
            replies[place] = reply
    return [replies[place] for place in range(len(prompts))]
