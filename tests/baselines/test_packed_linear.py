import copy

import pytest
import torch
from torch import nn

from baselines import packed_linear
from baselines.packed_linear import PackedLinear, has_packing, pack_linears

needs_packing = pytest.mark.skipif(not has_packing(), reason="torch was built without oneDNN")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 40), nn.GELU(), nn.ModuleDict({"in": nn.Linear(40, 7, bias=False)})["in"])


@needs_packing
@pytest.mark.parametrize("shape", [(1, 12), (3, 5, 12), (0, 12)])
def test_the_same_up_to_rounding(shape):
    plain = network()
    packed = copy.deepcopy(plain)
    pack_linears(packed)
    assert [type(layer) for layer in packed[::2]] == [PackedLinear, PackedLinear]
    states = torch.randn(shape)
    for _ in range(2):
        with torch.inference_mode():
            assert torch.allclose(plain(states), packed(states), atol=1e-6) and packed(states).shape[-1] == 7
        assert packed[0]._packed is not None


@needs_packing
def test_gradients_pass_and_nothing_is_packed_for_them():
    packed = network()
    pack_linears(packed)
    states = torch.randn(4, 12, requires_grad=True)
    packed(states).sum().backward()
    assert states.grad is not None and packed[0].weight.grad is not None and packed[0]._packed is None


@needs_packing
def test_other_types_are_the_plain_layers():
    packed = network()
    pack_linears(packed)
    with torch.no_grad():
        packed(torch.randn(2, 12))
        assert packed.double()(torch.randn(2, 12, dtype=torch.float64)).dtype == torch.float64
        assert packed[0]._packed is None


@needs_packing
def test_names_of_the_weights_stay():
    plain, packed = network(), network()
    pack_linears(packed)
    with torch.no_grad():
        packed(torch.randn(2, 12))
    assert packed.state_dict().keys() == plain.state_dict().keys()
    assert packed[0].in_features == 12 and packed[2].bias is None


def test_without_the_operators_nothing_changes(monkeypatch):
    monkeypatch.setattr(packed_linear, "has_packing", lambda: False)
    plain = network()
    pack_linears(plain)
    assert type(plain[0]) is nn.Linear
