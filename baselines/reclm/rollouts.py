"""Lists that the policy writes for the RL stage: drawn, cut into lines at their newline tokens, and rewarded token by token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from baselines.reclm.data import CONTROLS, Builder, Cuts, Example, Orders
from baselines.reclm.prompts import NUMBER
from baselines.reclm.rewards import Reward, Rewards
from baselines.reclm.sft import Coder
from bench.contracts import Bools, Dataset, Floats, Ints, Ragged
from bench.rng import named_generator

# Of the released code: each prompt has a greedy rollout and one drawn like this; none is shorter than a title or so.
TEMPERATURE, TOP_K, SHORTEST = 0.7, 20, 15


@dataclass(frozen=True)
class Asked:
    """A prompt of the RL stage and the teacher's order for its history."""

    example: Example
    order: Ints


class Prompts:
    """Draws prompts: of every control alike, from train events or, held out, from first validation events."""

    def __init__(self, dataset: Dataset, teacher: Orders, builder: Builder, seed: int) -> None:
        self._dataset, self._teacher, self._builder, self._seed = dataset, teacher, builder, seed
        self._cuts = Cuts(dataset.train_events())

    def of_round(self, number: int, count: int) -> list[Asked]:
        """The prompts of a round."""
        rng = named_generator(self._seed, "reclm rl", f"round {number}")
        histories, targets = self._cuts.draw(rng.choice(self._cuts.users, count), rng)
        return self._asked(histories, targets, rng)

    def held_out(self, count: int) -> list[Asked]:
        """Prompts whose true next item is a user's first validation event."""
        ends = self._dataset.train_end
        users = np.flatnonzero((self._dataset.valid_end > ends) & (ends > 0))
        rng = named_generator(self._seed, "reclm rl", "held out")
        users = rng.choice(users, min(count, len(users)), replace=False)
        histories = Ragged.of([self._dataset.events[user][: ends[user]][-10:] for user in users])
        return self._asked(histories, np.array([self._dataset.events[user][ends[user]] for user in users]), rng)

    def _asked(self, histories: Ragged, targets: Any, rng: np.random.Generator) -> list[Asked]:
        return [
            Asked(self._builder.rl(CONTROLS[row % len(CONTROLS)], histories[row], int(targets[row]), order, rng), order)
            for row, order in enumerate(self._teacher.orders(histories))
        ]


@dataclass(frozen=True)
class Rollout:
    """Tokens of a prompt and of what was written, the reward of every written token, float32 [A], and that of the list."""

    prompt: list[int]
    answer: list[int]
    rewards: Floats
    whole: float


class Writer:
    """Writes lists with a model and rewards them."""

    def __init__(self, coder: Coder, tokenizer: Any, rewards: Rewards, max_tokens: int, batch: int) -> None:
        self._coder, self._tokenizer, self._rewards = coder, tokenizer, rewards
        self._max_tokens, self._batch = max_tokens, batch
        self._breaks = line_breaks(tokenizer)

    def write(self, model: Any, asked: list[Asked], seed: int | None) -> list[Rollout]:
        """A rollout of every prompt: greedy, or drawn with `seed`."""
        return [
            rollout
            for start in range(0, len(asked), self._batch)
            for rollout in self._some(model, asked[start : start + self._batch], seed, start)
        ]

    def _some(self, model: Any, asked: list[Asked], seed: int | None, start: int) -> list[Rollout]:
        device = next(model.parameters()).device
        texts = [self._coder.prompt(each.example) for each in asked]
        coded = self._tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(device)
        how: dict[str, Any] = {"do_sample": False}
        if seed is not None:
            how = {"do_sample": True, "temperature": TEMPERATURE, "top_k": TOP_K, "top_p": 1.0}
        with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed((seed or 0) + start)
            out = model.generate(
                **coded,
                max_new_tokens=self._max_tokens,
                min_new_tokens=SHORTEST,
                pad_token_id=self._coder.pad,
                **how,
            )
        width = coded["input_ids"].shape[1]
        return [
            self._rewarded(each, text, row[width:].tolist()) for each, text, row in zip(asked, texts, out, strict=True)
        ]

    def _rewarded(self, asked: Asked, text: str, answer: list[int]) -> Rollout:
        end = self._tokenizer.eos_token_id
        if end in answer:
            answer = answer[: answer.index(end) + 1]
        lines = split_lines(
            answer, self._breaks, lambda tokens: self._tokenizer.decode(tokens, skip_special_tokens=True)
        )
        reward = self._rewards.of(asked.example, [title for title, _ in lines], asked.order)
        return Rollout(
            self._coder.tokens(text), answer, spread(len(answer), [at for _, at in lines], reward), reward.whole
        )


def line_breaks(tokenizer: Any) -> Bools:
    """Which tokens end a line, bool [vocabulary]: asked of the tokenizer, since in no two families it is the same number."""
    return np.array(["\n" in tokenizer.decode([token]) for token in range(len(tokenizer))])


def split_lines(answer: list[int], breaks: Bools, decode: Callable[[list[int]], str]) -> list[tuple[str, int]]:
    """The titles of an answer, each with the place of the token that ends it; blank lines are left out.

    The last line need not be ended: the end token, or whatever comes last, stands in for its newline.
    """
    found, start = [], 0
    ends = [at for at, token in enumerate(answer) if breaks[token]]
    for at in [*ends, len(answer) - 1]:
        title = NUMBER.sub("", decode(answer[start : at + 1]), count=1).strip()
        if title:
            found.append((title, at))
        start = at + 1
    return found


def spread(length: int, ends: list[int], reward: Reward) -> Floats:
    """Rewards of tokens, float32 [length]: each title's on the token that ends its line, the list's on the last."""
    rewards = np.zeros(length, np.float32)
    np.add.at(rewards, ends, reward.titles)
    rewards[-1] += reward.whole
    return rewards
