"""A person's history and the requests they have made so far, and what recommenders answer to all of it together.

**How requests compose.** A recommender answers one request at a time: it scores every item v given the history alone, s_0(v), and
given the history and part i of the conversation, s_i(v). Together the parts score

    s(v) = s_0(v) + sum_i (s_i(v) - s_0(v)),

every part adds what it alone would change. Where scores are log-probabilities up to a constant, as those of models trained with a
softmax are, this is naive Bayes: p(v | h, p_1 ... p_m) proportional to p(v | h) prod_i p(v | h, p_i) / p(v | h). For DPR, whose
score is a product with the item's vector, it adds up how far each part moves the user's vector. An item that one part bars (a
filter's minus infinity) stays barred. With one part it is the model's own ranking, with none its ranking without words.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.contracts import NO_ITEM, Dataset, Floats, Ints, Ragged, Recommender, Requests

SHOWN, FOUND = 10, 12


@dataclass(frozen=True)
class Conversation:
    """Items of the history, oldest first, and the requests that hold, in the order in which they were made."""

    history: tuple[int, ...] = ()
    parts: tuple[str, ...] = ()

    def seen(self, item: int) -> Conversation:
        """With one more item, the newest; an item that is there already is moved to the end."""
        return replace(self, history=(*(other for other in self.history if other != item), item))

    def unseen(self, item: int) -> Conversation:
        """Without an item."""
        return replace(self, history=tuple(other for other in self.history if other != item))

    def said(self, text: str) -> Conversation:
        """With one more request; one that holds already, or has no letter in it, changes nothing."""
        text = " ".join(text.split())
        return self if not text or text in self.parts else replace(self, parts=(*self.parts, text))

    def taken_back(self, text: str) -> Conversation:
        """Without a request."""
        return replace(self, parts=tuple(part for part in self.parts if part != text))


@dataclass(frozen=True)
class Read:
    """How a recommender read one part: polarity +1 or -1, and how sure it is of that (0.5 to 1)."""

    polarity: int
    confidence: float


@dataclass(frozen=True)
class Answer:
    """A recommender's list: `items` int32 [k], `before` int32 [k] the place (from 1) of each in the reference's whole ranking, how it
    read each part (empty where it reads none), and the milliseconds that it took.
    """

    model: str
    items: Ints
    before: Ints
    read: tuple[Read, ...]
    milliseconds: float


class Desk:
    """A catalogue and the recommenders that are asked about it; the first is the reference, which hears no words.

    Args:
        dataset: where the items come from.
        models: registered name to fitted model, in the order in which they are shown.
    """

    def __init__(self, dataset: Dataset, models: dict[str, Recommender]) -> None:
        self.catalogue, self.models = dataset.catalogue, models
        # Nobody in the data: no model may take this person for one of its users.
        self.user = len(dataset.user_ids)
        self._folded = [title.casefold() for title in self.catalogue.titles]
        self._popularity = np.bincount(dataset.train_events().values, minlength=len(self.catalogue))

    def search(self, text: str, without: Sequence[int] = ()) -> list[int]:
        """Items whose titles have all words of the text, those first that begin with it, then the most watched."""
        words = text.casefold().split()
        if not words:
            return []
        found = [item for item, title in enumerate(self._folded) if all(word in title for word in words)]
        left = [item for item in found if item not in set(without)]
        begins = " ".join(words)
        return sorted(left, key=lambda item: (not self._folded[item].startswith(begins), -self._popularity[item]))[
            :FOUND
        ]

    def answer(self, conversation: Conversation, k: int = SHOWN) -> list[Answer]:
        """What every recommender answers.

        Raises:
            InputError: a recommender refuses a request (an empty one, say).
        """
        before: Ints | None = None
        answers = []
        for name, model in self.models.items():
            began = time.perf_counter()
            scores, read = self._scores(model, conversation)
            items = _order(scores)
            milliseconds = 1000 * (time.perf_counter() - began)
            if before is None:
                before = np.full(len(self.catalogue), NO_ITEM, np.int32)
                before[items] = np.arange(1, len(items) + 1)
            answers.append(Answer(name, items[:k], before[items[:k]], read, milliseconds))
        return answers

    def _scores(self, model: Recommender, conversation: Conversation) -> tuple[Floats, tuple[Read, ...]]:
        parts = conversation.parts if model.card.information == "prompt" else ()
        if not parts:
            return self._ask(model, conversation, None)[0][0], ()
        steered, extras = self._ask(model, conversation, parts)
        polarity, confidence = extras.get("polarity"), extras.get("confidence")
        read: tuple[Read, ...] = ()
        if polarity is not None and confidence is not None:
            read = tuple(Read(int(side), float(sure)) for side, sure in zip(polarity, confidence, strict=True))
        if len(parts) == 1:
            return steered[0], read
        return compose(self._ask(model, conversation, None)[0][0], steered), read

    def _ask(
        self, model: Recommender, conversation: Conversation, parts: tuple[str, ...] | None
    ) -> tuple[Floats, dict[str, Any]]:
        """Scores of the whole catalogue, float32 [parts, V], -inf for what the model leaves out; through `rank`, which all have."""
        rows = 1 if parts is None else len(parts)
        users = np.full(rows, self.user, np.int32)
        requests = Requests(users, Ragged.of([conversation.history] * rows), parts)
        ranking = model.rank(requests, len(self.catalogue))
        scores = np.full((rows, len(self.catalogue)), -np.inf, np.float32)
        row, place = np.nonzero(ranking.items != NO_ITEM)
        scores[row, ranking.items[row, place]] = ranking.scores[row, place]
        return scores, ranking.extras


def _order(scores: Floats) -> Ints:
    """Items best first, ties by item index; those at -inf (seen, barred) are left out."""
    order = np.argsort(-scores, kind="stable")
    return order[: np.isfinite(scores).sum()].astype(np.int32)


def compose(plain: Floats, steered: Floats) -> Floats:
    """Scores of several parts together: s_0 + sum_i (s_i - s_0), -inf where any of them is.

    Args:
        plain: scores without words, float32 [V].
        steered: scores of each part alone, float32 [parts, V].
    """
    possible = np.isfinite(plain) & np.isfinite(steered).all(0)
    with np.errstate(invalid="ignore"):
        together = steered.astype(np.float64).sum(0) - (len(steered) - 1) * plain.astype(np.float64)
    return np.where(possible, together, -np.inf).astype(np.float32)
