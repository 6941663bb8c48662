"""Stages 2 and 3 of DPR's training (Algorithm 1): L_total = L_seq + L_prompt over target sets (Eq. 8 to 10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from baselines.backbones.batches import Windows, bucket, cut_windows
from baselines.backbones.next_item import Validation, positions
from baselines.backbones.softmax import catalogue_cross_entropy
from baselines.training import Loop, Schedule
from bench.contracts import NEGATIVE, POSITIVE, Dataset, FitContext, Floats, Longs, Ragged
from bench.metrics import hits, ndcg
from bench.ranking import top_k
from bench.rng import named_generator
from dpr.net import DPRNet
from dpr.prompt_bank import Mix, PromptBank
from dpr.target_sets import Instances, TargetSets

if TYPE_CHECKING:
    from dpr.adapter import DPRSettings


@dataclass(frozen=True)
class PromptVectors:
    """What the network reads of every prompt in the bank: [prompts, T, encoder dimension], and for tokens which are real."""

    vectors: torch.Tensor
    real: torch.Tensor | None = None

    def take(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Vectors [B, T, dimension] in float32 and mask [B, T] of the given prompts."""
        return self.vectors[index].float(), None if self.real is None else self.real[index]


@dataclass(frozen=True)
class Step:
    """One step's windows, and its instances of each polarity with their prompts; rows index the windows' positions."""

    windows: Windows
    asked: list[tuple[Instances, Longs]]


class Stage:
    """One stage: the same data, objective and backbone as the other; only the mix of prompts differs."""

    def __init__(
        self,
        name: str,
        net: DPRNet,
        dataset: Dataset,
        bank: PromptBank,
        prompts: PromptVectors,
        settings: DPRSettings,
        mix: Mix,
    ) -> None:
        self.name, self.net, self.dataset, self.bank, self.prompts = name, net, dataset, bank, prompts
        self.settings, self.mix = settings, mix
        self.events = dataset.train_events()
        self.sets = TargetSets(dataset.catalogue, dataset.card.windows)
        self.validation = Validation(dataset)

    def run(self, epochs: int, context: FitContext) -> list[dict[str, float]]:
        """Train, and leave the epoch with the best mean validation NDCG@10 of SEQ, POS and NEG in the network."""
        backbone = list(self.net.backbone.parameters())
        new = [*self.net.projector.parameters(), *self.net.fusion.parameters()]
        self.held_out = self._held_out(named_generator(context.seed, self.name, "validation"))
        return Loop(
            self.name,
            self.net,
            schedule=Schedule(
                epochs,
                self.settings.learning_rate,
                patience=self.settings.patience,
                weight_decay=self.settings.weight_decay,
            ),
            groups=[{"params": backbone, "lr": self.settings.backbone_rate}, {"params": new, "lr": 1.0}],
            batches=self._batches,
            loss=self._loss,
            validate=self._validate,
            context=context,
        ).run()

    def _batches(self, epoch: int, rng: np.random.Generator) -> list[Step]:
        windows = cut_windows(self.events, self.net.backbone.length, rng)
        steps = []
        for row in bucket(windows.stop - windows.start, self.settings.batch, rng):
            part = Windows(windows.user[row], windows.start[row], windows.stop[row])
            count = part.stop - part.start - 1
            last = np.repeat(part.start - count.cumsum() + count, count) + np.arange(count.sum())
            stop = np.repeat(self.events.offsets[part.user + 1], count)
            steps.append(Step(part, self._ask(self.events, last, stop, rng)))
        return steps

    def _ask(
        self, events: Ragged, last: Longs, stop: Longs, rng: np.random.Generator, share: float | None = None
    ) -> list[tuple[Instances, Longs]]:
        """Instances at a share of the cut points for each polarity of the loss, with prompts; `row` indexes `last`."""
        asked = []
        wanted = max(1, round((share or self.settings.share) * len(last)))
        for polarity, part in ((POSITIVE, "pos"), (NEGATIVE, "neg")):
            if self.settings.loss not in ("full", part):
                continue
            cut = rng.permutation(len(last))[:wanted]
            tag, whole = self.bank.kinds(len(cut), self.mix, rng)
            if polarity == POSITIVE:
                made = self.sets.positive(events.values, last[cut], stop[cut], rng)
            else:
                made = self.sets.negative(events.values, last[cut], stop[cut], ~whole, rng)
            prompt = self.bank.choose(made, tag[made.row], whole[made.row], rng)
            asked.append((Instances(polarity, cut[made.row], made.targets, made.label, made.item, made.strict), prompt))
        return asked

    def _steer(self, hidden: torch.Tensor, made: Instances, prompt: Longs) -> torch.Tensor:
        device = hidden.device
        vectors, real = self.prompts.take(torch.from_numpy(prompt).to(device))
        return self.net.steer(
            hidden.index_select(0, torch.from_numpy(made.row).to(device)), vectors, made.polarity, real
        )

    def _loss(self, step: Step) -> torch.Tensor:
        """L_seq + L_pos + L_neg, each a mean over its own rows, in one pass over the catalogue."""
        hidden, following = positions(self.net.backbone, self.events, step.windows)
        rows, targets = [hidden], [following]
        owner = [torch.arange(len(hidden), device=hidden.device)]
        weight = [torch.full((len(hidden),), 1.0 / len(hidden), device=hidden.device)]
        at = len(hidden)
        for made, prompt in step.asked:
            size = len(made.row)
            if not size:
                continue
            rows.append(self._steer(hidden, made, prompt))
            targets.append(torch.from_numpy(made.targets.values.astype(np.int64)).to(hidden.device))
            owner.append(torch.from_numpy(at + np.repeat(np.arange(size), made.targets.lengths)).to(hidden.device))
            weight.append(torch.full((size,), 1.0 / size, device=hidden.device))
            at += size
        return catalogue_cross_entropy(
            torch.cat(rows), self.net.table, torch.cat(targets), owner=torch.cat(owner), weight=torch.cat(weight)
        )

    def _held_out(self, rng: np.random.Generator) -> list[tuple[Instances, Longs]]:
        """One wish and one refusal a user at the start of the validation slice, with training prompts."""
        data = self.dataset
        users = np.flatnonzero((data.valid_end > data.train_end) & (data.train_end > 0))
        start = data.events.offsets[users]
        return self._ask(data.events, start + data.train_end[users] - 1, start + data.valid_end[users], rng, share=1.0)

    def _validate(self) -> float:
        hidden = self.net.backbone.encode(self.validation.history)
        table = self.net.table.t()
        values = [self.validation.ndcg(hidden @ table)]
        for made, prompt in self.held_out:
            if not len(made.row):
                continue
            scores: Floats = (self._steer(hidden, made, prompt) @ table).cpu().numpy()
            found = top_k(scores, self.validation.history.take(made.row), 10).items
            values.append(float(ndcg(hits(found, made.targets), made.targets.lengths, 10).mean()))
        return float(np.mean(values))
