"""How the gates of `dpr_sas_plus` are fitted: wishes, refusals and plain requests inside the validation slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from baselines.target_sets import TargetSets
from baselines.training import Loop, Schedule, Steps, seeded
from bench.contracts import NEGATIVE, POSITIVE, Dataset, FitContext, Longs, Ragged
from bench.metrics import hits, ndcg
from bench.ranking import top_k
from bench.rng import named_generator
from dpr.evidence import Asked
from dpr.plus import ROWS
from dpr.prompt_bank import PromptBank

if TYPE_CHECKING:
    from dpr.plus import DPRSASPlus

# One user in ten is kept aside to choose the epoch.
HELD_OUT = 10


@dataclass(frozen=True)
class Instance:
    """M requests with their right answers."""

    asked: Asked
    targets: Ragged
    user: Longs

    def take(self, rows: Any) -> Instance:
        """The given requests."""
        return Instance(self.asked.take(rows), self.targets.take(rows), self.user[rows])


def fit_gates(model: DPRSASPlus, dataset: Dataset, context: FitContext) -> None:
    """Fit the gates; what each kind of request weighs is the same."""
    s = model.settings
    rng = named_generator(context.seed, "dpr_sas_plus", "instances")
    sets = TargetSets(dataset.catalogue, dataset.card.windows)
    bank = PromptBank(dataset.catalogue, dataset.card.domain, sets.group, s.prompts_per_label, rng)
    words = model.evidence.words(bank.texts, _own_texts(bank, model.arrays["text_start"]))
    read = model.experts["dpr"]._read(bank.texts, context)
    parts = _instances(dataset, sets, bank, rng)
    chosen = [part.take(np.flatnonzero(part.user % HELD_OUT == 0)) for part in parts]
    fitted = [part.take(np.flatnonzero(part.user % HELD_OUT != 0)) for part in parts]

    def batches(epoch: int, draw: np.random.Generator) -> Steps:
        cut = [
            part.take(rows)
            for part in fitted
            for rows in np.array_split(draw.permutation(len(part.user)), max(1, len(part.user) // ROWS))
            if len(rows)
        ]
        order = draw.permutation(len(cut))
        return Steps(len(cut), (cut[number] for number in order))

    def logits(part: Instance) -> torch.Tensor:
        plain = not part.asked.polarity.any()
        made: torch.Tensor = model.weighed(part.asked, None if plain else words, None if plain else read)
        return made

    def loss(part: Instance) -> torch.Tensor:
        values = logits(part)
        history, targets = part.asked.history, part.targets
        seen = torch.zeros_like(values, dtype=torch.bool)
        seen[np.repeat(np.arange(len(history)), history.lengths), history.values.astype(np.int64)] = True
        log_p = values.masked_fill(seen, -torch.inf).log_softmax(1)
        owner = torch.from_numpy(np.repeat(np.arange(len(targets)), targets.lengths))
        share = torch.from_numpy((1.0 / targets.lengths / len(targets)).astype(np.float32))[owner]
        return -(log_p[owner, torch.from_numpy(targets.values.astype(np.int64))] * share).sum()

    def validate() -> float:
        values = []
        for part in chosen:
            found = []
            for start in range(0, len(part.user), ROWS):
                piece = part.take(np.arange(start, min(start + ROWS, len(part.user))))
                best = top_k(logits(piece).numpy(), piece.asked.history, 10).items
                found.append(ndcg(hits(best, piece.targets), piece.targets.lengths, 10))
            if found:
                values.append(float(np.concatenate(found).mean()))
        return float(np.mean(values)) if values else 0.0

    with seeded(context.seed, "dpr_sas_plus", "gates"):
        model.gates = model._gates()
    schedule = Schedule(s.epochs, s.learning_rate, warmup=20, patience=s.epochs)
    Loop("gates", model.gates, schedule=schedule, batches=batches, loss=loss, validate=validate, context=context).run()


def _own_texts(bank: PromptBank, start: Longs) -> dict[int, int]:
    """For every training tag in the bank, the row of its own vector in the text index (after text and labels of its item)."""
    return {
        int(bank.tag_start[item]) + number: int(start[item]) + 2 + number
        for item in range(len(start))
        for number in range(int(bank.tag_count[item]))
    }


def _instances(dataset: Dataset, sets: TargetSets, bank: PromptBank, rng: np.random.Generator) -> list[Instance]:
    """One list a kind: next items, wishes by one label, all labels and a tag, refusals of one label (twice: strictly and as the
    published tables read it) and of all. Each at the start of the validation slice and once more at a random place in it.
    """
    events = dataset.events
    users = np.flatnonzero((dataset.valid_end > dataset.train_end) & (dataset.train_end > 0))
    begin, end = events.offsets[users] + dataset.train_end[users], events.offsets[users] + dataset.valid_end[users]
    later = begin + (rng.random(len(users)) * (end - begin) / 2).astype(np.int64)
    user, first, stop = np.tile(users, 2), np.concatenate([begin, later]), np.tile(end, 2)
    last = first - 1

    def histories(rows: Longs) -> Ragged:
        lengths = first[rows] - events.offsets[user[rows]]
        offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
        inside = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return Ragged(offsets, events.values[np.repeat(events.offsets[user[rows]], lengths) + inside])

    def part(rows: Longs, polarity: int, targets: Ragged, prompt: Longs) -> Instance:
        side = np.full(len(rows), polarity, np.int64)
        return Instance(Asked(histories(rows), side, prompt), targets, user[rows])

    every = np.arange(len(first))
    following = Ragged(np.arange(len(first) + 1, dtype=np.int64), events.values[first])
    made = [part(every, 0, following, np.zeros(len(first), np.int64))]
    no, yes = (np.full(len(first), value) for value in (False, True))
    for tag, whole in ((no, no), (no, yes), (yes, no)):
        wish = sets.positive(events.values, last, stop, rng)
        prompt = bank.choose(wish, tag[wish.row], whole[wish.row], rng)
        made.append(part(wish.row, POSITIVE, wish.targets, prompt))
    for strict, whole in ((yes, no), (no, no), (no, yes)):
        refusal = sets.negative(events.values, last, stop, strict, rng)
        one = bank.one[1, refusal.label, rng.integers(0, bank.one.shape[2], len(refusal.row))]
        several = bank.choose(refusal, no[refusal.row], whole[refusal.row], rng)
        made.append(part(refusal.row, NEGATIVE, refusal.targets, several if whole.all() else one))
    return [instance for instance in made if len(instance.user)]
