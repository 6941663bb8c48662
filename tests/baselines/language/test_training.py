"""The training module: resuming, best weights, early stopping, accumulation, precision, logs, several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.language.settings import TrainingSettings
from baselines.language.training import _Order, keep_events
from bench.errors import InputError
from tests.tools.train_language import SETTINGS, Model, run

REPOSITORY = Path(__file__).resolve().parents[3]
SCRIPT = str(REPOSITORY / "tests" / "tools" / "train_language.py")
LAUNCH = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--standalone"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}


def losses(log, field="loss"):
    return [record[field] for record in log]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted training."""
    folder = tmp_path_factory.mktemp("whole")
    log, model = run(folder)
    return log, model, folder


def test_it_learns_and_tells(whole):
    log, _, _ = whole
    assert [record["epoch"] for record in log] == [1, 2, 3, 4]
    assert losses(log)[-1] < losses(log)[0] and losses(log, "validation")[-1] > losses(log, "validation")[0]


@pytest.mark.slow
def test_a_killed_training_goes_on_with_the_same_losses(whole, tmp_path):
    log, model, _ = whole
    scratch, written = tmp_path / "scratch", tmp_path / "log.json"
    child = subprocess.Popen([sys.executable, SCRIPT, str(scratch), str(written), "2"], env=ENVIRONMENT)
    waiting = written.with_suffix(".waiting")
    while not waiting.exists() and child.poll() is None:
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL and not written.exists()
    # What a kill in the middle of writing leaves is passed over.
    (scratch / "titles" / "checkpoint-99").mkdir()
    resumed, again = run(scratch)
    assert losses(resumed) == losses(log) and losses(resumed, "validation") == losses(log, "validation")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert not (scratch / "titles" / "checkpoint-99").exists()


def test_no_checkpoint_needs_pickle(whole):
    _, _, folder = whole
    kept = sorted(path.name for path in next((folder / "titles").glob("checkpoint-*")).iterdir())
    assert "training_args.bin" not in kept and "trained.safetensors" in kept
    for path in (folder / "titles").rglob("*.pt"):
        torch.load(path, weights_only=True)


def test_the_best_weights_are_restored_and_training_stops_early(tmp_path):
    values, states = iter([1.0, 5.0, 2.0, 1.0, 9.0]), []
    model_of = {}

    def value() -> float:
        states.append({name: weights.clone() for name, weights in model_of["model"].named_parameters()})
        return next(values)

    class Watched(Model):
        def __init__(self, dropout: float) -> None:
            super().__init__(dropout)
            model_of["model"] = self

    import tests.tools.train_language as tool

    original, tool.Model = tool.Model, Watched
    try:
        log, model = run(tmp_path, settings=SETTINGS.model_copy(update={"epochs": 5, "patience": 2}), evaluate=value)
    finally:
        tool.Model = original
    assert losses(log, "validation") == [1.0, 5.0, 2.0, 1.0]
    assert all(torch.equal(weights, states[1][name]) for name, weights in model.named_parameters())


def test_parts_of_an_update_add_up(tmp_path):
    settings = SETTINGS.model_copy(update={"epochs": 2})
    one, _ = run(tmp_path / "one", settings=settings, dropout=0.0)
    parts, _ = run(tmp_path / "parts", settings=settings.model_copy(update={"accumulate": 4}), dropout=0.0)
    np.testing.assert_allclose(losses(parts), losses(one), rtol=1e-4)


def test_mixed_precision_is_near_single(whole, tmp_path):
    mixed, _ = run(tmp_path, settings=SETTINGS.model_copy(update={"precision": "bf16"}))
    np.testing.assert_allclose(losses(mixed), losses(whole[0]), rtol=0.02)
    assert losses(mixed) != losses(whole[0])


def test_tensorboard_log_is_kept_beside_the_model(whole, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log, _, folder = whole
    keep_events(folder, tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "titles"))
    events.Reload()
    assert [round(event.value, 4) for event in events.Scalars("titles/loss")] == [
        round(loss, 4) for loss in losses(log)
    ]
    keep_events(tmp_path / "none", tmp_path / "empty")
    assert not (tmp_path / "empty").exists()


def test_a_loss_that_is_no_number_stops_at_once(tmp_path):
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        run(tmp_path, settings=SETTINGS.model_copy(update={"learning_rate": 1e30, "clip": 1e30}))


@pytest.mark.parametrize(
    ("values", "line"),
    [({"batch_size": 9, "accumulate": 2}, "cannot be divided"), ({"precision": "fp16"}, "is for GPUs")],
)
def test_settings_that_do_not_do(values, line, tmp_path):
    with pytest.raises(InputError, match=line):
        run(tmp_path, settings=TrainingSettings(**values))


def test_batches_have_like_lengths_and_every_example_once():
    class Data:
        lengths = np.random.default_rng(0).integers(1, 100, 1000)

        def __len__(self) -> int:
            return 1000

    order = _Order(Data(), "x", 0, 8)
    first = list(order)
    assert sorted(first) == list(range(1000))
    spread = [np.ptp(Data.lengths[first[start : start + 8]]) for start in range(0, 992, 8)]
    assert np.mean(spread) < 10
    order.epoch = 1
    assert list(order) != first


@pytest.mark.slow
def test_two_processes_lose_what_one_does(tmp_path):
    alone, _ = run(tmp_path / "alone", dropout=0.0)
    written = tmp_path / "log.json"
    done = subprocess.run(
        [sys.executable, *LAUNCH, SCRIPT, str(tmp_path / "two"), str(written)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    together = json.loads(written.read_text())
    assert together["processes"] == 2
    for field in ("loss", "validation"):
        np.testing.assert_allclose(losses(together["log"], field), losses(alone, field), rtol=1e-4)
