"""Judged requests, as the towers learn from them: proposed pairs and their approval, from labels or from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from baselines.ctrl_rec.compliance import compliance
from baselines.ctrl_rec.control_requests import ControlRequest, Kind, RequestBank
from baselines.ctrl_rec.judgements import HIGHEST, Judgement, JudgementFile
from baselines.ctrl_rec.pairs import people_lists, propose
from bench.contracts import Bools, Dataset, Encoder, Floats, Ints, Longs, Progress, Recommender
from bench.errors import InputError
from bench.rng import named_generator

# Requests whose similarities with the catalogue are held at once.
ROWS = 512


@dataclass(frozen=True)
class Pairs:
    """M judged pairs: rows of the request and the item, int64 [M], and the approval, float32 [M] in 0 to 1."""

    request: Longs
    item: Longs
    approval: Floats

    def __len__(self) -> int:
        return len(self.request)

    def __getitem__(self, row: int) -> tuple[int, int, float]:
        return int(self.request[row]), int(self.item[row]), float(self.approval[row])

    def take(self, rows: npt.NDArray[Any]) -> Pairs:
        """The given pairs."""
        return Pairs(self.request[rows], self.item[rows], self.approval[rows])


class MixedPairs:
    """Pairs as an epoch meets them: about as many as there are, drawn anew, of every group of requests as the root of its size.

    Tags are by far the most numerous requests; in their own proportion refusals are lost among them, and in equal shares tags are
    learned too little.

    Args:
        pairs: all of them.
        groups: of each pair's request, [M].
        seed: of the draws.
    """

    def __init__(self, pairs: Pairs, groups: npt.NDArray[np.str_], seed: int) -> None:
        self.pairs, self.seed = pairs, seed
        self._rows = [np.flatnonzero(groups == group) for group in np.unique(groups)]
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the pairs of an epoch: each pair of a group once before any comes again."""
        rng, roots = named_generator(self.seed, "ctrl_rec", f"epoch {epoch}"), [len(rows) ** 0.5 for rows in self._rows]
        drawn = []
        for rows, root in zip(self._rows, roots, strict=True):
            share = round(len(self.pairs) * root / sum(roots))
            rounds = [rng.permutation(rows) for _ in range(-(-share // len(rows)))]
            drawn.append(np.concatenate(rounds)[:share])
        self._drawn = np.concatenate(drawn)

    def __len__(self) -> int:
        return len(self._drawn)

    def __getitem__(self, place: int) -> tuple[int, int, float]:
        return self.pairs[int(self._drawn[place])]


@dataclass(frozen=True)
class Judged:
    """N judged requests: words, kinds and polarity (int8 [N]), which of them are held out, and the pairs of all."""

    texts: list[str]
    kinds: list[Kind]
    polarity: npt.NDArray[np.int8]
    held_out: Bools
    pairs: Pairs

    @property
    def groups(self) -> npt.NDArray[np.str_]:
        """What every request is, [N]: its kind, and "refused" where it refuses."""
        sides = zip(self.kinds, self.polarity.tolist(), strict=True)
        return np.array([kind if side > 0 else f"{kind} refused" for kind, side in sides])

    def sides(self) -> tuple[Pairs, Pairs]:
        """The pairs that are learned from, and those of held-out requests.

        Raises:
            InputError: one of the two is empty.
        """
        held = self.held_out[self.pairs.request]
        learned, kept = self.pairs.take(~held), self.pairs.take(held)
        if not len(learned) or not len(kept):
            raise InputError(
                "the towers need judged requests to learn from and held-out ones to stop by: "
                f"there are {len(learned)} pairs of the first and {len(kept)} of the second, so judge more requests."
            )
        return learned, kept


def proposals(
    requests: Sequence[ControlRequest],
    dataset: Dataset,
    base: Recommender,
    encoder: Encoder,
    seed: int,
    progress: Progress,
) -> Ints:
    """The items to judge under every request, int32 [N, 20]."""
    asked = encoder.encode([request.text for request in requests], progress)
    offered = encoder.encode(list(dataset.catalogue.texts), progress)
    lists, parts = people_lists(base, dataset, seed), []
    for start in range(0, len(asked), ROWS):
        near = asked[start : start + ROWS] @ offered.T
        for row, request in enumerate(requests[start : start + ROWS]):
            # Nothing is nearer to a tag than the items that have it.
            near[row, list(request.about)] = 2.0
        parts.append(propose(near, lists, seed, start))
    return np.concatenate(parts)


def complied(
    bank: RequestBank, dataset: Dataset, base: Recommender, encoder: Encoder, seed: int, progress: Progress
) -> Judged:
    """Every request of the bank, judged by labels and tags."""
    items = proposals(bank.requests, dataset, base, encoder, seed, progress)
    approval = compliance(bank.requests, items, dataset.catalogue.label_matrix())
    rows = np.repeat(np.arange(len(items)), items.shape[1])
    pairs = Pairs(rows, items.reshape(-1).astype(np.int64), approval.reshape(-1))
    return Judged(bank.texts(), *_traits(bank.requests), pairs)


def from_file(file: JudgementFile, dataset: Dataset) -> Judged:
    """The requests of a file with their scores, 0 to 10, as approvals, 0 to 1."""
    number = {item: row for row, item in enumerate(dataset.catalogue.ids)}
    pairs = [
        (row, number[item], score / HIGHEST)
        for row, each in enumerate(file.judgements)
        for item, score in zip(each.items, each.scores, strict=True)
    ]
    request, item, approval = zip(*pairs, strict=True)
    return Judged(
        [each.request for each in file.judgements],
        *_traits(file.judgements),
        Pairs(np.array(request, np.int64), np.array(item, np.int64), np.array(approval, np.float32)),
    )


def _traits(requests: Sequence[ControlRequest | Judgement]) -> tuple[list[Kind], npt.NDArray[np.int8], Bools]:
    """Kinds, polarity and which are held out."""
    polarity = np.array([each.polarity for each in requests], np.int8)
    return [each.kind for each in requests], polarity, np.array([each.held_out for each in requests])
