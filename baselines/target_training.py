"""Training on target sets (Eq. 9): instances at cut points of the train slice, beside the next-item loss or instead of it.

`TargetStage` trains a bare backbone, for which a wish and a refusal are further targets of the same h_u; DPR's stages are the
same training with a prompt that moves h_u first (`steer`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from baselines.backbones.base import Backbone, Cuts
from baselines.backbones.batches import Windows, bucket, cut_windows
from baselines.backbones.next_item import Validation, mean_ndcg
from baselines.target_sets import Instances, TargetSets
from baselines.training import Loop, Schedule, Steps
from bench.contracts import NEGATIVE, POSITIVE, Bools, Dataset, FitContext, Longs, Ragged
from bench.rng import named_generator


class TargetSettings(Protocol):
    """What training on target sets reads of a model's settings."""

    loss: str
    share: float
    batch: int
    learning_rate: float
    weight_decay: float
    patience: int


class BareNet(nn.Module):
    """A backbone and nothing else."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone


@dataclass(frozen=True)
class Asked:
    """Instances of one polarity, `row` indexing the step's cut points, and what each is told (None for a bare backbone).

    `whole` is how many instances the whole step has, where these are a part of them.
    """

    made: Instances
    prompt: Longs | None
    whole: int | None = None

    def part(self, place: Longs) -> Asked:
        """The instances whose cut point has a place (of at least 0) among those of a part of the step."""
        at = place[self.made.row]
        kept = np.flatnonzero(at >= 0)
        made = self.made
        mine = Instances(
            made.polarity, at[kept], made.targets.take(kept), made.label[kept], made.item[kept], made.strict[kept]
        )
        return Asked(mine, None if self.prompt is None else self.prompt[kept], len(made.row))


@dataclass(frozen=True)
class Step:
    """One step's windows, its cut points and the instances of each polarity; `whole` as of `Asked`, of cut points."""

    windows: Windows
    cuts: Cuts
    asked: list[Asked]
    whole: int | None = None

    def share(self, rank: int, processes: int) -> tuple[Step | None, float]:
        """Every n-th window with what hangs on it. Its losses are divided by the whole step's counts, so they just add up."""
        rows = np.arange(rank, len(self.windows.start), processes)
        if not len(rows):
            return None, 0.0
        inside = self.cuts.row % processes == rank
        place = np.where(inside, inside.cumsum() - 1, -1)
        cuts = Cuts(self.cuts.row[inside] // processes, self.cuts.last[inside])
        asked = [asked.part(place) for asked in self.asked]
        return Step(self.windows.take(rows), cuts, asked, len(self.cuts.row)), 1.0


class TargetStage:
    """One stage of training on target sets."""

    def __init__(
        self, name: str, net: Any, dataset: Dataset, settings: TargetSettings, *, next_item: bool = True
    ) -> None:
        self.name, self.net, self.dataset, self.settings, self.next_item = name, net, dataset, settings, next_item
        self.backbone: Backbone = net.backbone
        self.events = dataset.train_events()
        self.sets = TargetSets(dataset.catalogue, dataset.card.windows)
        self.validation = Validation(dataset)

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser; `lr` is relative to the schedule's."""
        return [{"params": list(self.net.parameters())}]

    def whole(self, size: int, rng: np.random.Generator) -> tuple[Bools | None, Bools]:
        """For `size` instances: what `tell` needs to know later, and which refuse an exact set of labels, not one label."""
        return None, rng.random(size) < 0.5

    def tell(self, made: Instances, kind: Bools | None, whole: Bools, rng: np.random.Generator) -> Longs | None:
        """What each instance is told: None here, indices of prompts in DPR."""
        return None

    def steer(self, hidden: torch.Tensor, asked: Asked) -> torch.Tensor:
        """The vector that ranks for every instance, [M, d], from h at the cut points."""
        return hidden.index_select(0, torch.from_numpy(asked.made.row).to(hidden.device))

    def run(self, epochs: int, context: FitContext) -> list[dict[str, float]]:
        """Train, and leave the epoch with the best mean validation NDCG@10 of SEQ, POS and NEG in the network."""
        s = self.settings
        self.backbone.precision = context.precision
        self.held_out = self._held_out(named_generator(context.seed, self.name, "validation"))
        return Loop(
            self.name,
            self.net,
            schedule=Schedule(epochs, s.learning_rate, patience=s.patience, weight_decay=s.weight_decay),
            groups=self.groups(),
            batches=self._batches,
            loss=self._loss,
            validate=self._validate,
            context=context,
            share=Step.share,
        ).run()

    def _batches(self, epoch: int, rng: np.random.Generator) -> Steps:
        windows = cut_windows(self.events, self.backbone.length, rng)
        rows = list(bucket(windows.stop - windows.start, self.settings.batch, rng))
        return Steps(len(rows), (self._step(windows.take(row), rng) for row in rows))

    def _step(self, windows: Windows, rng: np.random.Generator) -> Step:
        cuts = self.backbone.cuts(windows, rng)
        stop = self.events.offsets[windows.user[cuts.row] + 1]
        return Step(windows, cuts, self._ask(self.events, cuts.last, stop, rng))

    def _ask(
        self, events: Ragged, last: Longs, stop: Longs, rng: np.random.Generator, share: float | None = None
    ) -> list[Asked]:
        """Instances at a share of the cut points for each polarity of the loss; `row` indexes `last`."""
        asked = []
        wanted = max(1, round((share or self.settings.share) * len(last)))
        for polarity, part in ((POSITIVE, "pos"), (NEGATIVE, "neg")):
            if self.settings.loss not in ("full", part):
                continue
            cut = rng.permutation(len(last))[:wanted]
            kind, whole = self.whole(len(cut), rng)
            if polarity == POSITIVE:
                made = self.sets.positive(events.values, last[cut], stop[cut], rng)
            else:
                made = self.sets.negative(events.values, last[cut], stop[cut], ~whole, rng)
            prompt = self.tell(made, None if kind is None else kind[made.row], whole[made.row], rng)
            made = Instances(polarity, cut[made.row], made.targets, made.label, made.item, made.strict)
            asked.append(Asked(made, prompt))
        return asked

    def _loss(self, step: Step) -> torch.Tensor:
        """L_seq + L_pos + L_neg (Eq. 7), each a mean over its own rows, in one pass over the catalogue."""
        hidden = self.backbone.interests(self.events, step.windows, step.cuts)
        device, at = hidden.device, 0
        rows, targets, owner, weight = [], [], [], []
        if self.next_item:
            at = len(hidden)
            rows.append(hidden)
            targets.append(self.backbone.following(self.events, step.cuts))
            owner.append(torch.arange(at, device=device))
            weight.append(torch.full((at,), 1.0 / (step.whole or at), device=device))
        for asked in step.asked:
            made, size = asked.made, len(asked.made.row)
            if not size:
                continue
            rows.append(self.steer(hidden, asked))
            targets.append(torch.from_numpy(made.targets.values.astype(np.int64)).to(device))
            owner.append(torch.from_numpy(at + np.repeat(np.arange(size), made.targets.lengths)).to(device))
            weight.append(torch.full((size,), 1.0 / (asked.whole or size), device=device))
            at += size
        if not rows:  # No cut point of this batch has a future long enough.
            return hidden.sum() * 0.0
        return self.backbone.cross_entropy(torch.cat(rows), torch.cat(targets), torch.cat(owner), torch.cat(weight))

    def _held_out(self, rng: np.random.Generator) -> list[Asked]:
        """One wish and one refusal a user at the start of the validation slice, told as in training."""
        data = self.dataset
        users = np.flatnonzero((data.valid_end > data.train_end) & (data.train_end > 0))
        start = data.events.offsets[users]
        return self._ask(data.events, start + data.train_end[users] - 1, start + data.valid_end[users], rng, share=1.0)

    def _validate(self) -> float:
        history, table = self.validation.history, self.backbone.table
        hidden = self.backbone.encode(history)
        values = [mean_ndcg(hidden, table, history, self.validation.target)]
        for asked in self.held_out:
            if len(asked.made.row):
                values.append(
                    mean_ndcg(self.steer(hidden, asked), table, history.take(asked.made.row), asked.made.targets)
                )
        return float(np.mean(values))
