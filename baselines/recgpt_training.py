"""Training of a base from scratch in RecGPT's own prompts, where published weights are not to be had or not wanted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from baselines.language.base_model import Base
from baselines.language.histories import (
    Example,
    Histories,
    OfExamples,
    RequestsAnswered,
    validation_examples,
    words_of_training,
)
from baselines.language.padding import batch, labelled
from baselines.language.scratch import fixed_parts
from baselines.language.training import train
from bench.contracts import Dataset, FitContext

if TYPE_CHECKING:
    from baselines.recgpt import PromptWords, RecGPTSettings

NAME, PRETRAINING, VALIDATED = "recgpt", "recgpt pretraining", 256
# Answers to a request of the pretraining.
ANSWERS = 10


def tokenizer_texts(words: PromptWords, dataset: Dataset) -> list[str]:
    """What the tokenizer of a base from scratch is trained on: every item in a prompt, every answer, every request."""
    prompts = [words.prompt([item], None) for item in range(len(words.titles))]
    asked = [words.prompt([], request) for request in words_of_training(dataset)]
    return [*prompts, *words.strings, *asked]


def units(words: PromptWords) -> list[str]:
    """What is one token for a base from scratch: every title, and what stands around titles, labels and request."""
    shown, request = [0, 1], "the request"
    # A label keeps its space, so that it reads alike wherever it stands.
    data = [request, *(words.titles[item] for item in shown), *(f" {words.labels[item]}" for item in shown)]
    prompts = [words.prompt(history, said) for history in (shown, []) for said in (None, request)]
    return [*words.titles, *fixed_parts(prompts, data)]


def tune(
    base: Base, words: PromptWords, dataset: Dataset, settings: RecGPTSettings, context: FitContext
) -> dict[str, list[dict[str, float]]]:
    """Train all weights of the base, on the catalogue alone (`Catalogue`) and then on histories; gives the loss logs.

    The loss is on the whole text, prompt and answer, since such a base has no pre-training; the best epoch is that with the
    least loss on the answers that are the first validation event of users.
    """
    how = settings.training
    before = RequestsAnswered(dataset, seed=context.seed, name=PRETRAINING, most=ANSWERS, length=settings.titles)
    logs = {
        PRETRAINING: train(
            PRETRAINING,
            base.model,
            data=Catalogue(before, words, base.tokenizer),
            collate=partial(batch, pad=base.tokenizer.pad_token_id),
            settings=settings.pretraining,
            context=context,
        )
    }
    histories = Histories(
        dataset,
        seed=context.seed,
        name=NAME,
        length=settings.titles,
        requests=how.requests,
        users=how.users,
    )
    held_out = validation_examples(dataset, length=settings.titles, most=VALIDATED)
    logs[NAME] = train(
        NAME,
        base.model,
        data=Dialogues(histories, words, base.tokenizer),
        collate=partial(batch, pad=base.tokenizer.pad_token_id),
        settings=how,
        context=context,
        validation=Dialogues(held_out, words, base.tokenizer, answer_only=True),
    )
    return logs


class Catalogue(OfExamples, torch.utils.data.Dataset[dict[str, Any]]):
    """Requests with several answers in turn, as tokens: what a base from scratch reads first."""

    def __init__(self, requests: RequestsAnswered, words: PromptWords, tokenizer: Any) -> None:
        super().__init__(requests)
        self._requests, self._words, self._tokenizer = requests, words, tokenizer

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._requests[index]
        answers = "".join(f"\n{self._words.strings[item]}" for item in row.items.tolist())
        prompt = self._words.prompt(row.history.tolist(), row.request)
        tokens = self._tokenizer(prompt + answers, add_special_tokens=False).input_ids
        return labelled([], tokens, answer_only=False)


class Dialogues(OfExamples, torch.utils.data.Dataset[dict[str, Any]]):
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
        super().__init__(examples)
        self._words, self._tokenizer, self._answer_only = words, tokenizer, answer_only

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self._examples[index]
        before = self._tokens(self._words.prompt(example.history.tolist(), example.prompt))
        after = [*self._tokens(f"\n{self._words.strings[example.target]}"), self._tokenizer.eos_token_id]
        return labelled(before, after, answer_only=self._answer_only)

    def _tokens(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return found
