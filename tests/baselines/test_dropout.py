"""Our dropout against its definition: rate, scale, gradient, and masks that the seed fixes."""

from __future__ import annotations

import pytest
import torch

from baselines.backbones.dropout import dropout


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.9])
def test_rate_and_scale(rate: float) -> None:
    """Kept elements are x / (1 - rate); their share is 1 - rate within six standard errors; the gradient has the same mask."""
    torch.manual_seed(0)
    x = torch.rand(501, 333).add_(1).requires_grad_()  # an odd number of elements
    y = dropout(x, rate, training=True)
    kept = y != 0
    assert abs(kept.float().mean().item() - (1 - rate)) < 6 * (rate * (1 - rate) / x.numel()) ** 0.5
    torch.testing.assert_close(y[kept], (x / (1 - rate))[kept], rtol=1e-4, atol=0)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad != 0, kept)


def test_masks_are_independent_of_position() -> None:
    """The four elements that share a draw are dropped independently of each other, and so are neighbouring draws."""
    torch.manual_seed(1)
    kept = (dropout(torch.ones(400_000), 0.3, training=True) != 0).double().view(-1, 8)
    correlation = torch.corrcoef(kept.t()) - torch.eye(8)
    assert correlation.abs().max() < 6 / len(kept) ** 0.5


def test_seed_fixes_masks_and_evaluation_is_the_identity() -> None:
    """Same seed, same mask; no mask where nothing trains."""
    x = torch.ones(1000)
    masks = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        masks.append(dropout(x, 0.5, training=True))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert dropout(x, 0.5, training=False) is x
