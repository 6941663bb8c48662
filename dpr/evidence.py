"""What `dpr_sas_plus` weighs: for every request and every item, a column of evidence from each of its experts.

The experts are three encoders of the same history (one told the prompt), what is written about the items, and what the named
labels say about an item: exactly what filters and text retrieval know, but as evidence that can be weighed and not as a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from baselines.genre_parser import GenreParser
from baselines.sequential import SequentialRecommender
from baselines.text_retrieval import TextIndex
from bench.contracts import NEGATIVE, POSITIVE, Ints, Longs, Ragged

EXPERTS = ("dpr", "joint", "tuned", "future", "text", "all", "exact", "any", "new", "size")
# Which experts an ablation takes away.
INGREDIENTS = {
    "dpr": ("dpr",),
    "tuned": ("tuned", "future"),
    "text": ("text",),
    "labels": ("all", "exact", "any", "new", "size"),
}


@dataclass(frozen=True)
class Words:
    """Distinct prompts: sentence vectors [P, dimension], labels that each names [P, L], cosine with every item [P, V]."""

    vectors: torch.Tensor
    named: torch.Tensor
    cosine: torch.Tensor


@dataclass(frozen=True)
class Asked:
    """B requests: histories, the routed polarity (0 without a prompt) and the row of each one's prompt in `Words`."""

    history: Ragged
    polarity: Longs
    prompt: Longs

    def take(self, rows: Any) -> Asked:
        """The given requests."""
        return Asked(self.history.take(rows), self.polarity[rows], self.prompt[rows])


class Evidence:
    """Makes the columns.

    Args:
        dpr: the network of a fitted DPR.
        tuned: the +f backbone.
        future: the +f+a backbone, which was trained on events farther ahead.
        index: the texts of the items.
        parser: reads label names.
    """

    def __init__(
        self,
        dpr: Any,
        tuned: SequentialRecommender,
        future: SequentialRecommender,
        index: TextIndex,
        parser: GenreParser,
    ) -> None:
        self.dpr, self.tuned, self.future, self.index, self.parser = dpr, tuned, future, index, parser
        self.has = torch.from_numpy(np.asarray(parser.has, np.float32))

    def words(self, prompts: list[str], own: dict[int, int] | None = None) -> Words:
        """What the experts read of distinct prompts.

        Args:
            prompts: the texts.
            own: prompt to the row of the item text that is the prompt itself; that one text is left out, so that a training tag
                meets its item as a reworded one would: through what else is written about it.
        """
        vectors = self.index.encoder.encode(prompts)
        texts, start = self.index.arrays["text_vectors"], self.index.arrays["text_start"]
        cosine = np.empty((len(prompts), len(start)), np.float16)
        for begin in range(0, len(prompts), 512):
            part = vectors[begin : begin + 512] @ texts.T
            for row in range(len(part)):
                if own and begin + row in own:
                    part[row, own[begin + row]] = -1.0
            cosine[begin : begin + 512] = np.maximum.reduceat(part, start, axis=1)
        named = np.zeros((len(prompts), self.has.shape[1]), np.float32)
        for row, prompt in enumerate(prompts):
            named[row, self.parser.labels(prompt)] = 1.0
        return Words(torch.from_numpy(vectors), torch.from_numpy(named), torch.from_numpy(cosine))

    def columns(self, asked: Asked, words: Words | None, prompts: Any) -> torch.Tensor:
        """Evidence float32 [B, experts, V]; `prompts` is what DPR's network reads of the distinct prompts."""
        size = len(asked.polarity)
        out = torch.zeros(size, len(EXPERTS), len(self.has))
        hidden = self.dpr.backbone.encode(asked.history)
        table = self.dpr.table.t()
        out[:, 1] = hidden @ table
        out[:, 0] = out[:, 1]
        out[:, 2] = self.tuned.net.encode(asked.history) @ self.tuned.net.table.t()
        out[:, 3] = self.future.net.encode(asked.history) @ self.future.net.table.t()
        if words is None:
            return out
        for side in (POSITIVE, NEGATIVE):
            rows = torch.from_numpy(np.flatnonzero(asked.polarity == side))
            if len(rows):
                vectors, real = prompts.take(torch.from_numpy(asked.prompt)[rows])
                out[rows, 0] = self.dpr.steer(hidden[rows], vectors, side, real) @ table
        prompt = torch.from_numpy(asked.prompt)
        out[:, 4] = words.cosine[prompt].float() * 10.0
        out[:, 5:] = self._labels(words.named[prompt], _last(asked.history))
        return out

    def _labels(self, named: torch.Tensor, last: Ints) -> torch.Tensor:
        """How an item's labels lie to the named ones and to those of the last item, [B, 5, V]."""
        has = self.has
        count, size = named.sum(1, keepdim=True), has.sum(1)
        shared = named @ has.t()
        told = (count > 0).float()
        every = (shared == count).float() * told
        fresh = (size[None] - has[torch.from_numpy(last).long()] @ has.t()).clamp_(min=0)
        return torch.stack(
            [
                every,
                every * (size[None] == count).float(),
                (shared > 0).float(),
                torch.log1p(fresh),
                torch.log1p(size).expand(len(named), -1),
            ],
            1,
        )


def _last(history: Ragged) -> Ints:
    return history.values[np.maximum(history.offsets[1:] - 1, 0)]
