"""Trains a tiny language model with dropout on titles that change with every epoch, and writes its losses.

Started alone or by torchrun: SCRATCH LOG [EPOCH_TO_WAIT_IN]. In that epoch it stops for ever, so that somebody can kill it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from baselines.language import scratch
from baselines.language.settings import TrainingSettings
from baselines.language.training import train
from baselines.training import seeded
from bench import parallel
from tests.conftest import ScratchContext

TEXTS = [f"A film called number {number}" for number in range(40)]
SETTINGS = TrainingSettings(epochs=4, batch_size=8, learning_rate=3e-3, patience=4)


class Titles:
    """Twenty-four of forty texts, others in every epoch."""

    def __init__(self, wait: int | None = None) -> None:
        self.epoch, self.wait, self.seen = 0, wait, 0

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> str:
        self.seen += 1
        if self.epoch == self.wait and self.seen > 10:
            Path(sys.argv[2]).with_suffix(".waiting").touch()
            time.sleep(600)
        return TEXTS[(index * 7 + self.epoch * 13) % len(TEXTS)]

    def set_epoch(self, epoch: int) -> None:
        self.epoch, self.seen = epoch, 0


class Model(torch.nn.Module):
    """Loss of a language model, a mean over examples, with dropout on its embeddings."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.tokenizer = scratch.train_tokenizer(TEXTS, 300)
        self.language = scratch.build("llama", scratch.Size(16, 1, 2, 300), self.tokenizer, seed=0)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        embedded = self.dropout(self.language.get_input_embeddings()(input_ids))
        logits = self.language(inputs_embeds=embedded).logits[:, :-1].transpose(1, 2)
        lost = functional.cross_entropy(logits, labels[:, 1:], reduction="none")
        return (lost.sum(1) / (labels[:, 1:] != -100).sum(1)).mean()

    def collate(self, texts: list[str]) -> dict[str, torch.Tensor]:
        ids = self.tokenizer(texts, return_tensors="pt", padding=True, padding_side="right").input_ids
        return {"input_ids": ids, "labels": ids.masked_fill(ids == self.tokenizer.pad_token_id, -100)}


def run(
    folder: Path, wait: int | None = None, settings: TrainingSettings = SETTINGS, dropout: float = 0.1, **more: Any
):
    """The log, and the trained model."""
    with seeded(0, "model"):
        model = Model(dropout)
    more.setdefault("validation", Titles())
    log = train(
        "titles",
        model,
        data=Titles(wait),
        collate=model.collate,
        settings=settings,
        context=ScratchContext(folder),
        **more,
    )
    return log, model


if __name__ == "__main__":
    together = parallel.world() > 1
    log, _ = run(Path(sys.argv[1]), int(sys.argv[3]) if len(sys.argv) > 3 else None, dropout=0.0 if together else 0.1)
    if parallel.rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps({"processes": parallel.world(), "log": log}))
