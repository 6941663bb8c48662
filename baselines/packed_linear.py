"""Linear layers of a frozen network with their weights laid out as oneDNN reads them fastest.

A single short text is some dozen tokens: products so thin that most of their time is the reading of the weights. On AMD
processors the library behind torch's own linear layer takes more than twice as long for them as oneDNN does on weights that
were laid out for it beforehand. Sums are made in another order, so results differ in the last bits of a float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Self

import torch
from torch import Tensor, nn


class PackedLinear(nn.Linear):
    """A linear layer that is read and not trained: y = W x + b over the same parameters as the layer that it is made from.

    Where gradients are wanted, or the input is not float32 on the CPU, it is the plain layer. The packed copy is made at the
    first use and takes as much memory as the weights; whoever changes these in place afterwards must call `_apply`, as
    `to` does, or the copy stays what it was.

    Args:
        linear: the layer.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self._packed: Tensor | None = None

    def forward(self, states: Tensor) -> Tensor:
        """The layer's output, [..., out], of states [..., in]."""
        wanted = states.dtype == self.weight.dtype == torch.float32 and states.device.type == "cpu"
        if not wanted or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return super().forward(states)
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach(), None)
        output: Tensor = torch.ops.mkldnn._linear_pointwise(states, self._packed, self.bias, "none", [], "")
        return output

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self._packed = None
        return super()._apply(fn, recurse)


def pack_linears(network: nn.Module) -> None:
    """Put a `PackedLinear` in the place of every linear layer, where this build of torch has oneDNN."""
    if not has_packing():
        return
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear:
                setattr(parent, name, PackedLinear(layer))


@cache
def has_packing() -> bool:
    """Whether torch was built with oneDNN and has the two operators on packed weights, which are not part of its public face."""
    wanted = ("_reorder_linear_weight", "_linear_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in wanted)
