"""The sampled softmax: the full loss where everything is drawn, its sum right on average, and chosen by the catalogue's size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.backbones.sampled_softmax import FULL_UP_TO, NEGATIVES, negatives_for, sampled_cross_entropy
from baselines.backbones.softmax import catalogue_cross_entropy
from baselines.sasrec import SASRec, SASRecSettings


def rows(count: int = 9, items: int = 40, dim: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(count, dim, requires_grad=True), torch.randn(items, dim, requires_grad=True)


def both(loss: torch.Tensor, *wrt: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (loss.detach(), *torch.autograd.grad(loss, wrt))


@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_drawing_everything_is_the_full_softmax(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baselines.backbones.sampled_softmax.ROWS", 4)
    h, table = rows()
    owner = torch.tensor([0, 0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 8])
    targets, weight = torch.randperm(40)[: len(owner)], torch.rand(9)
    full = both(catalogue_cross_entropy(h * scale, table, targets, owner=owner, weight=weight), h, table)
    ours = both(sampled_cross_entropy(h * scale, table, targets, 40, owner=owner, weight=weight), h, table)
    for one, other in zip(ours, full, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_one_target_a_row_is_the_default() -> None:
    h, table = rows()
    targets = torch.randint(40, (9,))
    torch.testing.assert_close(sampled_cross_entropy(h, table, targets, 40), catalogue_cross_entropy(h, table, targets))


def test_the_sampled_sum_is_right_on_average() -> None:
    h, table = rows(1)
    target = torch.tensor([3])
    own = float((h @ table[3]).detach())
    full = np.exp(float(catalogue_cross_entropy(h, table, target).detach()) + own)
    sums = [np.exp(float(sampled_cross_entropy(h, table, target, 12).detach()) + own) for _ in range(3000)]
    error = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - full) < 4 * error and error < 0.05 * full


@pytest.mark.parametrize(
    ("setting", "items", "count"),
    [
        (None, 3_666, 0),
        (None, FULL_UP_TO, 0),
        (None, FULL_UP_TO + 1, NEGATIVES),
        (0, 10**7, 0),
        (100, 3_666, 100),
        (9, 9, 0),
    ],
)
def test_the_catalogue_decides_unless_told(setting: int | None, items: int, count: int) -> None:
    assert negatives_for(setting, items) == count


def test_the_setting_reaches_the_loss_and_only_a_given_one_is_part_of_the_identity() -> None:
    assert SASRec(SASRecSettings(negatives=7)).build(30).negatives == 7
    assert "negatives" not in SASRecSettings().model_dump()
    assert SASRecSettings(negatives=7).model_dump()["negatives"] == 7
