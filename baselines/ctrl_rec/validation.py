"""Requests on which the weights are chosen: what users did in the validation slice, asked for in held-out words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from baselines.ctrl_rec.combination import Point, Trial, curve
from baselines.ctrl_rec.control_requests import RequestBank
from baselines.scorer import CatalogueScorer
from baselines.target_sets import Instances, TargetSets
from bench.contracts import NEGATIVE, POSITIVE, Bools, Dataset, Floats, Intent, Ints, Longs, Requests
from bench.rng import named_generator

# Requests of a kind at the most: enough for differences of a hundredth, and they all lie in memory.
MOST = 2000
Curves = dict[str, list[Point]]
# v of texts of a polarity each, int8 [texts], with all items: float32 [texts, V].
Approve = Callable[[list[str], npt.NDArray[np.int8]], Floats]


def validation_curves(
    bank: RequestBank, dataset: Dataset, base: CatalogueScorer, approve: Approve, seed: int
) -> tuple[Curves, Curves]:
    """Curves over the weight for wishes (one label, all labels, a tag) and for refusals (one label, an exact set of them).

    One instance a user at the start of the validation slice, with targets as of Section 3.3.1. Words are training templates and
    tags that the towers did not learn from; kinds without any are left out.

    Args:
        bank: the requests.
        dataset: the training view.
        base: the fitted base model.
        approve: v of texts with all items.
        seed: of the draws.
    """
    rng, events = named_generator(seed, "ctrl_rec", "validation"), dataset.events
    users = np.flatnonzero((dataset.valid_end > dataset.train_end) & (dataset.train_end > 0))
    last = events.offsets[users] + dataset.train_end[users] - 1
    stop = events.offsets[users] + dataset.valid_end[users]
    sets = TargetSets(dataset.catalogue, dataset.card.windows)
    trials = _Trials(bank, dataset, sets, base, approve, users, rng)
    made = sets.positive(events.values, last, stop, rng)
    wishes = {kind: trials.of(kind, made) for kind in ("label", "labels", "tag")}
    refusals = {
        kind: trials.of(kind, sets.negative(events.values, last, stop, np.full(len(last), kind == "label"), rng))
        for kind in ("label", "labels")
    }
    return (
        {kind: curve(trial) for kind, trial in wishes.items() if trial is not None},
        {kind: curve(trial) for kind, trial in refusals.items() if trial is not None},
    )


class _Trials:
    """Puts instances into words and scores them."""

    def __init__(
        self,
        bank: RequestBank,
        dataset: Dataset,
        sets: TargetSets,
        base: CatalogueScorer,
        approve: Approve,
        users: Longs,
        rng: np.random.Generator,
    ) -> None:
        self.bank, self.sets, self.base, self.approve, self.users, self.rng = bank, sets, base, approve, users, rng
        self.labels, self.before = dataset.catalogue.labels, dataset.train_events()

    def of(self, kind: str, made: Instances) -> Trial | None:
        """The trial of some instances, None where no held-out words fit any."""
        fitting = [self._fitting(kind, made, row) for row in range(len(made.row))]
        rows = np.flatnonzero([bool(places) for places in fitting])
        rows = np.sort(self.rng.permutation(rows)[:MOST])
        if not len(rows):
            return None
        places = [int(self.rng.choice(fitting[row])) for row in rows]
        unique, index = np.unique(places, return_inverse=True)
        texts = [self.bank.requests[place].text for place in unique]
        approval = self.approve(texts, np.full(len(texts), made.polarity, np.int8))[index]
        users = self.users[made.row[rows]]
        history = self.before.take(users)
        base, _ = self.base.score(Requests(users.astype(np.int32), history))
        return Trial(base, approval, history, made.targets.take(rows), self._intent(made, rows))

    def _fitting(self, kind: str, made: Instances, row: int) -> list[int]:
        """Held-out requests that say what an instance means."""
        item = int(made.item[row])
        if kind == "tag":
            return self.bank.held_tags.get(item, [])
        named = (int(made.label[row]),) if kind == "label" else tuple(sorted(self.labels[item].tolist()))
        return self.bank.held_labels.get((made.polarity, named), [])

    def _intent(self, made: Instances, rows: Longs) -> Intent:
        """What complies, as the tasks read it: has the label, lacks it, or has another set of labels."""
        if made.polarity == NEGATIVE and not made.strict.all():
            group = self.sets.group
            rule: Ints = group[made.item[rows]]
            allowed: Bools = np.arange(group.max() + 1)[:, None] != group[None, :]
        else:
            rule, allowed = made.label[rows], np.ascontiguousarray(self.sets.has.T)
            allowed = allowed if made.polarity == POSITIVE else ~allowed
        return Intent(rule, allowed, np.full(len(rows), made.polarity, np.int8))
