"""Training in several processes: parts of a step add up to the whole, and two gloo processes lose what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines.backbones.batches import bucket, cut_windows
from baselines.fine_tuned import TargetSettings, _Rated
from baselines.target_training import BareNet, TargetStage
from bench import registry
from bench.contracts import Dataset
from tests.tools.train_together import SETTINGS, train

REPOSITORY = Path(__file__).resolve().parents[2]
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--standalone"]


def gradients(net: torch.nn.Module, losses: list[torch.Tensor]) -> list[torch.Tensor]:
    net.zero_grad(set_to_none=True)
    for loss in losses:
        loss.backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in net.parameters()]


def build(name: str, n_items: int) -> Any:
    model = registry.get("models", name)
    torch.manual_seed(0)
    return model(model.Settings.parse(name, {"dim": 16, "length": 12, "dropout": 0.0})).build(n_items)


@pytest.mark.parametrize("name", ["sasrec", "gru4rec", "bert4rec"])
@pytest.mark.parametrize("processes", [2, 3])
def test_parts_of_a_step_add_up(name: str, processes: int, small: Dataset) -> None:
    net, events, rng = build(name, len(small.catalogue)), small.train_events(), np.random.default_rng(0)
    windows = cut_windows(events, net.length, rng)
    step = net.draw(windows.take(next(bucket(windows.stop - windows.start, 7, rng))), rng)
    parts = [net.part(step, np.arange(rank, net.rows(step), processes)) for rank in range(processes)]
    assert sum(map(net.targets, parts)) == net.targets(step)
    whole = net.loss(events, step)
    shared = [net.loss(events, part) * (net.targets(part) / net.targets(step)) for part in parts]
    torch.testing.assert_close(sum(shared), whole)
    for one, other in zip(gradients(net, shared), gradients(net, [net.loss(events, step)]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["sasrec", "bert4rec"])
def test_parts_of_a_step_on_target_sets_add_up(name: str, small: Dataset) -> None:
    net = BareNet(build(name, len(small.catalogue)))
    stage = TargetStage("targets", net, small, _Rated(TargetSettings(), SETTINGS), next_item=True)
    steps = list(stage._batches(0, np.random.default_rng(0)))
    for step in steps[:5]:
        whole = stage._loss(step)
        parts = [step.share(rank, 3) for rank in range(3)]
        shared = [stage._loss(part) * weight for part, weight in parts if part is not None]
        torch.testing.assert_close(sum(shared), whole)
        for one, other in zip(gradients(net, shared), gradients(net, [stage._loss(step)]), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_two_processes_lose_what_one_does(tmp_path: Path) -> None:
    alone = train(tmp_path / "alone")
    script = str(REPOSITORY / "tests" / "tools" / "train_together.py")
    written = tmp_path / "log.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    subprocess.run(
        [*LAUNCH, script, str(tmp_path / "two"), str(written)], env=environment, check=True, capture_output=True
    )
    together = json.loads(written.read_text())
    assert together["processes"] == 2
    for name, log in alone.items():
        other = together["logs"][name]
        for field in ("loss", "validation"):
            np.testing.assert_allclose(
                [record[field] for record in other], [record[field] for record in log], rtol=2e-5, atol=1e-6
            )


@pytest.mark.slow
def test_the_same_command_works_under_torchrun(tmp_path: Path) -> None:
    command = ["bench", "run", "--task", "seq", "--model", "filter_sas", "--limit", "200", "--device", "cpu", "--json"]
    for value in ("epochs=1", "length=20", "dim=16", "dropout=0"):
        command += ["--set", f"backbone.{value}"]
    results = []
    for start in ([sys.executable, "-m"], [*LAUNCH, "-m"]):
        out = tmp_path / str(len(results))
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*start, *command, "--out", str(out)], env=environment, cwd=REPOSITORY, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        # One document: the second process says nothing.
        results.append(json.loads(done.stdout))
        assert len(list(out.glob("runs/*"))) == 1 and len(list(out.glob("models/*/model.json"))) == 2
    one, two = results
    assert one["run"] == two["run"]
    for name, value in one["metrics"].items():
        assert two["metrics"][name]["value"] == pytest.approx(value["value"], abs=0.02)
