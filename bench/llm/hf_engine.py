"""transformers in this process: chat template, greedy search, sampling, beam search with log-probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.errors import InputError
from bench.llm.contracts import Capabilities, ChatRequest, Failure, Message
from bench.llm.failures import RequestError
from bench.llm.local import Made
from bench.llm.wire import Reply

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
        self._tokenizer, self._model = tokenizer, model.to(self._device).eval()
        self._longest = int(getattr(model.config, "max_position_embeddings", None) or 1 << 30)

    def generate(self, requests: list[ChatRequest]) -> list[Made]:
        """See `bench.llm.local.Engine`."""
        made: list[Made | None] = [None] * len(requests)
        prompts = [chat_prompt(self._tokenizer, request.messages) for request in requests]
        lengths = [len(self._tokenizer(prompt, add_special_tokens=False).input_ids) for prompt in prompts]
        fitting = []
        for place, request in enumerate(requests):
            if lengths[place] + request.sampling.max_tokens > self._longest:
                detail = f"prompt of {lengths[place]} and answer of {request.sampling.max_tokens} tokens exceed {self._longest}"
                made[place] = RequestError(Failure.BAD_REQUEST, detail)
            else:
                fitting.append(place)
        # Longest first: what does not fit into memory shows at once.
        fitting.sort(key=lambda place: -lengths[place])
        for group in _groups(requests, fitting):
            replies = self._fitting(requests[group[0]], [prompts[place] for place in group])
            for place, reply in zip(group, replies, strict=True):
                made[place] = reply
        return [reply for reply in made if reply is not None]

    def close(self) -> None:
        """Free the model's memory."""
        self._model = None
        if self._device == "cuda":
            self._torch.cuda.empty_cache()

    def _fitting(self, request: ChatRequest, prompts: list[str]) -> list[Made]:
        """Generate; on a full GPU in halves."""
        try:
            return self._group(request, prompts)
        except self._torch.OutOfMemoryError:
            self._torch.cuda.empty_cache()
        if len(prompts) == 1:
            return [RequestError(Failure.BAD_REQUEST, "the request does not fit into the GPU's memory")]
        half = len(prompts) // 2
        return self._fitting(request, prompts[:half]) + self._fitting(request, prompts[half:])

    def _group(self, request: ChatRequest, prompts: list[str]) -> list[Made]:
        torch, sampling = self._torch, request.sampling
        coded = self._tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False).to(self._device)
        options: dict[str, Any] = {
            "max_new_tokens": sampling.max_tokens,
            "num_return_sequences": sampling.n,
            "pad_token_id": self._tokenizer.pad_token_id,
            "return_dict_in_generate": True,
            "output_scores": sampling.beams > 1,
        }
        if sampling.beams > 1:
            options |= {"num_beams": sampling.beams, "do_sample": False}
        elif sampling.temperature > 0:
            # top_k=0 turns off a limit of 50 that transformers has by default and servers have not.
            options |= {
                "do_sample": True,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p or 1.0,
                "top_k": 0,
            }
        else:
            # Greedy answers are all the same: one is made.
            options |= {"do_sample": False, "num_return_sequences": 1}
        if sampling.stop:
            options |= {"stop_strings": list(sampling.stop), "tokenizer": self._tokenizer}
        with torch.inference_mode(), torch.random.fork_rng(devices=["cuda"] if self._device == "cuda" else []):
            if sampling.seed is not None:
                torch.manual_seed(sampling.seed)
            out = self._model.generate(**coded, **options)
        width = coded["input_ids"].shape[1]
        scores = self._log_probabilities(out) if sampling.beams > 1 else None
        per = options["num_return_sequences"]
        replies: list[Made] = []
        for place in range(len(prompts)):
            rows = out.sequences[place * per : (place + 1) * per, width:].tolist()
            prompt_tokens = int(coded["attention_mask"][place].sum())
            own = None if scores is None else tuple(scores[place * per : (place + 1) * per])
            replies.append(self._reply(rows * (sampling.n // per), request, prompt_tokens, own))
        return replies

    def _reply(
        self, rows: list[list[int]], request: ChatRequest, prompt_tokens: int, scores: tuple[float, ...] | None
    ) -> Reply:
        ends = self._model.generation_config.eos_token_id
        ends = set(ends) if isinstance(ends, list) else {ends}
        texts, finish, tokens = [], [], 0
        for row in rows:
            length = next((place for place, token in enumerate(row) if token in ends), None)
            kept = row if length is None else row[:length]
            if length is None:
                # Rows that another one's length padded out.
                while kept and kept[-1] == self._tokenizer.pad_token_id:
                    kept = kept[:-1]
            text = self._tokenizer.decode(kept, skip_special_tokens=True)
            cuts = [text.find(stop) for stop in request.sampling.stop if stop in text]
            texts.append(text[: min(cuts)] if cuts else text)
            finish.append("stop" if cuts or length is not None else "length")
            tokens += len(kept)
        return Reply(tuple(texts), tuple(finish), None, prompt_tokens, tokens, scores)

    def _log_probabilities(self, out: Any) -> list[float]:
        """Natural log-probability of each beam's tokens, summed."""
        steps = self._model.compute_transition_scores(out.sequences, out.scores, out.beam_indices)
        return [round(float(value), 6) for value in steps.nan_to_num(neginf=0.0).sum(dim=1)]


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
