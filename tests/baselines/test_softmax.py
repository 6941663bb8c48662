"""The catalogue cross-entropy against torch's own, value and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from baselines.backbones.softmax import catalogue_cross_entropy


@pytest.mark.parametrize("chunk", [1, 7, 64])
@pytest.mark.parametrize("scale", [0.3, 40.0])
def test_one_target_a_row(chunk: int, scale: float) -> None:
    """With scale 40 logits pass the bound beyond which exp would overflow."""
    torch.manual_seed(0)
    h = (torch.randn(23, 8) * scale).requires_grad_()
    table = torch.randn(31, 8).requires_grad_()
    y = torch.randint(31, (23,))
    expected = torch.autograd.grad(F.cross_entropy(h @ table.t(), y), (h, table))
    loss = catalogue_cross_entropy(h, table, y, chunk=chunk)
    torch.testing.assert_close(loss, F.cross_entropy(h @ table.t(), y))
    for ours, theirs in zip(torch.autograd.grad(loss, (h, table)), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_target_sets_with_weights() -> None:
    """Eq. 9: the mean of -log P over each row's targets, rows weighted."""
    torch.manual_seed(1)
    h, table = torch.randn(5, 8, requires_grad=True), torch.randn(11, 8, requires_grad=True)
    sets = [[1], [2, 3, 4], [5, 6], [7], [8, 9, 10]]
    weight = torch.tensor([0.5, 0.1, 0.2, 0.1, 0.1])
    log_p = (h @ table.t()).log_softmax(1)
    expected = -sum(
        w * log_p[row, torch.tensor(mine)].mean() for row, (mine, w) in enumerate(zip(sets, weight, strict=True))
    )
    flat = torch.tensor([v for mine in sets for v in mine])
    owner = torch.tensor([row for row, mine in enumerate(sets) for _ in mine])
    loss = catalogue_cross_entropy(h, table, flat, owner=owner, weight=weight, chunk=2)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(
        torch.autograd.grad(loss, (h, table)), torch.autograd.grad(expected, (h, table)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_temperature_is_a_scaled_row() -> None:
    torch.manual_seed(2)
    h, table, y = torch.randn(4, 3), torch.randn(6, 3), torch.tensor([0, 1, 2, 3])
    torch.testing.assert_close(catalogue_cross_entropy(h / 0.1, table, y), F.cross_entropy(h @ table.t() / 0.1, y))


def test_half_precision_is_near_and_single_where_it_must_be() -> None:
    """bfloat16 keeps 8 bits: a thousandth off at trained scale, whatever the chunk; several targets a row as well."""
    torch.manual_seed(3)
    h, table = (torch.randn(300, 64) * 0.5).requires_grad_(), (torch.randn(900, 64) * 0.4).requires_grad_()
    owner = torch.arange(300).repeat_interleave(2)
    y = torch.randint(900, (600,))
    exact = catalogue_cross_entropy(h, table, y, owner=owner)
    for chunk in (64, None):
        half = catalogue_cross_entropy(h, table, y, owner=owner, chunk=chunk, half=True)
        assert half.dtype == torch.float32 and half != exact
        torch.testing.assert_close(half, exact, rtol=1e-3, atol=0)
        for ours, theirs in zip(
            torch.autograd.grad(half, (h, table)),
            torch.autograd.grad(exact, (h, table), retain_graph=True),
            strict=True,
        ):
            assert ours.dtype == torch.float32 and (ours - theirs).norm() < 0.01 * theirs.norm()
