"""SASRec: causality, the shortcut at the last position, learning, and going on after a kill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.backbones.sasrec import SASRecNet
from baselines.sasrec import SASRec, SASRecSettings
from baselines.training import Loop
from bench.contracts import Dataset, Ragged, Requests
from tests.conftest import ScratchContext

QUICK = SASRecSettings(dim=16, length=12, epochs=5, batch=8, patience=5)


def net() -> SASRecNet:
    torch.manual_seed(0)
    return SASRecNet(30, dim=16, layers=2, heads=2, length=12).eval()


def test_the_future_does_not_reach_the_past() -> None:
    model, items = net(), torch.randint(30, (3, 10))
    changed = items.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 30
    torch.testing.assert_close(model(items)[:, :6], model(changed)[:, :6])
    assert not torch.allclose(model(items)[:, 6:], model(changed)[:, 6:])


def test_last_equals_the_full_pass() -> None:
    model = net()
    history = Ragged.of([[1], [2, 3, 4], list(range(12)), list(range(20)), [7, 8]])
    with torch.inference_mode():
        encoded = model.encode(history)
        for row in range(len(history)):
            alone = torch.from_numpy(history[row][-12:].astype(np.int64))[None]
            torch.testing.assert_close(encoded[row], model(alone)[0, -1], rtol=1e-4, atol=1e-5)


def test_learns_a_chain(context: ScratchContext) -> None:
    """Users walk round a ring of items: the next item is certain, and SASRec has to find it."""
    from tests.conftest import small_dataset

    template = small_dataset(items=30)
    rows = [[(start + step) % 30 for step in range(20)] for start in range(30) for _ in range(4)]
    import dataclasses

    lengths = np.full(len(rows), 20)
    ring = dataclasses.replace(
        template,
        events=Ragged.of(rows),
        user_ids=tuple(map(str, range(len(rows)))),
        train_end=lengths * 7 // 10,
        valid_end=lengths * 8 // 10,
    )
    model = SASRec(SASRecSettings(dim=16, length=12, epochs=60, batch=4, patience=60, learning_rate=1e-2, dropout=0.0))
    model.fit(ring.for_training(), context)
    asked = Requests(np.arange(120, dtype=np.int32), Ragged.of([row[:16] for row in rows]))
    top = model.rank(asked, 1).items[:, 0]
    assert (top == np.array([row[16] for row in rows])).mean() > 0.95


def test_save_and_load(small: Dataset, context: ScratchContext, tmp_path: Path) -> None:
    model = SASRec(QUICK)
    model.fit(small.for_training(), context)
    model.save(tmp_path)
    asked = Requests(np.arange(20, dtype=np.int32), small.events.take(np.arange(20)))
    assert (SASRec.load(tmp_path, QUICK).rank(asked, 10).items == model.rank(asked, 10).items).all()


class Killed(Exception):
    """Stands for the end of the process; the checkpoint on disk is all that is left."""


@pytest.mark.parametrize("kill_after", [1, 3])
def test_killed_training_equals_uninterrupted(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_after: int
) -> None:
    whole = SASRec(QUICK)
    whole.fit(small.for_training(), ScratchContext(tmp_path / "whole"))
    epoch = Loop._epoch

    def dies(self: Loop) -> None:
        if self.at.epoch == kill_after:
            raise Killed
        epoch(self)

    monkeypatch.setattr(Loop, "_epoch", dies)
    with pytest.raises(Killed):
        SASRec(QUICK).fit(small.for_training(), ScratchContext(tmp_path / "killed"))
    monkeypatch.setattr(Loop, "_epoch", epoch)
    torch.rand(100)  # the global state of the new process is another one
    again = SASRec(QUICK)
    again.fit(small.for_training(), ScratchContext(tmp_path / "killed"))
    for ours, theirs in zip(again.net.state_dict().values(), whole.net.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
