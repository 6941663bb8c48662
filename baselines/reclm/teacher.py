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

    def orders(self, histories: Ragged) -> Iterator[Ints]:
        """For each history, all items outside it, best first, int32 [V - len(history)]; ties go to the lower index."""
        for start in range(0, len(histories), ROWS):
            rows = histories.take(np.arange(start, min(start + ROWS, len(histories))))
            scores, _ = self._model.score(Requests(np.zeros(len(rows), np.int32), rows))
            order = np.argsort(-scores, axis=1, kind="stable").astype(np.int32)
            for row in range(len(rows)):
                seen = np.zeros(scores.shape[1], bool)
                seen[rows[row]] = True
                yield order[row][~seen[order[row]]]
