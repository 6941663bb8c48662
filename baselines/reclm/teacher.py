"""SASRec as RecLM-gen's teacher: an order of the catalogue for any history, from a model that saw the train slice alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from baselines.sequential import SequentialRecommender
from bench.contracts import Ints, Ragged, Requests

ROWS = 512


class Teacher:
    """Orders the catalogue by the scores of a trained sequential model."""

    def __init__(self, model: SequentialRecommender) -> None:
        self._model = model

    def orders(self, histories: Ragged, seen: Ragged | None = None) -> Iterator[Ints]:
        """For each history all items that are not in `seen`, best first, int32 [V - len(seen)]; ties go to the lower index.

        Args:
            histories: what the scores hang on.
            seen: what is left out of each order; the history itself when not given.
        """
        barred = histories if seen is None else seen
        for start in range(0, len(histories), ROWS):
            rows = histories.take(np.arange(start, min(start + ROWS, len(histories))))
            scores, _ = self._model.score(Requests(np.zeros(len(rows), np.int32), rows))
            order = np.argsort(-scores, axis=1, kind="stable").astype(np.int32)
            for row in range(len(rows)):
                gone = np.zeros(scores.shape[1], bool)
                gone[barred[start + row]] = True
                yield order[row][~gone[order[row]]]
