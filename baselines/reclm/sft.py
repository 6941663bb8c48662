"""Supervised fine-tuning: the loss on answers alone, and LoRA on all linear layers of a pretrained model."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.nn import functional

from baselines.language.base_model import Base
from baselines.language.histories import OfExamples, RequestsAnswered
from baselines.language.padding import IGNORED
from baselines.language.settings import TrainingSettings
from baselines.language.training import train
from baselines.reclm.data import Example, Instructions
from baselines.reclm.prompts import Words
from baselines.reclm.settings import SFTSettings
from bench.contracts import FitContext
from bench.llm.hf_engine import chat_prompt

NAME, READING = "reclm sft", "reclm pretraining"
EPSILON = 1e-5


class Coder:
    """Turns examples into tokens: prompts padded on the left, answers on the right, so that answers line up.

    A prompt reads in training as it does in testing, to the token: both are the chat template with its generation prompt.
    """

    def __init__(self, tokenizer: Any, words: Words) -> None:
        self._tokenizer, self._words = tokenizer, words
        self.pad = int(tokenizer.pad_token_id)

    def prompt(self, example: Example) -> str:
        """The text that the model goes on from."""
        turns = self._words.instruction(
            example.history, example.intention, example.count, example.candidates, example.question
        )
        return chat_prompt(self._tokenizer, turns)

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, with nothing added."""
        found: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return found

    def answer(self, example: Example) -> list[int]:
        """The tokens of the answer: its lines, and the end token."""
        if example.question is not None:
            text = self._words.category(example.question, example.control.category)
        else:
            text = self._words.listing(example.items)
        return [*self.tokens(text), int(self._tokenizer.eos_token_id)]

    def batch(self, examples: list[Example]) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask` [B, P + A], and `answers` [B, A], IGNORED in padding."""
        return join([self.tokens(self.prompt(each)) for each in examples], list(map(self.answer, examples)), self.pad)


def join(prompts: list[list[int]], answers: list[list[int]], pad: int) -> dict[str, torch.Tensor]:
    """Prompts of P tokens at most and answers of A at most as `input_ids`, `attention_mask` [B, P + A] and `answers` [B, A]."""
    widest, longest = max(map(len, prompts)), max(map(len, answers))
    rows, mask, labels = [], [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        before, after = widest - len(prompt), longest - len(answer)
        rows.append([pad] * before + prompt + answer + [pad] * after)
        mask.append([0] * before + [1] * (len(prompt) + len(answer)) + [0] * after)
        labels.append(answer + [IGNORED] * after)
    return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(mask), "answers": torch.tensor(labels)}


def answer_logits(model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, length: int, **more: Any) -> Any:
    """The model's output whose `logits` [B, A, vocabulary] predict the last A = `length` tokens."""
    positions = (attention_mask.cumsum(1) - 1).clamp(min=0)
    kept = {"logits_to_keep": length + 1} if _keeps(model) else {}
    out = model(
        input_ids=input_ids, attention_mask=attention_mask, position_ids=positions, use_cache=False, **kept, **more
    )
    out.logits = out.logits[:, -length - 1 : -1]
    return out


def _keeps(model: Any) -> bool:
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(whole.forward).parameters


class Supervised(torch.nn.Module):
    """Mean negative log-likelihood of the answer's tokens in each example, averaged over examples."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar."""
        logits = answer_logits(self.model, input_ids, attention_mask, answers.shape[1]).logits
        loss = functional.cross_entropy(logits.float().transpose(1, 2), answers, ignore_index=IGNORED, reduction="none")
        return (loss.sum(1) / (answers != IGNORED).sum(1)).mean()


class Reading(OfExamples, torch.utils.data.Dataset[Example]):
    """What a base from scratch reads before it is tuned: requests with lists that answer them, as tasks I3 and I1 word them."""

    def __init__(self, requests: RequestsAnswered) -> None:
        super().__init__(requests)
        self._requests = requests

    def __getitem__(self, index: int) -> Example:
        row = self._requests[index]
        items, history = tuple(row.items.tolist()), tuple(row.history.tolist())
        return Example("reading", history, row.request, len(items), items, items[0])


class Read(torch.nn.Module):
    """Mean negative log-likelihood of all tokens, prompts and answers alike: such a base has to learn both."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar."""
        positions = (attention_mask.cumsum(1) - 1).clamp(min=0)
        labels = input_ids.masked_fill(attention_mask == 0, IGNORED)
        loss: torch.Tensor = self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=positions, labels=labels, use_cache=False
        ).loss
        return loss


def read(
    base: Base, requests: RequestsAnswered, words: Words, settings: TrainingSettings, context: FitContext
) -> list[dict[str, float]]:
    """Train all weights of a base from scratch on requests and their answers; gives the log."""
    base.model.requires_grad_(True)
    return train(
        READING,
        Read(base.model),
        data=Reading(requests),
        collate=Coder(base.tokenizer, words).batch,
        settings=settings,
        context=context,
    )


def fine_tune(
    base: Base, data: Instructions, validation: list[Example], words: Words, settings: SFTSettings, context: FitContext
) -> tuple[Any, list[dict[str, float]]]:
    """Train a base model on instructions: all of its weights where it is from scratch, otherwise LoRA.

    Returns:
        What was trained: the model itself or the PEFT model around it, and the log.
    """
    model = base.model if base.from_scratch else with_lora(base.model, settings.rank, settings.alpha, settings.dropout)
    if base.from_scratch:
        model.requires_grad_(True)
    module = Supervised(model)
    weights = [each for each in module.parameters() if each.requires_grad]
    # The published epsilon would drown the small gradients of a model that begins at random.
    optimizer: dict[str, Any] = {"betas": (0.9, 0.98)} if base.from_scratch else {"eps": EPSILON}
    groups = [
        {"params": [each for each in weights if each.ndim >= 2], **optimizer},
        {"params": [each for each in weights if each.ndim < 2], **optimizer, "weight_decay": 0.0},
    ]
    coder = Coder(base.tokenizer, words)
    log = train(
        NAME,
        module,
        data=data,
        collate=coder.batch,
        settings=settings,
        context=context,
        validation=validation or None,
        groups=[group for group in groups if group["params"]],
    )
    return model, log


def with_lora(model: Any, rank: int, alpha: int, dropout: float) -> Any:
    """A PEFT model with LoRA on all linear layers; on the output layer unless it shares its weights with the input."""
    from peft import LoraConfig, get_peft_model

    targets = linear_layers(model, output=not model.config.tie_word_embeddings)
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets, bias="none", task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)


def linear_layers(model: Any, *, output: bool) -> list[str]:
    """Names of all linear layers, the output layer only if asked for."""
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    return [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear | Conv1D) and (output or layer is not head)
    ]
