"""Every backbone: what it may see, what it learns, that it goes on after a kill; and what stands on it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines.backbones.batches import Windows
from baselines.bert4rec import BERT4Rec, BERT4RecFA
from baselines.gru4rec import FilterGRUFAParsed, GRU4Rec, GRU4RecF
from baselines.sasrec import FilterSASF, SASRec, SASRecF, SASRecFA
from baselines.sequential import SequentialRecommender
from baselines.training import Loop
from bench import registry
from bench.contracts import Dataset, Ragged, Requests
from tests.conftest import ScratchContext, small_dataset

BACKBONES = [SASRec, GRU4Rec, BERT4Rec]
TINY = {"dim": 16, "length": 12, "epochs": 3, "batch": 8, "patience": 5}


def ring_of(items: int, users: int, steps: int) -> tuple[Dataset, list[list[int]]]:
    """Users walk round a ring of items: what comes next is certain."""
    template = small_dataset(items=items)
    rows = [[(start + step) % items for step in range(steps)] for start in range(items) for _ in range(users)]
    lengths = np.full(len(rows), steps)
    data = dataclasses.replace(
        template,
        events=Ragged.of(rows),
        user_ids=tuple(map(str, range(len(rows)))),
        train_end=lengths * 7 // 10,
        valid_end=lengths * 8 // 10,
    )
    return data, rows


@pytest.mark.parametrize("kind", BACKBONES)
def test_learns_a_chain(kind: type[SequentialRecommender], context: ScratchContext) -> None:
    ring, rows = ring_of(30, 4, 20)
    values = {"epochs": 60, "batch": 4, "patience": 60, "learning_rate": 1e-2, "dropout": 0.0}
    model = kind(kind.Settings.parse(kind.card.name, TINY | values))
    model.fit(ring.for_training(), context)
    asked = Requests(np.arange(120, dtype=np.int32), Ragged.of([row[:16] for row in rows]))
    top = model.rank(asked, 1).items[:, 0]
    assert (top == np.array([row[16] for row in rows])).mean() > 0.95


@pytest.mark.parametrize("kind", BACKBONES)
def test_training_sees_no_event_after_the_cut(kind: type[SequentialRecommender]) -> None:
    """h at a cut point stays as it is when everything behind the cut is exchanged, and is h_u of the history up to there."""
    torch.manual_seed(0)
    net = kind(kind.Settings.parse(kind.card.name, TINY)).build(30).eval()
    flat = np.arange(30, dtype=np.int32).repeat(2)[:33]
    events = Ragged(np.array([0, 11, 22, 33], np.int64), flat)
    windows = Windows(np.arange(3), events.offsets[:-1], events.offsets[1:])
    cuts = net.cuts(windows, np.random.default_rng(0))
    with torch.inference_mode():
        before = net.interests(events, windows, cuts)
        for place in range(len(cuts.last)):
            changed = flat.copy()
            changed[cuts.last[place] + 1 :] = (changed[cuts.last[place] + 1 :] + 7) % 30
            after = net.interests(Ragged(events.offsets, changed), windows, cuts)
            torch.testing.assert_close(after[place], before[place])
            alone = Ragged.of([flat[windows.start[cuts.row[place]] : cuts.last[place] + 1]])
            torch.testing.assert_close(net.encode(alone)[0], before[place], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", BACKBONES)
def test_encode_is_the_same_alone_and_among_longer_rows(kind: type[SequentialRecommender]) -> None:
    torch.manual_seed(0)
    net = kind(kind.Settings.parse(kind.card.name, TINY)).build(30).eval()
    history = Ragged.of([[1], [2, 3, 4], list(range(12)), list(range(20)), [], [7, 8]])
    with torch.inference_mode():
        together = net.encode(history)
        for row in range(len(history)):
            torch.testing.assert_close(
                net.encode(history.take(np.array([row])))[0], together[row], rtol=1e-4, atol=1e-5
            )
    assert not together[4].any()


def test_bert4rec_masks_what_it_is_trained_to_find() -> None:
    """The loss does not move when the masked events alone change what they were; only the targets do."""
    torch.manual_seed(0)
    net = BERT4Rec(BERT4Rec.Settings.parse("bert4rec", TINY)).build(30).eval()
    events = Ragged(np.array([0, 10], np.int64), np.arange(10, dtype=np.int32))
    step = net.draw(Windows(np.array([0]), np.array([0]), np.array([10])), np.random.default_rng(3))
    assert step.masked.any() and not step.masked.all()
    seen: list[torch.Tensor] = []
    net._read = lambda x: (seen.append(x), x)[1]  # type: ignore[method-assign]
    with torch.inference_mode():
        net.loss(events, step)
        other = events.values.copy()
        other[step.masked[0]] = 29
        net.loss(Ragged(events.offsets, other), step)
    torch.testing.assert_close(seen[0], seen[1])


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("kind", [GRU4Rec, BERT4Rec, SASRecFA])
def test_killed_training_equals_uninterrupted(
    kind: type[SequentialRecommender], small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = TINY if kind is not SASRecFA else {f"backbone.{key}": value for key, value in TINY.items()}
    values = values | ({"fine.epochs": 2, "targets.epochs": 3} if kind is SASRecFA else {})
    settings = kind.Settings.parse(kind.card.name, values)
    whole = kind(settings)
    whole.fit(small.for_training(), ScratchContext(tmp_path / "whole"))
    epoch = Loop._epoch

    def dies(self: Loop) -> None:
        if self.at.epoch == 1 and self.name == kind.card.name:
            raise Killed
        epoch(self)

    monkeypatch.setattr(Loop, "_epoch", dies)
    with pytest.raises(Killed):
        kind(settings).fit(small.for_training(), ScratchContext(tmp_path / "killed"))
    monkeypatch.setattr(Loop, "_epoch", epoch)
    torch.rand(100)  # the global state of the new process is another one
    again = kind(settings)
    again.fit(small.for_training(), ScratchContext(tmp_path / "killed"))
    for ours, theirs in zip(again.net.state_dict().values(), whole.net.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", [SASRecF, GRU4RecF, BERT4RecFA])
def test_fine_tuning_starts_from_the_backbone_and_moves_it(
    kind: Any, small: Dataset, context: ScratchContext, tmp_path: Path
) -> None:
    values = {f"backbone.{key}": value for key, value in TINY.items()} | {"fine.epochs": 2}
    values |= {"targets.epochs": 1} if "targets" in kind.groups else {}
    model = kind(kind.Settings.parse(kind.card.name, values))
    model.fit(small.for_training(), context)
    start = context.fitted(kind.first.card.name, small.for_training(), model.settings.backbone.model_dump())
    assert isinstance(start, SequentialRecommender)
    moved = (model.net.table - start.net.table).abs().max()
    assert 0 < moved < 0.2  # a tenth of the rate for two epochs
    model.save(tmp_path)
    asked = Requests(np.arange(20, dtype=np.int32), small.events.take(np.arange(20)))
    assert (kind.load(tmp_path, model.settings).rank(asked, 10).items == model.rank(asked, 10).items).all()


@pytest.mark.parametrize("kind", [FilterSASF, FilterGRUFAParsed])
def test_what_stands_on_a_tuned_backbone_hands_its_settings_down(
    kind: Any, small: Dataset, context: ScratchContext, tmp_path: Path
) -> None:
    values = {f"backbone.{key}": value for key, value in TINY.items()} | {"fine.epochs": 1}
    values |= {"targets.epochs": 1} if "targets" in kind.Settings.model_fields else {}
    model = kind(kind.Settings.parse(kind.card.name, values))
    model.fit(small.for_training(), context)
    assert model.backbone.settings.backbone.dim == 16 and model.backbone.settings.fine.epochs == 1
    model.save(tmp_path)
    asked = Requests(np.arange(20, dtype=np.int32), small.events.take(np.arange(20)))
    assert (kind.load(tmp_path, model.settings).rank(asked, 10).items == model.rank(asked, 10).items).all()


def test_every_backbone_has_its_whole_family() -> None:
    """Names of the variants, and that each stands on what its name says."""
    models = set(registry.names("models"))
    for name, short in (("sasrec", "sas"), ("gru4rec", "gru"), ("bert4rec", "bert4rec")):
        for end in ("", "_f", "_fa"):
            assert {f"{name}{end}", f"filter_{short}{end}", f"filter_{short}{end}_parsed"} <= models
            for made in (f"filter_{short}{end}", f"filter_{short}{end}_parsed"):
                entry = registry.get("models", made)
                assert entry.card.name == made and entry.stands_on.card.name == f"{name}{end}"
        assert registry.get("models", f"dpr_{short}").stands_on.card.name == name
