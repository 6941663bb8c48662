"""POS: a wish for something new (Section 4.1.1, "Positive Task"; both protocols as `protocol` settles them)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from bench.cards import TaskCard
from bench.contracts import POSITIVE, Bools, Dataset, Ragged
from bench.rng import pick
from tasks.prompted import Draw, Posed, PromptedTask, nth_true
from tasks.queries import Queries, closest, event_index, last_items


class Positive(PromptedTask):
    """Find the item that a wish is about.

    v_t is the last item of the history. The compliant events are the closest N test events with a label that v_t lacks;
    users with fewer are left out. One of them, drawn uniformly, is the target; g_B is drawn uniformly from its labels that
    v_t lacks. An item complies with the wish when it has g_B, in both protocols.
    """

    card = TaskCard(
        name="pos",
        summary="Positive steering: rank the item that a wish is about, told a genre, all its genres, or a reworded tag.",
        main_metric="ndcg@10",
        metrics=("recall@10", "recall@20", "ndcg@10", "ndcg@20", "compliance@10"),
        prompted=True,
        citation="Lyu et al. 2026, Give Users the Wheel: Towards Promptable Recommendation Paradigm, Section 4.1.1",
        notes=(
            "One query a user at the start of the test slice; history is train and validation; seen items are masked.",
            "Compliance is multi-label in both protocols: the reading that fits the Base and Filter cells of Table 6.",
            "Conditions: genre (g_B in an evaluation template), genres (all labels of the target, same templates), tag "
            "(one of the target's reworded tags, bare). The paper's Filter row saw one genre, its DPR row most likely the "
            "whole genre string: numbers are comparable within a condition only.",
            "Measured on MovieLens-1M (seed 0, mean over N), NDCG@10 / Recall@10, published in brackets: sasrec .090 / .185 "
            "(.078 / .157), oracle filter .328 / .540 (.324 / .524); dpr_sas told one genre .268 / .452, all genres .543 / .735 "
            "(.575 / .730), and trained on prompts of all genres alone .603 / .785: DPR's published cells are those of whole-genre "
            "prompts.",
        ),
    )
    polarity: ClassVar[int] = POSITIVE

    def rules(self, dataset: Dataset) -> Bools:
        """Rule l: the item has label l."""
        return np.ascontiguousarray(dataset.catalogue.label_matrix().T)

    def pose(self, dataset: Dataset, asked: Queries, history: Ragged, future: Ragged, n: int, draw: Draw) -> Posed:
        """One target among the closest `n` compliant events, and the new label it stands for."""
        has = dataset.catalogue.label_matrix()
        last = last_items(history)
        new = has[future.values] & ~np.repeat(has[last], future.lengths, axis=0)
        enough, near = closest(future, np.asarray(new.any(1)), n)
        kept = np.flatnonzero(enough)
        index = event_index(dataset, asked)[kept]
        order = near.cumsum() - near
        first = order[future.offsets[kept]]
        chosen = np.flatnonzero(near)[first + pick(draw(f"target/{n}", index), np.full(len(kept), n, np.int64))]
        target, fresh = future.values[chosen], new[chosen]
        label = nth_true(fresh, pick(draw(f"label/{n}", index), fresh.sum(1)))
        labels = dataset.catalogue.labels
        whole = self.settings.prompt_kind == "genres"
        named = [labels[item] if whole else label[row : row + 1] for row, item in enumerate(target)]
        return Posed(kept, Ragged(np.arange(len(kept) + 1, dtype=np.int64), target), label, target, named)
