"""SEQ: the next item, with no words (Section 3.1, "Sequential Recommendation")."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from bench.cards import Settings, TaskCard
from bench.contracts import NO_ITEM, UNPROMPTED, Dataset, Examples, Intent, Ragged, Ranking, Requests, Scores, Targets
from tasks.prompted import accuracy
from tasks.queries import Positions, futures, histories, queries


class SequentialSettings(Settings):
    """Settings of SEQ."""

    positions: Positions = "first"


class Sequential:
    """Rank the item that the user goes on to."""

    card: ClassVar[TaskCard] = TaskCard(
        name="seq",
        summary="Next-item recommendation from the history alone.",
        main_metric="ndcg@10",
        metrics=("recall@10", "recall@20", "ndcg@10", "ndcg@20"),
        prompted=False,
        citation="Lyu et al. 2026, Give Users the Wheel: Towards Promptable Recommendation Paradigm, Section 3.1",
        notes=(
            "Per-user chronological split 8:1:1 (timestamp, then file order), int(.8n) and int(.9n), no rating threshold and "
            "no k-core; events of items absent from train are dropped. It is not free of leakage across users.",
            "One query a user at the start of the test slice (positions=rolling asks before every test event); history is "
            "train and validation; seen items are masked; the whole catalogue is ranked.",
            "First or rolling, measured on MovieLens-1M with one sasrec (seed 0), NDCG@10 / Recall@10: first .175 / .332 (6,040 "
            "queries), rolling .139 / .262 (102,723); the paper has .173 / .313. First fits better and is the default.",
        ),
    )
    Settings: ClassVar[type[Settings]] = SequentialSettings

    def __init__(self, settings: SequentialSettings | None = None) -> None:
        self.settings = settings or SequentialSettings()

    @property
    def condition(self) -> str:
        """Nothing is said."""
        return "none"

    def examples(self, dataset: Dataset, *, split: str, seed: int) -> Examples:
        """One target each: the event right after the query. The seed changes nothing here."""
        asked = queries(dataset, split, self.settings.positions)
        future = futures(dataset, asked)
        size = len(asked)
        targets = Ragged(np.arange(size + 1, dtype=np.int64), future.values[future.offsets[:-1]])
        nothing = Intent(
            np.full(size, NO_ITEM, np.int32),
            np.ones((1, len(dataset.catalogue)), bool),
            np.full(size, UNPROMPTED, np.int8),
        )
        requests = Requests(asked.user.astype(np.int32), histories(dataset, asked))
        return Examples(requests, Targets(targets, nothing, np.zeros(size, np.int32)))

    def score(self, ranking: Ranking, examples: Examples) -> Scores:
        """Recall and NDCG at 10 and 20 of every example."""
        return Scores(accuracy(ranking, examples.targets.items))
