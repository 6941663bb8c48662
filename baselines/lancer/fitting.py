"""The fit of LANCER: the base, phase 1 with both language models frozen, phase 2 with the reasoning one."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from baselines.lancer.network import LancerNet
from baselines.lancer.prompts import HISTORY_LENGTH
from baselines.lancer.reading import (
    ITEM_TOKENS,
    OPENING_TOKENS,
    Reader,
    Sentences,
    collate,
)
from baselines.lancer.wording import ItemTexts, wording
from baselines.language.base_model import Base, Needs, open_base
from baselines.language.histories import Histories, RequestsAnswered, validation_examples, words_of_training
from baselines.language.padding import batch, labelled
from baselines.language.training import train
from baselines.training import seeded
from bench.contracts import Dataset, FitContext, Longs
from bench.errors import InputError
from bench.scoring import load_dataset

if TYPE_CHECKING:
    from baselines.lancer.adapter import Lancer, LancerSettings

# Prefix, request and opening, ten items with separators, and the item that is written.
PLACES = HISTORY_LENGTH + OPENING_TOKENS + (HISTORY_LENGTH + 1) * (ITEM_TOKENS + 4)
VALIDATED = 256
# Items that answer a request in the pretraining of a base from scratch.
ANSWERS = 5

TRAINED, SERVED = Needs(trains=True), Needs()

Log = dict[str, list[dict[str, float]]]


def fit(settings: LancerSettings, dataset: Dataset, context: FitContext) -> tuple[Base, LancerNet, ItemTexts, Log]:
    """Train; gives the base model (M_k), the trained network, the catalogue's texts, and the loss log of every phase.

    Raises:
        InputError: the base model does not fit, or a source is asked for and none is named.
    """
    if settings.source is not None:
        data = load_dataset(settings.source, settings.source_dir, context.progress)
        own = settings.model_dump(mode="json", exclude={"source", "source_dir", "knowledge"})
        source: Any = context.fitted("lancer", data, own)
        return train_phases(settings, dataset, context, source)
    if settings.knowledge == "source":
        raise InputError("knowledge=source takes a knowledge prompt over: name its dataset with source=NAME.")
    return train_phases(settings, dataset, context, None)


def train_phases(
    settings: LancerSettings, dataset: Dataset, context: FitContext, source: Lancer | None
) -> tuple[Base, LancerNet, ItemTexts, Log]:
    """The same on the base model of a fitted source, or on one of its own where there is none."""
    texts, log = ItemTexts.of(dataset), Log()
    base = _base(settings, dataset, texts, context, log) if source is None else source.base
    with seeded(context.seed, "lancer prompts", device=context.device):
        net = build(settings, base, texts)
    if source is not None and settings.knowledge == "source":
        net.knowledge_prompt.load_state_dict(source.net.knowledge_prompt.state_dict())
    reader = Reader(base.tokenizer, texts, wording(settings.wording))
    held_out = validation_examples(dataset, length=HISTORY_LENGTH, most=VALIDATED)
    for phase, how in ((1, settings.phase1), (2, settings.phase2)):
        name = f"lancer phase {phase}"
        net.set_phase(phase, knowledge=settings.knowledge == "own")
        histories = Histories(
            dataset,
            seed=context.seed,
            name=name,
            length=HISTORY_LENGTH,
            requests=settings.requests,
            users=settings.users,
        )
        log[name] = train(
            name,
            net,
            data=Sentences(histories, reader, answer_only=settings.loss == "answer"),
            collate=collate,
            settings=how,
            context=context,
            validation=Sentences(held_out, reader, answer_only=True),
        )
    return base, net, texts, log


def build(settings: LancerSettings, base: Base, texts: ItemTexts) -> LancerNet:
    """The network over a base model, its prompts untrained."""
    reader = Reader(base.tokenizer, texts, wording(settings.wording))
    return LancerNet(
        base.model,
        copy.deepcopy(base.model),
        reader.knowledge,
        pad=base.tokenizer.pad_token_id,
        faithful=settings.faithful,
    ).to(base.device)


def _base(settings: LancerSettings, dataset: Dataset, texts: ItemTexts, context: FitContext, log: Log) -> Base:
    how = wording(settings.wording)
    knowledge, items = texts.knowledge(how), texts.items(how)
    # Histories as well, so that the separator becomes a token of its own.
    lines = [how.between.join([texts.opening(how, None) + item, item]) + how.between for item in items]
    base = open_base(
        settings,
        texts=[*knowledge, *lines, *words_of_training(dataset)],
        # A label is the same token in a request and before a title: what was asked for can be taken over.
        units=[texts.opening(how, None), how.between, *texts.titles, *dataset.catalogue.label_names],
        seed=context.seed,
        device=context.device,
        needs=TRAINED,
        shape="gpt2",
    )
    # Named by its class, GPT2LMHeadModel, it would be guessed with a warning.
    base.model.loss_type = "ForCausalLM"
    config = base.model.config
    if config.model_type != "gpt2" or config.max_position_embeddings < PLACES:
        raise InputError(
            f"base_model={settings.base_model}: lancer stands on a GPT-2 with at least {PLACES} positions, "
            f"not on a {config.model_type} with {getattr(config, 'max_position_embeddings', 0)}."
        )
    if base.from_scratch:
        requests = RequestsAnswered(
            dataset, seed=context.seed, name="lancer pretraining", most=ANSWERS, length=HISTORY_LENGTH
        )
        data = _Texts(Reader(base.tokenizer, texts, how), requests)
        log["lancer pretraining"] = train(
            "lancer pretraining", base.model, data=data, collate=batch, settings=settings.pretraining, context=context
        )
    return base


class _Texts(torch.utils.data.Dataset[dict[str, list[int]]]):
    """Texts about items, and requests with items that answer them, written as histories are, as tokens.

    Nothing is learned from what is given, the request and the history beside it.
    """

    def __init__(self, reader: Reader, requests: RequestsAnswered) -> None:
        self._reader, self._requests = reader, requests

    def __len__(self) -> int:
        return len(self._reader.knowledge) + len(self._requests)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        if index < len(self._reader.knowledge):
            return labelled([], self._reader.knowledge[index], answer_only=True)
        row = self._requests[index - len(self._reader.knowledge)]
        written = [token for item in row.items.tolist() for token in self._reader.items[item] + self._reader.between]
        return labelled(self._reader.sentence(row.history, row.request), written, answer_only=True)

    @property
    def lengths(self) -> Longs:
        """How many items each text names, int64; a text about one is as long as several."""
        return np.concatenate([np.full(len(self._reader.knowledge), ANSWERS), self._requests.lengths])

    def set_epoch(self, epoch: int) -> None:
        """Draw the requests of an epoch."""
        self._requests.set_epoch(epoch)
