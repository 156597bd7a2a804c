"""Lightweight convolution with the context gate by Triton."""

import copy

import launching
import pytest
import torch
from launching import (
    DEVICE,
    EXACT,
    ROUNDING,
    assert_close,
    doubles,
    drawn_taps,
    expected,
    projected,
    random,
    told,
)
from tools import padding_mask
from torch import Tensor

from fairseq_cgc.core import GATE_NORMS, CGLightConv, UserError, reference
from fairseq_cgc.core.gpu import cg_light_conv, operations
from fairseq_cgc.core.gpu.tiles import AVERAGED_AT_ONCE

pytestmark = launching.MARKS

# C, H, K, lengths: one head, T < K, every channel a head, T < 3K, T > 3K, one word only, R = 3.
CASES = [
    (4, 1, 3, [1, 2, 5]),
    (3, 3, 5, [4, 3]),
    (4, 2, 7, [1, 13, 30]),
    (4, 2, 9, [1]),
    (6, 2, 3, [18, 9]),
]


def make(channels: int, size: int, heads: int, **options: object) -> CGLightConv:
    """A module in which every parameter affects the output."""
    module = CGLightConv(channels, size, heads, **options)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return module.to(DEVICE)


def mask_of(lengths: list[int], side: str) -> Tensor | None:
    if side == "none":
        return None
    mask = padding_mask(lengths, "right", max(lengths) + 2)
    if side == "left":
        mask = mask.flip(1)
    if side == "anywhere":
        mask = torch.stack([row[torch.randperm(len(row))] for row in mask])
    return mask.to(DEVICE)


def run(module: CGLightConv, x: Tensor, mask: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    gate = module.gate
    return cg_light_conv(
        x,
        mask,
        module.weight,
        gate.encoder,
        gate.in_norm.weight,
        gate.in_norm.bias,
        gate.in_decoder,
        norm_eps=gate.in_norm.eps,
        weight_softmax=module.weight_softmax,
        gate_target=module.gate_target,
        dropout=dropout,
    )


def masked(out: Tensor, mask: Tensor | None) -> Tensor:
    return out if mask is None else out.masked_fill(mask.t().unsqueeze(2), 0)


def exact(module: CGLightConv, x: Tensor) -> tuple[CGLightConv, Tensor]:
    return copy.deepcopy(module).double(), doubles(x)[0]


def compare(
    got: tuple[CGLightConv, Tensor, Tensor],
    want: tuple[CGLightConv, Tensor, Tensor],
    atol: float = 2e-5,
    parameter_atol: float = 3e-5,
    parameter_rtol: float = 1e-5,
) -> None:
    """Compare outputs and gradients of modules (module, x, output); x's as exact as ``atol``."""
    (module, x, out), (exact_module, exact_x, exact_out) = got, want
    assert out.dtype == x.dtype
    assert_close([out], [exact_out], atol)
    found = projected(out, [x, *module.parameters()])
    right = projected(exact_out, [exact_x, *exact_module.parameters()])
    assert [g.dtype for g in found[1:]] == [p.dtype for p in module.parameters()]
    assert_close(found[:1], right[:1], atol)
    assert_close(found[1:], right[1:], parameter_atol, parameter_rtol)


@pytest.mark.parametrize(
    ("side", "gate_target", "gate_norm"),
    [
        ("left", "kernel", "latent"),
        ("right", "logits", "heads"),
        ("anywhere", "logits", "latent"),
        ("none", "kernel", "heads"),
    ],
)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_reference_in_outputs_and_gradients(case, side, gate_target, gate_norm):
    channels, heads, size, lengths = case
    module = make(channels, size, heads, gate_target=gate_target, gate_norm=gate_norm)
    mask = mask_of(lengths, side)
    x = random(max(lengths) + 2, len(lengths), channels)
    exact_module, exact_x = exact(module, x)
    if side == "anywhere":  # the reference removes padding, which makes others neighbours
        want = masked(exact_module(exact_x, mask), mask)
    else:
        want = reference.cg_light_conv(exact_module, exact_x, mask)
    got = masked(run(module, x, mask), mask)
    compare((module, x, got), (exact_module, exact_x, want), parameter_atol=1e-4)


@pytest.mark.parametrize(
    ("time", "channels", "heads", "size", "options"),
    [
        (50, 4, 2, 5, {"weight_softmax": False}),
        (100, 16, 2, 31, {"weight_softmax": False, "gate_target": "logits"}),
        (AVERAGED_AT_ONCE + 22, 8, 2, 31, {"gate_target": "logits"}),
        (AVERAGED_AT_ONCE + 70, 2, 2, 63, {}),
        (AVERAGED_AT_ONCE + 5, 6, 3, 7, {"gate_norm": "heads"}),
        (40, 128, 2, 7, {}),
        (20, 130, 1, 3, {"gate_target": "logits"}),  # a head has more channels than a block
    ],
)
def test_equals_pytorch_in_outputs_and_gradients(time, channels, heads, size, options):
    module = make(channels, size, heads, **options)
    mask = padding_mask([time, time - 5], "left").to(DEVICE)
    x = random(time, 2, channels)
    exact_module, exact_x = exact(module, x)
    want = exact_module(exact_x, mask)
    compare((module, x, run(module, x, mask)), (exact_module, exact_x, want), 1e-4, 1e-4, 1e-4)


@pytest.mark.parametrize("gate_norm", GATE_NORMS)
@pytest.mark.parametrize("time", [7, AVERAGED_AT_ONCE + 1])
def test_what_stands_at_padding_does_not_matter(time, gate_norm):
    module = make(4, 5, 2, gate_norm=gate_norm)
    mask = padding_mask([time, 3], "left").to(DEVICE)
    x = random(time, 2, 4)
    found = []
    for padding in (0.0, float("nan")):
        filled = x.detach().masked_fill(mask.t().unsqueeze(2), padding).requires_grad_()
        out = run(module, filled, mask)
        found.append([out, *projected(out, [filled, *module.parameters()])])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
        assert one.isfinite().all()


@pytest.mark.parametrize("parameters", [torch.float32, None])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("gate_norm", GATE_NORMS)
def test_half_precision(gate_norm, dtype, parameters):
    module = make(8, 7, 2, gate_norm=gate_norm).to(parameters or dtype)
    mask = padding_mask([30, 11], "right").to(DEVICE)
    x = random(30, 2, 8, dtype=dtype)
    exact_module, exact_x = exact(module, x)
    got, want = (
        (module, x, run(module, x, mask)),
        (exact_module, exact_x, exact_module(exact_x, mask)),
    )
    # Gradients of parameters are sums of products that float32 holds; only the result is rounded.
    rtol = 1e-5 if parameters else torch.finfo(dtype).eps
    compare(got, want, ROUNDING[dtype], 3 * EXACT, rtol)


@pytest.mark.parametrize("gate_norm", GATE_NORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_changes_nothing(dtype, gate_norm):
    module = make(8, 7, 2, gate_norm=gate_norm)
    x = random(20, 2, 8, dtype=dtype)
    found = []
    for enabled in (False, True):
        with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=enabled):
            out = run(module, x)
            found.append([out, *projected(out, [x, *module.parameters()])])
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("dropout", [0.3, 1.0])
@pytest.mark.parametrize("time", [12, 40])
def test_backward_drops_what_forward_dropped(time, dropout):
    module = make(6, 5, 2)
    mask = padding_mask([time, time - 4], "left").to(DEVICE)
    x = random(time, 2, 6)
    torch.manual_seed(5)
    got = run(module, x, mask, dropout)
    factors = drawn_taps((time, 2, 6, 2, 5, 2), dropout, seed=5).nan_to_num()
    exact_module, exact_x = exact(module, x)
    taps = exact_module.sentence_kernels(exact_x, mask)
    want = expected(masked(exact_x, mask), taps * factors, 2)
    assert_close([got], [want], atol=2e-5)
    inputs = [x, *module.parameters()]
    assert_close(
        projected(got, inputs), projected(want, [exact_x, *exact_module.parameters()]), atol=5e-5
    )


@pytest.mark.parametrize("gate_norm", GATE_NORMS)
@pytest.mark.parametrize("wanted", ["x", "parameters", ""])
def test_computes_only_the_gradients_that_are_wanted(wanted, gate_norm, monkeypatch):
    calls = []
    for name in ("convolve", "parameter_gradients"):
        monkeypatch.setattr(operations, name, told(getattr(operations, name), calls))
    module, x = make(4, 3, 2, gate_norm=gate_norm), random(5, 2, 4)
    complete = projected(run(module, x), [x, *module.parameters()])
    x.requires_grad_(wanted == "x")
    module.requires_grad_(wanted == "parameters")
    calls.clear()
    out = run(module, x)
    assert out.requires_grad == (wanted != "")
    if wanted == "x":
        assert torch.equal(projected(out, [x])[0], complete[0])
    if wanted == "parameters":
        for one, other in zip(projected(out, list(module.parameters())), complete[1:], strict=True):
            assert torch.equal(one, other)
    backward = {"x": ["convolve"], "parameters": ["parameter_gradients"]}.get(wanted, [])
    assert calls == ["convolve", *backward]


def test_refuses_a_gate_target_that_the_kernels_lack():
    module, x = make(4, 3, 2), random(5, 2, 4)
    module.gate_target = "weights"
    with pytest.raises(UserError, match="gate_target must be one of .*, but is 'weights'"):
        run(module, x)


def test_without_gradients():
    module, x = make(4, 3, 2), random(5, 2, 4)
    with torch.no_grad():
        out = run(module, x)
    assert not out.requires_grad
    torch.testing.assert_close(out, run(module, x).detach(), atol=0, rtol=0)


def test_strides_do_not_matter():
    module, x = make(4, 3, 2), random(9, 2, 4)
    want = run(module, x)
    mask = torch.zeros(9, 2, dtype=torch.bool, device=DEVICE).t()
    for dims in ((0, 1), (0, 2)):
        strange = x.detach().transpose(*dims).contiguous().transpose(*dims).requires_grad_()
        got = run(module, strange, mask)
        assert torch.equal(got, want)
        assert torch.equal(projected(got, [strange])[0], projected(run(module, x), [x])[0])


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("gate_target", "gate_norm"), [("kernel", "latent"), ("logits", "latent"), ("kernel", "heads")]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("time", "batch"), [(28, 128), (100, 32), (1024, 4), (2048, 2)])
def test_real_sizes_equal_float64(time, batch, dtype, gate_target, gate_norm):
    module = make(512, 31, 4, gate_target=gate_target, gate_norm=gate_norm)
    lengths = [time - (37 * i) % time for i in range(batch)]
    mask = padding_mask(lengths, "left").to(DEVICE)
    x = random(time, batch, 512, dtype=dtype)
    exact_module, exact_x = exact(module, x)
    want = exact_module(exact_x, mask)
    # Parameters' gradients are sums over all positions.
    tolerance = max(ROUNDING[dtype], 1e-4)
    compare((module, x, run(module, x, mask)), (exact_module, exact_x, want), tolerance, 0.1, 1e-3)
    again = [projected(run(module, x, mask), list(module.parameters())) for _ in range(2)]
    assert all(torch.equal(one, other) for one, other in zip(*again, strict=True))
