"""What `dpr_sas_plus` weighs: for every request and every item, what each of its experts has to say.

The experts are encoders of the same history (one told the prompt, one of another family), what is written about the items, and
what the named labels say about an item: exactly what filters and text retrieval know, but as evidence that can be weighed and
not as a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from baselines.genre_parser import GenreParser
from baselines.sequential import SequentialRecommender
from baselines.text_retrieval import TextIndex
from bench.contracts import Ints, Longs, Ragged

ENCODERS = ("dpr", "joint", "backbone", "recurrent")
TEXTS = ("text", "near")
LABELS = ("all", "exact", "any", "new", "size")
EXPERTS = ENCODERS + TEXTS + LABELS
# Which experts an ablation takes away.
INGREDIENTS = {
    "dpr": ("dpr", "joint"),
    "recurrent": ("recurrent",),
    "text": TEXTS,
    "labels": LABELS,
}
# Kinds of requests. Who refuses Horror may mean every film that has the label, or films that are nothing else.
WISH, REFUSAL_OF_ANY, REFUSAL_OF_EXACT, PLAIN = range(4)
SIDES = {1: (WISH,), -1: (REFUSAL_OF_ANY, REFUSAL_OF_EXACT)}
# Cosines beyond this are those of texts about the same thing.
NEAR = 0.5
# Places of the catalogue whose cosine says how sure text retrieval is of its best one.
SURE = (1, 2, 20)


@dataclass(frozen=True)
class Words:
    """P distinct prompts.

    `named` [P, L], the labels that each names; `cosine` float16 [P, V] with the nearest text of every item; `sure` [P, 4], how the
    best cosines lie: the highest, its distance to the second and to the twentieth, and the mean of the twenty.
    """

    named: torch.Tensor
    cosine: torch.Tensor
    sure: torch.Tensor


@dataclass(frozen=True)
class Asked:
    """B requests: histories, the kind of each (int64 [B], see above) and the row of its prompt in `Words`."""

    history: Ragged
    kind: Longs
    prompt: Longs

    def take(self, rows: Any) -> Asked:
        """The given requests."""
        return Asked(self.history.take(rows), self.kind[rows], self.prompt[rows])


class Evidence:
    """Makes the evidence and adds it up.

    Args:
        dpr: the network of a fitted DPR.
        backbone: the backbone of that DPR as Stage 1 left it.
        recurrent: a recurrent backbone.
        index: the texts of the items.
        parser: reads label names.
    """

    def __init__(
        self,
        dpr: Any,
        backbone: SequentialRecommender,
        recurrent: SequentialRecommender,
        index: TextIndex,
        parser: GenreParser,
    ) -> None:
        self.dpr, self.index, self.parser = dpr, index, parser
        self.others = [backbone.net, recurrent.net]
        self.has = torch.from_numpy(np.asarray(parser.has, np.float32))
        tables = [dpr.table, dpr.table, *(net.table for net in self.others)]
        self.tables = torch.cat([table.detach() for table in tables], 1)
        self.widths = torch.tensor([table.shape[1] for table in tables])

    def words(self, prompts: list[str]) -> Words:
        """What the experts read of distinct prompts."""
        vectors = self.index.encoder.encode(prompts)
        texts, start = self.index.arrays["text_vectors"], self.index.arrays["text_start"]
        cosine = np.empty((len(prompts), len(start)), np.float16)
        sure = np.empty((len(prompts), 4), np.float32)
        places = [min(place, len(start)) for place in SURE]
        for begin in range(0, len(prompts), 512):
            rows = slice(begin, begin + 512)
            near = np.maximum.reduceat(vectors[rows] @ texts.T, start, axis=1)
            cosine[rows] = near
            best = -np.sort(-np.partition(near, len(start) - places[-1], axis=1)[:, -places[-1] :], axis=1)
            first, second, last = (best[:, place - 1] for place in places)
            sure[rows] = np.stack([first, first - second, first - last, best.mean(1)], 1)
        named = np.zeros((len(prompts), self.has.shape[1]), np.float32)
        for row, prompt in enumerate(prompts):
            named[row, self.parser.labels(prompt)] = 1.0
        return Words(*(torch.from_numpy(values) for values in (named, cosine, sure)))

    def states(self, asked: Asked, prompts: Any) -> torch.Tensor:
        """What the encoders make of histories and prompts, side by side: float32 [B, sum of their widths].

        `prompts` is what DPR's network reads of the distinct prompts, None where no request has one.
        """
        joint = self.dpr.backbone.encode(asked.history)
        steered = joint.clone()
        for polarity, kinds in SIDES.items():
            rows = torch.from_numpy(np.flatnonzero(np.isin(asked.kind, kinds)))
            if len(rows):
                vectors, real = prompts.take(torch.from_numpy(asked.prompt)[rows])
                steered[rows] = self.dpr.steer(joint[rows], vectors, polarity, real)
        return torch.cat([steered, joint, *(net.encode(asked.history) for net in self.others)], 1)

    def logits(self, asked: Asked, states: torch.Tensor, weights: torch.Tensor, words: Words | None) -> torch.Tensor:
        """All evidence times its weights [B, experts], added up: float32 [B, V]."""
        encoders, texts, labels = weights.split([len(ENCODERS), len(TEXTS), len(LABELS)], 1)
        # One product with all tables side by side adds the encoders up.
        total = (states * encoders.repeat_interleave(self.widths, 1)) @ self.tables.t()
        if words is None:
            return total
        prompt = torch.from_numpy(asked.prompt)
        for column, values in zip(texts.t(), self._texts(words.cosine[prompt].float()), strict=True):
            total = total + column[:, None] * values
        last = asked.history.values[np.maximum(asked.history.offsets[1:] - 1, 0)]
        for column, values in zip(labels.t(), self.labels(words.named[prompt], last), strict=True):
            total = total + column[:, None] * values
        return total

    def _texts(self, cosine: torch.Tensor) -> list[torch.Tensor]:
        """The cosine, and how far it lies beyond `NEAR`; about as large as the logits of an encoder."""
        return [10.0 * cosine, 20.0 * (cosine - NEAR).clamp(min=0)]

    def labels(self, named: torch.Tensor, last: Ints) -> list[torch.Tensor]:
        """How items' labels lie to the named ones and to those of the last item, in the order of `LABELS`, each [B or 1, V].

        Has all that are named; has exactly those; has any of them; the logarithms of how many it has that the last item lacks,
        and of how many it has, each plus one.
        """
        has = self.has
        count, size = named.sum(1, keepdim=True), has.sum(1)
        shared = named @ has.t()
        every = ((shared == count) & (count > 0)).float()
        fresh = (size[None] - has[torch.from_numpy(last).long()] @ has.t()).clamp_(min=0)
        return [
            every,
            every * (size[None] == count).float(),
            (shared > 0).float(),
            torch.log1p(fresh),
            torch.log1p(size)[None],
        ]
