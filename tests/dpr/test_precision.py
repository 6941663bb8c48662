"""Training in bfloat16: the losses of single precision within a percent, on a processor and as a GPU does it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors import safe_open

from baselines.training import Batch, Loop
from bench import registry
from bench.contracts import Dataset
from tests.conftest import ScratchContext

SMALL = {"dim": 16, "length": 20, "epochs": 2}
BENEATH = {f"backbone.{key}": value for key, value in SMALL.items()}
MODELS = [
    ("sasrec", SMALL),
    ("sasrec", SMALL | {"negatives": 12}),
    ("gru4rec", SMALL),
    ("bert4rec", SMALL),
    ("dpr_sas", BENEATH | {"epochs": 1, "tag_epochs": 1, "templates_per_set": 1}),
    ("dpr_sas", BENEATH | {"epochs": 1, "tag_epochs": 1, "templates_per_set": 1, "tokens": "all"}),
]


def as_on_a_gpu(self: Loop, batch: Batch) -> torch.Tensor:
    """The encoder under autocast too; there is no GPU to be had, so it is the processor's."""
    with torch.autocast("cpu", torch.bfloat16):
        return self.loss(batch)


def losses(name: str, values: dict[str, Any], data: Dataset, context: ScratchContext) -> list[float]:
    kind = registry.get("models", name)
    kind(kind.Settings.parse(name, values)).fit(data.for_training(), context)
    found = []
    for path in sorted(context.scratch.rglob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found += [epoch["loss"] for epoch in json.loads(file.metadata()["state"])["log"]]
    return found


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize(("name", "values"), MODELS, ids=lambda value: value if isinstance(value, str) else "")
def test_half_precision_trains_alike(
    name: str,
    values: dict[str, Any],
    everything: bool,
    small: Dataset,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BENCH_PRECISION", "fp32")
    exact = losses(name, values, small, ScratchContext(tmp_path_factory.mktemp("fp32")))
    monkeypatch.setenv("BENCH_PRECISION", "bf16")
    if everything:
        monkeypatch.setattr(Loop, "_loss", as_on_a_gpu)
    half = losses(name, values, small, ScratchContext(tmp_path_factory.mktemp("bf16")))
    assert half == pytest.approx(exact, rel=0.01) and half
    # Sampled logits are never in bfloat16 on a processor.
    assert (half == exact) == ("negatives" in values and not everything)
