"""Finite numbers in every precision, the same in every batch; numerics.py does it at length."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import half_precision_training
import numeric_checks
import pytest
import torch
from numerics import CONVOLUTION_TOLERANCE, ENCODER_TOLERANCE
from torch import nn

from fairseq_cgc.core import CGConv2d, CGLightConv, ContextGate, light_convolution, pool_heads

pytestmark = pytest.mark.reliability

_EXTREMES: dict[str, list] = defaultdict(list)
for _name, _check in numeric_checks.extreme_cases():
    _EXTREMES[" ".join(_name.split(",")[:2])].append((_name, _check))


@pytest.mark.parametrize("group", _EXTREMES)
def test_extreme_input_gives_finite_outputs_and_gradients(group: str) -> None:
    bad = [name for name, check in _EXTREMES[group] if not check()]
    assert not bad


def test_a_sentence_is_the_same_alone_and_in_any_batch() -> None:
    for seed in range(100):
        convolution, encoder = numeric_checks.independence(seed)
        assert convolution <= CONVOLUTION_TOLERANCE and encoder <= ENCODER_TOLERANCE, seed


def test_small_gates_do_not_enlarge_rounding() -> None:
    """A LayerNorm over the two latent numbers of a kernel of three did."""
    assert numeric_checks.independence(77)[0] <= CONVOLUTION_TOLERANCE


@pytest.mark.parametrize("precision", sorted(half_precision_training.OPTIONS))
def test_half_precision_trains_with_finite_gates(
    precision: str, toy_data: Path, tmp_path: Path
) -> None:
    told = half_precision_training.train(toy_data, tmp_path / "run", precision, 40)
    assert told.updates == 40 and told.gates >= 2 * 40 and told.not_finite == 0
    assert told.last_loss < told.first_loss
    if precision == "fp16":
        first, lowest = told.scales
        assert told.overflows > 2 and lowest < first / 4


# Where half precision must not add up -----------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("kernel_size", [(5,), (3, 3), (3, 3, 3)], ids=str)
def test_gates_are_computed_in_float32(
    kernel_size: tuple[int, ...], norm: str, dtype: torch.dtype
) -> None:
    half = ContextGate(8, 8, kernel_size, norm=norm).to(dtype)
    full = ContextGate(8, 8, kernel_size, norm=norm)
    full.load_state_dict({name: value.float() for name, value in half.state_dict().items()})
    x = (torch.randn(4, 8, *kernel_size) + 30).to(dtype)  # on the grid already
    got, want = half(x), full(x.float())
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


def test_batch_statistics_of_large_input_stay_finite_in_half_precision() -> None:
    gate = CGConv2d(8, 8, 3).half().gate
    for _ in range(20):
        gate(torch.full((2, 8, 6, 6), 3e4).half() * torch.rand(2, 8, 1, 1).half())
    assert gate.in_norm.running_var.max() > torch.finfo(torch.float16).max
    assert all(buffer.isfinite().all() for buffer in gate.buffers())
    assert gate.encoder.dtype == torch.float16 and gate.in_norm.weight.dtype == torch.float32
    gate.double()
    assert gate.in_norm.weight.dtype == torch.float64


def test_autocast_does_not_reach_the_gate() -> None:
    torch.manual_seed(0)
    conv, x = CGLightConv(8, 3, 2).eval(), torch.randn(20, 3, 8) * 100
    want_pooled, want_gate = pool_heads(x, 2, 9), conv.gate(pool_heads(x, 2, 9))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(pool_heads(x, 2, 9), want_pooled)
        assert torch.equal(conv.gate(want_pooled), want_gate)


@pytest.mark.parametrize("time", [95, 300], ids=["band", "blocked"])
def test_gradients_of_a_kernel_are_added_up_in_float32(time: int) -> None:
    """Over the positions of a sentence: rounded at each step, the sum is wrong by percents."""
    x = (torch.rand(time, 4, 8) + 0.5).bfloat16()
    grad = (torch.rand(time, 4, 8) + 0.5).bfloat16()
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        kernel = torch.full((1, 2, 3), 0.25, requires_grad=True)
        out = light_convolution(x.to(dtype), kernel)
        (found[dtype],) = torch.autograd.grad(out, kernel, grad.to(dtype))
    torch.testing.assert_close(found[torch.bfloat16], found[torch.float32], rtol=2e-3, atol=0)


def test_a_convolution_in_half_precision_is_near_float32() -> None:
    conv = CGLightConv(8, 7, 2)
    x = torch.randn(40, 3, 8)
    half = CGLightConv(8, 7, 2).bfloat16()
    half.load_state_dict(conv.state_dict())
    torch.testing.assert_close(half(x.bfloat16()).float(), conv(x), atol=2e-2, rtol=2e-2)


def test_what_is_not_finite_is_noticed() -> None:
    layer = nn.Linear(2, 2)
    assert numeric_checks.finite(layer(torch.ones(1, 2)), list(layer.parameters()))
    assert not numeric_checks.finite(layer(torch.ones(1, 2)) / 0.0, list(layer.parameters()))
    x = torch.zeros(2, requires_grad=True)
    assert not numeric_checks.finite(x.sqrt(), [x])  # finite itself, but not its gradient
