"""NEG: a refusal (Section 4.1.1, "Negative Task"; both protocols as `protocol` settles them)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from bench.cards import TaskCard
from bench.contracts import NEGATIVE, Bools, Dataset, Ints, Ragged
from bench.rng import pick
from tasks.prompted import Draw, Posed, PromptedTask, nth_true
from tasks.queries import Queries, closest, event_index


def label_sets(dataset: Dataset) -> Ints:
    """Which items carry exactly the same set of labels: a number for each item, int32 [V]."""
    _, group = np.unique(dataset.catalogue.label_matrix(), axis=0, return_inverse=True)
    return group.reshape(-1).astype(np.int32)


class Negative(PromptedTask):
    """Rank what a user goes on to, told what to leave out.

    The avoided label belongs to the true next item. `paper`: its whole set of genres, and an item complies when its set
    differs. `strict`: g_A, drawn uniformly from its genres, and an item complies when it lacks g_A. The closest N compliant
    test events are all targets; users with fewer are left out.
    """

    card = TaskCard(
        name="neg",
        summary="Negative suppression: rank the user's next compliant items, told a genre to avoid.",
        main_metric="ndcg@10",
        metrics=("recall@10", "recall@20", "ndcg@10", "ndcg@20", "violation@10", "first_violation_rank"),
        prompted=True,
        citation="Lyu et al. 2026, Give Users the Wheel: Towards Promptable Recommendation Paradigm, Section 4.1.1",
        notes=(
            "The true next item is never a target: the avoided label is its own. Recall is hits / N.",
            "paper: avoided is the whole genre string of the next item (fits the Base and Filter cells of Table 6). "
            "strict: avoided is one of its genres, and no item with it complies. With one label an item they coincide.",
            "What the prompt names: genre, one genre of the avoided label (in strict the label itself); genres and tag, the "
            "whole avoided label, in evaluation templates. Refusals never quote tags, since a tag describes one item.",
            "Measured on MovieLens-1M (seed 0, mean over N), NDCG@10 / Recall@10: sasrec and oracle filter .156 / .184 and .182 / "
            ".209 in paper, .110 / .130 and .147 / .169 in strict; published .136 / .164 and .167 / .195. The filter's gain in "
            "NDCG is 1.16 times in paper, 1.33 in strict, 1.22 as published: paper fits both better. dpr_sas told all genres .149 / "
            ".176 in paper, trained on such prompts alone .164 / .195 (.177 / .208).",
        ),
    )
    polarity: ClassVar[int] = NEGATIVE

    def rules(self, dataset: Dataset) -> Bools:
        """paper: rule s is "another genre set than s"; strict: rule l is "lacks label l"."""
        if self.settings.protocol == "strict":
            return ~np.ascontiguousarray(dataset.catalogue.label_matrix().T)
        group = label_sets(dataset)
        return np.arange(group.max() + 1)[:, None] != group[None, :]

    def pose(self, dataset: Dataset, asked: Queries, history: Ragged, future: Ragged, n: int, draw: Draw) -> Posed:
        """The closest `n` events that comply with leaving out a label of the next item."""
        has = dataset.catalogue.label_matrix()
        following = future.values[future.offsets[:-1]]
        index = event_index(dataset, asked)
        counts = has[following].sum(1)
        label = nth_true(has[following], pick(draw(f"label/{n}", index), np.maximum(counts, 1)))
        strict = self.settings.protocol == "strict"
        if strict:
            comply = ~has[future.values, np.repeat(label, future.lengths)]
            rule = label
        else:
            group = label_sets(dataset)
            rule = group[following]
            comply = group[future.values] != np.repeat(rule, future.lengths)
        enough, near = closest(future, comply, n)
        kept = np.flatnonzero(enough & (counts > 0))
        rows = np.repeat(np.arange(len(asked)), future.lengths)
        mine = near & np.isin(rows, kept)
        targets = Ragged(np.arange(len(kept) + 1, dtype=np.int64) * n, future.values[mine])
        labels = dataset.catalogue.labels
        one = strict or self.settings.prompt_kind == "genre"
        named = [label[row : row + 1] if one else labels[following[row]] for row in kept]
        return Posed(kept, targets, rule[kept].astype(np.int32), following[kept], named)
