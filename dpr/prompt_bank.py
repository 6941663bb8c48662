"""The training prompts of DPR: their texts, and which of them fits an instance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from baselines.target_sets import Instances
from bench.contracts import NEGATIVE, POSITIVE, Catalogue, Ints, Longs
from tasks.prompt_pools import render, templates

SIDES = (POSITIVE, NEGATIVE)


@dataclass(frozen=True)
class Mix:
    """Which prompts a stage trains on.

    `tags` is the share of wishes that are one of the target's training tags; of the rest `whole` is the share that name all
    labels of the item (the reading in which the published POS cells are reproduced), the others name one.
    """

    tags: float
    whole: float


class PromptBank:
    """Every training prompt once, in a fixed order.

    For each polarity: every label in all 20 training templates, and every set of labels that some item has in
    `per_set` of them; then all training tags.
    """

    def __init__(self, catalogue: Catalogue, domain: str, group: Ints, per_set: int, rng: np.random.Generator) -> None:
        names, pools = catalogue.label_names, {side: templates(domain, side, "train") for side in SIDES}
        self.texts: list[str] = []
        self.one = np.zeros((2, len(names), len(pools[POSITIVE])), np.int64)
        self.whole = np.zeros((2, int(group.max()) + 1, per_set), np.int64)
        _, member = np.unique(group, return_index=True)
        for side, polarity in enumerate(SIDES):
            pool = pools[polarity]
            for label, name in enumerate(names):
                self.one[side, label] = self._add([render(template, [name], polarity) for template in pool])
            for number, item in enumerate(member):
                labels = [names[label] for label in catalogue.labels[item]]
                chosen = rng.choice(len(pool), per_set, replace=False)
                self.whole[side, number] = self._add([render(pool[index], labels, polarity) for index in chosen])
        self.group, tags = group, catalogue.train_tags or ((),) * len(catalogue)
        self.tag_count: Longs = np.array([len(mine) for mine in tags], np.int64)
        self.tag_start: Longs = len(self.texts) + self.tag_count.cumsum() - self.tag_count
        self._add([tag for mine in tags for tag in mine])

    def _add(self, texts: list[str]) -> Longs:
        self.texts += texts
        return np.arange(len(self.texts) - len(texts), len(self.texts))

    def kinds(self, size: int, mix: Mix, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """For `size` instances, whether each is put as a tag and, if not, whether it names the whole label set; bool [size]."""
        return rng.random(size) < mix.tags, rng.random(size) < mix.whole

    def choose(self, instances: Instances, tag: np.ndarray, whole: np.ndarray, rng: np.random.Generator) -> Longs:
        """A prompt for every instance, int64 [M]: an index into `texts`.

        Refusals never quote tags. A refusal names one label where its targets lack that label, and the whole set where they
        only differ from it, so that what is said is what is meant.
        """
        size, side = len(instances.item), SIDES.index(instances.polarity)
        if instances.polarity == NEGATIVE:
            tag, whole = np.zeros(size, bool), ~instances.strict
        item = instances.item
        one = self.one[side, instances.label, rng.integers(0, self.one.shape[2], size)]
        several = self.whole[side, self.group[item], rng.integers(0, self.whole.shape[2], size)]
        count = self.tag_count[item]
        quoted = self.tag_start[item] + (rng.random(size) * count).astype(np.int64)
        return np.where(tag & (count > 0), quoted, np.where(whole, several, one))
