"""transformers in this process: a model of a folder, asked through its chat template."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.errors import InputError
from bench.llm.causal import CausalGenerator, Made
from bench.llm.contracts import Capabilities, ChatRequest, Message

CAPABILITIES = Capabilities(n=True, logprobs=True, seed=True, beams=True)


class TransformersEngine:
    """A causal language model with its tokenizer.

    Args:
        folder: model in Hugging Face's format.
        device: auto, cpu or cuda.
        dtype: name of a torch dtype, or "auto" for that of the checkpoint.

    Raises:
        InputError: the folder does not load.
    """

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._torch = torch
        self._device = resolved(device)
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
            model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise InputError(
                f"{folder} does not load as a language model: {' '.join(str(error).split())[:300]}"
            ) from None
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._tokenizer = tokenizer
        self._generator: CausalGenerator | None = CausalGenerator(
            model.to(self._device).eval(), tokenizer, self._device
        )

    def generate(self, requests: list[ChatRequest]) -> list[Made]:
        """See `bench.llm.local.Engine`."""
        assert self._generator is not None, "the engine is closed"
        made: list[Made | None] = [None] * len(requests)
        prompts = [chat_prompt(self._tokenizer, request.messages) for request in requests]
        for place, request in enumerate(requests):
            made[place] = self._generator.too_long(prompts[place], request.sampling)
        # Longest first: what does not fit into memory shows at once.
        fitting = sorted((place for place, known in enumerate(made) if known is None), key=lambda at: -len(prompts[at]))
        for group in _groups(requests, fitting):
            replies = self._generator.complete([prompts[place] for place in group], requests[group[0]].sampling)
            for place, reply in zip(group, replies, strict=True):
                made[place] = reply
        return [reply for reply in made if reply is not None]

    def close(self) -> None:
        """Free the model's memory."""
        self._generator = None
        if self._device == "cuda":
            self._torch.cuda.empty_cache()


def dtype_of(device: str) -> str:
    """float32 on processors, the checkpoint's own on GPUs."""
    return "float32" if resolved(device) == "cpu" else "auto"


def resolved(device: str) -> str:
    """The device that "auto" means."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def chat_prompt(tokenizer: Any, messages: tuple[Message, ...]) -> str:
    """The text that the model goes on from: by its chat template, or plain turns where it has none."""
    turns = [{"role": message.role, "content": message.content} for message in messages]
    if not tokenizer.chat_template:
        said = "\n".join(f"{turn['role'].capitalize()}: {turn['content']}" for turn in turns)
        return f"{tokenizer.bos_token or ''}{said}\nAssistant:"
    try:
        text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except Exception:
        if len(turns) < 2 or turns[0]["role"] != "system":
            raise
        # Some templates know no system turn: it goes before the first question.
        first = {"role": "user", "content": f"{turns[0]['content']}\n\n{turns[1]['content']}"}
        text = tokenizer.apply_chat_template([first, *turns[2:]], tokenize=False, add_generation_prompt=True)
    return text


def _groups(requests: list[ChatRequest], places: list[int]) -> Iterator[list[int]]:
    """Places of requests that can be generated together: equal sampling; drawn ones with a seed each alone."""
    groups: dict[Any, list[int]] = {}
    for place in places:
        sampling = requests[place].sampling
        alone = sampling.temperature > 0 and sampling.seed is not None and sampling.beams == 1
        groups.setdefault((sampling, place if alone else None), []).append(place)
    yield from groups.values()
