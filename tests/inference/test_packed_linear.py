from __future__ import annotations

import copy

import pytest
import torch
from tools import TOLERANCE
from torch import nn

from fairseq_cgc.inference import layers
from fairseq_cgc.inference.layers import PackedLinear

INPUTS = {
    "rows": torch.randn(7, 40),
    "one row": torch.randn(1, 40),
    "positions and sentences": torch.randn(3, 2, 40),
    "a view": torch.randn(5, 80)[:, ::2],
    "no rows": torch.empty(0, 40),
    "no sentences": torch.empty(3, 0, 40),
}


@pytest.fixture(autouse=True)
def packs_small_weights(monkeypatch):
    monkeypatch.setattr(PackedLinear, "_SMALLEST", 1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", INPUTS)
@torch.inference_mode()
def test_packed_layer_is_a_linear_layer(name, dtype, bias):
    layer, x = PackedLinear(40, 24, bias=bias).to(dtype), INPUTS[name].to(dtype)
    want = nn.functional.linear(x, layer.weight, layer.bias)
    for _ in range(2):  # the first call packs the weight
        got = layer(x)
        torch.testing.assert_close(got, want, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@torch.inference_mode()
def test_packed_weights_follow_the_weight():
    layer, x = PackedLinear(40, 24), torch.randn(3, 40)
    want = layer(x)
    assert layers._can_pack("cpu", torch.float32) == (layer._packed is not None)
    assert torch.equal(copy.deepcopy(layer)(x), want)
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert layer.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    assert layer.double()(x.double()).dtype == torch.float64


@torch.inference_mode()
def test_layer_without_torchs_packed_product_is_the_same(monkeypatch):
    layer, x = PackedLinear(40, 24), torch.randn(3, 40)
    monkeypatch.setattr(layers, "_can_pack", lambda *_: False)
    assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    assert layer._packed is None
