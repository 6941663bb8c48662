"""From items and words to tokens, as LANCER's models read them; and the training sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from baselines.lancer.prompts import HISTORY_LENGTH
from baselines.lancer.wording import ItemTexts, Wording
from baselines.language.histories import Example, Histories, OfExamples
from baselines.language.padding import batch, labelled, right_padded
from bench.contracts import NO_ITEM, Ints

# Tokens that are read: of an item, of the text about it, and of what stands before a history.
ITEM_TOKENS, TEXT_TOKENS, OPENING_TOKENS = 32, 128, 128


class Reader:
    """Tokens of a catalogue in one wording."""

    def __init__(self, tokenizer: Any, texts: ItemTexts, how: Wording) -> None:
        self.tokenizer, self.texts, self.how = tokenizer, texts, how
        self.between = self._tokens([how.between])[0]

    @cached_property
    def items(self) -> list[list[int]]:
        """Every item as it stands in a history, at most 32 tokens each."""
        return [tokens[:ITEM_TOKENS] for tokens in self._tokens(self.texts.items(self.how))]

    @cached_property
    def knowledge(self) -> list[list[int]]:
        """The text about every item."""
        return [tokens[:TEXT_TOKENS] for tokens in self._tokens(self.texts.knowledge(self.how))]

    @property
    def ends(self) -> set[int]:
        """Tokens at which an item that is being written ends: the first of the separator, and the end of text."""
        return {self.between[0], self.tokenizer.eos_token_id}

    def sentence(self, history: Ints, prompt: str | None) -> list[int]:
        """Request, opening and the newest ten items of a history, each with the separator behind it."""
        tokens = self._tokens([self.texts.opening(self.how, prompt)])[0][:OPENING_TOKENS]
        for item in history[-HISTORY_LENGTH:].tolist():
            tokens += self.items[item] + self.between
        return tokens

    def text(self, tokens: list[int]) -> str:
        """A generated item as a string, without what follows a separator."""
        decoded: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return decoded.partition(self.how.between)[0].strip()

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        rows: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False).input_ids
        return rows


class Sentences(OfExamples):
    """Training examples as sentences: the history, and behind it the item that follows.

    The last item ends with the separator as well, which is where generation stops. The released code ends it with padding,
    which it predicts too; here padding is never a label.

    Args:
        examples: what is read; `set_epoch` is passed on to it.
        reader: makes tokens.
        answer_only: the loss is on the last item alone and not on the whole sentence (in training, as released).
    """

    def __init__(self, examples: Histories | Sequence[Example], reader: Reader, *, answer_only: bool = False) -> None:
        super().__init__(examples)
        self._reader, self._answer_only = reader, answer_only

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self._examples[index]
        before = self._reader.sentence(example.history, example.prompt)
        after = self._reader.items[example.target] + self._reader.between
        return {
            **labelled(before, after, answer_only=self._answer_only),
            "history": example.history,
            "learned": int(example.history[index % len(example.history)]),
        }


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A batch of sentences, as `LancerNet.forward` takes it; of every history one item teaches the knowledge prompt."""
    return {
        **batch(rows),
        "history": last_items([row["history"] for row in rows]),
        "learned": torch.tensor(sorted({row["learned"] for row in rows})),
    }


def last_items(histories: Iterable[Ints]) -> torch.Tensor:
    """The newest ten items of each history, NO_ITEM on the left where there are fewer, int64 [B, 10]."""
    rows = [history[-HISTORY_LENGTH:] for history in histories]
    made = np.full((len(rows), HISTORY_LENGTH), NO_ITEM, np.int64)
    for place, row in enumerate(rows):
        made[place, HISTORY_LENGTH - len(row) :] = row
    return torch.from_numpy(made)


def left_padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """The same with the filling on the left, for generation."""
    values, mask = right_padded([list(reversed(row)) for row in rows])
    return values.flip(1), mask.flip(1)
