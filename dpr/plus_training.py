"""How the gates of `dpr_sas_plus` are fitted: wishes, refusals and plain requests inside the validation slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from baselines.target_sets import Instances, TargetSets
from baselines.training import Loop, Schedule, Steps, seeded
from bench.contracts import Dataset, FitContext, Longs, Ragged
from bench.metrics import hits, ndcg
from bench.ranking import top_k
from bench.rng import named_generator
from dpr.evidence import PLAIN, REFUSAL_OF_ANY, REFUSAL_OF_EXACT, WISH, Asked
from dpr.plus import ROWS, SHORTENING
from dpr.prompt_bank import PromptBank

if TYPE_CHECKING:
    from dpr.plus import DPRSASPlus

# One user in ten is kept aside to choose the epoch.
HELD_OUT = 10
# The starts are a few numbers that every request of a kind moves; the network behind them learns at a third of their rate.
NETWORK_RATE = 1 / 3
# Share of a tag's words that a shortened one lacks, drawn uniformly between these; it keeps two at least.
SHORTENED = (0.2, 0.75)


@dataclass(frozen=True)
class Instance:
    """M requests of one kind with their right answers, and what the encoders make of them (see `Evidence.states`)."""

    asked: Asked
    targets: Ragged
    user: Longs
    states: torch.Tensor | None = None

    def take(self, rows: Any) -> Instance:
        """The given requests."""
        states = None if self.states is None else self.states[torch.from_numpy(rows)]
        return Instance(self.asked.take(rows), self.targets.take(rows), self.user[rows], states)


def fit_gates(model: DPRSASPlus, dataset: Dataset, context: FitContext) -> None:
    """Fit the gates; what each kind of request weighs is the same."""
    s = model.settings
    rng = named_generator(context.seed, "dpr_sas_plus", "instances")
    sets = TargetSets(dataset.catalogue, dataset.card.windows)
    bank = PromptBank(dataset.catalogue, dataset.card.domain, sets.group, s.prompts_per_label, rng)
    texts = bank.texts
    if SHORTENING not in model.left_out:
        first = len(texts) - int(bank.tag_count.sum())
        texts = texts[:first] + [shortened(tag, rng) for tag in texts[first:]]
    words, read = model.evidence.words(texts), model.read(texts)
    parts = [_with_states(part, model, read) for part in _instances(dataset, sets, bank, rng)]
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
        plain = (part.asked.kind == PLAIN).all()
        made: torch.Tensor = model.weighed(part.asked, part.states, None if plain else words)
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
        model.gates = model.fresh_gates()
    schedule = Schedule(s.epochs, s.learning_rate, warmup=20, patience=s.epochs)
    network = [value for name, value in model.gates.named_parameters() if name != "start"]
    groups = [{"params": [model.gates.start], "lr": 1.0}, {"params": network, "lr": NETWORK_RATE}]
    Loop(
        "gates",
        model.gates,
        schedule=schedule,
        batches=batches,
        loss=loss,
        validate=validate,
        context=context,
        groups=groups,
    ).run()


def shortened(text: str, rng: np.random.Generator) -> str:
    """A text with a random part of its words left out, as a request that remembers less of a film than its tag says."""
    words = text.split()
    kept = rng.random(len(words)) >= rng.uniform(*SHORTENED)
    if kept.sum() < 2:
        kept[rng.permutation(len(words))[:2]] = True
    return " ".join(word for word, stays in zip(words, kept, strict=True) if stays)


def _with_states(part: Instance, model: DPRSASPlus, read: Any) -> Instance:
    """The encoders are frozen here: each request goes through them once."""
    with torch.inference_mode():
        made = [
            model.evidence.states(part.asked.take(np.arange(start, min(start + ROWS, len(part.user)))), read)
            for start in range(0, len(part.user), ROWS)
        ]
    return Instance(part.asked, part.targets, part.user, torch.cat(made))


def _instances(dataset: Dataset, sets: TargetSets, bank: PromptBank, rng: np.random.Generator) -> list[Instance]:
    """One list a kind: next items, wishes by one label, all labels and a tag, refusals of one label and of all in either reading.
    Each at the start of the validation slice and once more at a random place in it.
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

    def part(rows: Longs, kind: int, targets: Ragged, prompt: Longs) -> Instance:
        return Instance(Asked(histories(rows), np.full(len(rows), kind, np.int64), prompt), targets, user[rows])

    def one_label(refusal: Instances) -> Longs:
        return bank.one[1, refusal.label, rng.integers(0, bank.one.shape[2], len(refusal.row))]

    every = np.arange(len(first))
    following = Ragged(np.arange(len(first) + 1, dtype=np.int64), events.values[first])
    made = [part(every, PLAIN, following, np.zeros(len(first), np.int64))]
    no, yes = (np.full(len(first), value) for value in (False, True))
    for tag, whole in ((no, no), (no, yes), (yes, no)):
        wish = sets.positive(events.values, last, stop, rng)
        made.append(part(wish.row, WISH, wish.targets, bank.choose(wish, tag[wish.row], whole[wish.row], rng)))
    # Refusals of several labels at once: the film that has all of them and no other is what both readings agree on.
    for kind, strict, whole in (
        (REFUSAL_OF_ANY, yes, False),
        (REFUSAL_OF_ANY, no, True),
        (REFUSAL_OF_EXACT, no, False),
        (REFUSAL_OF_EXACT, no, True),
    ):
        refusal = sets.negative(events.values, last, stop, strict, rng)
        asked = bank.choose(refusal, no[refusal.row], yes[refusal.row], rng) if whole else one_label(refusal)
        made.append(part(refusal.row, kind, refusal.targets, asked))
    return [instance for instance in made if len(instance.user)]
