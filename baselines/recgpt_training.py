"""Training of a base from scratch in RecGPT's own prompts, where published weights are not to be had or not wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from baselines.language.base_model import Base
from baselines.language.histories import Example, Histories, validation_examples, words_of_training
from baselines.language.training import train
from bench.contracts import Dataset, FitContext

if TYPE_CHECKING:
    from baselines.recgpt import PromptWords, RecGPTSettings

NAME, IGNORED, VALIDATED = "recgpt", -100, 256


def tokenizer_texts(words: PromptWords, dataset: Dataset) -> list[str]:
    """What the tokenizer of a base from scratch is trained on: every item in a prompt, every answer, every request."""
    prompts = [words.prompt([item], None) for item in range(len(words.titles))]
    return [*prompts, *words.strings, *words_of_training(dataset)]


def tune(
    base: Base, words: PromptWords, dataset: Dataset, settings: RecGPTSettings, context: FitContext
) -> tuple[dict[str, float], ...]:
    """Train all weights of the base; gives the loss log.

    The loss is on the whole text, prompt and answer, since such a base has no pre-training; the best epoch is that with the
    least loss on the answers that are the first validation event of users.
    """
    how = settings.training
    histories = Histories(
        dataset,
        seed=context.seed,
        name=NAME,
        length=settings.titles,
        requests=how.requests,
        users=how.users,
    )
    held_out = validation_examples(dataset, length=settings.titles, most=VALIDATED)
    log = train(
        NAME,
        base.model,
        data=Dialogues(histories, words, base.tokenizer),
        collate=Collate(base.tokenizer.pad_token_id),
        settings=how,
        context=context,
        validation=Dialogues(held_out, words, base.tokenizer, answer_only=True),
    )
    return tuple(log)


class Dialogues(torch.utils.data.Dataset[dict[str, Any]]):
    """Prompts with their answers, as tokens; an answer ends with the end token.

    Args:
        examples: what is asked and answered; `set_epoch` is passed on to it.
        words: of the prompts.
        tokenizer: of the base.
        answer_only: whether the prompt is no label.
    """

    def __init__(
        self, examples: Histories | Sequence[Example], words: PromptWords, tokenizer: Any, *, answer_only: bool = False
    ) -> None:
        self._examples, self._words, self._tokenizer, self._answer_only = examples, words, tokenizer, answer_only

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self._examples[index]
        before = self._tokens(self._words.prompt(example.history.tolist(), example.prompt))
        after = [*self._tokens(f"\n{self._words.strings[example.target]}"), self._tokenizer.eos_token_id]
        return {
            "tokens": before + after,
            "labels": [IGNORED] * len(before) + after if self._answer_only else before + after,
        }

    def set_epoch(self, epoch: int) -> None:
        """Draw the examples of an epoch."""
        if isinstance(self._examples, Histories):
            self._examples.set_epoch(epoch)

    def _tokens(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return found


class Collate:
    """Rows of `Dialogues` to a batch, padded on the right."""

    def __init__(self, pad: int) -> None:
        self._pad = pad

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask` and `labels`, int64 [B, T]."""
        longest = max(len(row["tokens"]) for row in rows)
        filled = [(row["tokens"], row["labels"], longest - len(row["tokens"])) for row in rows]
        return {
            "input_ids": torch.tensor([tokens + [self._pad] * room for tokens, _, room in filled]),
            "attention_mask": torch.tensor([[1] * len(tokens) + [0] * room for tokens, _, room in filled]),
            "labels": torch.tensor([labels + [IGNORED] * room for _, labels, room in filled]),
        }
