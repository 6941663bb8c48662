"""Generation by a causal language model of transformers that is loaded already: greedy search, sampling, beam search."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from bench.llm.contracts import Failure, Sampling
from bench.llm.failures import RequestError
from bench.llm.wire import Reply

Made = Reply | RequestError


class CausalGenerator:
    """A model with its tokenizer, which must pad on the left.

    Args:
        model: of transformers, in evaluation mode, on `device`.
        tokenizer: its own, with a pad token.
        device: cpu or cuda.
        once: tokens that are not written where they stand in the prompt, or in the answer so far, already.
    """

    def __init__(self, model: Any, tokenizer: Any, device: str, once: Collection[int] = ()) -> None:
        import torch

        self._torch, self._model, self._tokenizer, self._device = torch, model, tokenizer, device
        self._once = torch.tensor(sorted(once), dtype=torch.long, device=device)
        self._longest = int(getattr(model.config, "max_position_embeddings", None) or 1 << 30)

    def too_long(self, prompt: str, sampling: Sampling) -> RequestError | None:
        """Why the prompt and its answer do not fit into the model's context, None where they do."""
        tokens = len(self._tokenizer(prompt, add_special_tokens=False).input_ids)
        if tokens + sampling.max_tokens <= self._longest:
            return None
        detail = f"prompt of {tokens} and answer of {sampling.max_tokens} tokens exceed {self._longest}"
        return RequestError(Failure.BAD_REQUEST, detail)

    def complete(self, prompts: list[str], sampling: Sampling) -> list[Made]:
        """A reply, or why there is none, for each prompt, all in one batch; on a full GPU in halves."""
        try:
            return self._batch(prompts, sampling)
        except self._torch.OutOfMemoryError:
            self._torch.cuda.empty_cache()
        if len(prompts) == 1:
            return [RequestError(Failure.BAD_REQUEST, "the request does not fit into the GPU's memory")]
        half = len(prompts) // 2
        return self.complete(prompts[:half], sampling) + self.complete(prompts[half:], sampling)

    def _batch(self, prompts: list[str], sampling: Sampling) -> list[Made]:
        torch = self._torch
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
        if len(self._once):
            options |= {"logits_processor": [self._bar]}
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
            replies.append(self._reply(rows * (sampling.n // per), sampling, prompt_tokens, own))
        return replies

    def _bar(self, tokens: Any, scores: Any) -> Any:
        """Scores [B, vocabulary] without what must not come again after the tokens [B, T]."""
        stands = self._torch.zeros_like(scores, dtype=self._torch.bool).scatter_(1, tokens, True)
        only = self._torch.zeros(scores.shape[1], dtype=self._torch.bool, device=scores.device)
        only[self._once] = True
        return scores.masked_fill(stands & only, -self._torch.inf)

    def _reply(
        self, rows: list[list[int]], sampling: Sampling, prompt_tokens: int, scores: tuple[float, ...] | None
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
            cuts = [text.find(stop) for stop in sampling.stop if stop in text]
            texts.append(text[: min(cuts)] if cuts else text)
            finish.append("stop" if cuts or length is not None else "length")
            tokens += len(kept)
        return Reply(tuple(texts), tuple(finish), None, prompt_tokens, tokens, scores)

    def _log_probabilities(self, out: Any) -> list[float]:
        """Natural log-probability of each beam's tokens, summed."""
        steps = self._model.compute_transition_scores(out.sequences, out.scores, out.beam_indices)
        return [round(float(value), 6) for value in steps.nan_to_num(neginf=0.0).sum(dim=1)]
