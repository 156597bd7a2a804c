"""The core computes the same on a GPU as in float64 on a CPU.

Each test runs on a CPU too, so that a machine without a GPU notices a test that is wrong.
"""

import copy

import pytest
import torch
from test_convolution import CASES, make
from tools import gradients, padding_mask
from torch import Tensor, nn

from fairseq_cgc.core import CGLightConv, ContextGate, LightConv, convert_to_cgc
from fairseq_cgc.core.functional import FORCE, choose_method
from fairseq_cgc.core.modulated_kernels import WORKSPACE
from fairseq_cgc.core.sample_convolution import FORCE as FORCE_CONVOLUTION
from fairseq_cgc.core.sample_methods import METHODS

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
# For numbers around 1, and for sums over all positions.
TOLERANCES = {
    torch.float64: (1e-9, 1e-9),
    torch.float32: (3e-5, 3e-4),
    torch.float16: (1e-2, 1e-1),
    torch.bfloat16: (6e-2, 5e-1),
}
LENGTHS = [1, 5, 20, 100, 97]  # with a kernel of 7: a word, less than K, less than 3K, more


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    # True float32: cuDNN's convolutions use TF32 by default.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return request.param


def assert_close(got: list[Tensor], want: list[Tensor], tolerance: float) -> None:
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one.cpu().double(), other, atol=tolerance, rtol=tolerance)


def compare(module: nn.Module, x: Tensor, device: str, *mask: Tensor, dtype: torch.dtype) -> None:
    """Outputs (without padding) and all gradients, with float64 on the CPU."""
    found = []
    for place, kind in ((device, dtype), ("cpu", torch.float64)):
        m = copy.deepcopy(module).to(place, kind)
        inputs = x.to(dtype).to(place, kind).requires_grad_()
        out = m(inputs, *(part.to(place) for part in mask))
        for padded in mask:
            out = out.masked_fill(padded.t().unsqueeze(2).to(place), 0)
        assert (out.device.type, out.dtype) == (place, kind)
        # The same projection everywhere; half precision can represent it.
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(7)).bfloat16()
        tensors = [inputs, *m.parameters()]
        found.append(
            ([out, *torch.autograd.grad(out, tensors[:1], weights.to(place, kind), True)],
             torch.autograd.grad(out, tensors[1:], weights.to(place, kind)))
        )  # fmt: skip
    (got, of_parameters), (want, other) = found
    assert_close(got, want, TOLERANCES[dtype][0])
    assert_close(of_parameters, other, TOLERANCES[dtype][1])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("method", [None, "band", "blocked"])
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("kind", [LightConv, CGLightConv])
def test_lightweight_convolution(kind, heads, method, dtype, side, device, monkeypatch):
    if method is not None:
        monkeypatch.setenv(FORCE, method)
    module = kind(8, 7, heads, weight_dropout=0.2, bias=True).eval().to(dtype).float()
    x = torch.randn(100, len(LENGTHS), 8)
    compare(module, x, device, padding_mask(LENGTHS, side), dtype=dtype)


@pytest.mark.parametrize("time", [1, 3, 33])
def test_lightweight_convolution_without_padding(time, device):
    compare(CGLightConv(6, 5, 3), torch.randn(time, 2, 6), device, dtype=torch.float32)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_triton_is_chosen(dtype):
    assert choose_method(torch.zeros(3, 2, 8, device="cuda", dtype=dtype), 31) == "triton"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_of_lightweight_convolution(dtype, device):
    module = nn.Sequential(nn.Linear(8, 8), CGLightConv(8, 7, 2), nn.Linear(8, 8)).to(device)
    x = torch.randn(40, 3, 8, device=device)
    exact = copy.deepcopy(module).cpu().double()(x.cpu().double())
    with torch.autocast(device, dtype=dtype):
        out = module(x)
    assert out.dtype == dtype
    assert_close([out], [exact], TOLERANCES[dtype][0])
    out.sum().backward()
    assert all(
        p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in module.parameters()
    )


def test_dropconnect_drops_its_share(device):
    module = LightConv(64, 5, 64, weight_dropout=0.3).to(device)
    with torch.no_grad():
        out = module(torch.ones(200, 4, 64, device=device))[2:-2].double()  # sums of taps: one each
    assert out.mean().item() == pytest.approx(1, abs=0.01)
    share = (module.weight.flatten(1).softmax(1).double() ** 2).sum(1)
    variance = out.var((0, 1)) / (share * 0.3 / 0.7)
    assert variance.mean().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolutions(case, method, device, monkeypatch):
    monkeypatch.setenv(FORCE_CONVOLUTION, method)
    x = torch.randn(3, case[1][0], *case[0])
    compare(make(*case), x, device, dtype=torch.float64)


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", [CASES[0], CASES[2], CASES[11]], ids=str)
def test_convolutions_in_other_types(case, dtype, samples, device, monkeypatch):
    conv = make(*case).eval().to(dtype).float()
    for name in ("cpu", "cuda"):
        workspace = samples * conv.weight.numel() * 4
        monkeypatch.setitem(WORKSPACE, name, workspace)
    compare(conv, torch.randn(3, case[1][0], *case[0]), device, dtype=dtype)


SWITCHES = [
    {"branches": "in"}, {"branches": "out"}, {"combine": "product"}, {"norm": "layer"},
    {"channels_per_group": None}, {"latent_size": 9}, {"shared_norm": True},
    {"shared_encoder": False}, {"shared_decoder": True}, {"grid_size": (6, 6)}, {"pool": "max"},
]  # fmt: skip


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_switches_of_the_gate(switches, device):
    gate = ContextGate(4, 6, (3, 3), **switches)
    compare(gate, torch.randn(5, 4, 9, 8), device, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_and_channels_last(dtype, device):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3))
    model = model.to(device, memory_format=torch.channels_last)
    converted, _ = convert_to_cgc(model)
    exact = copy.deepcopy(converted).cpu().double()
    x = torch.randn(4, 3, 12, 12).to(device, memory_format=torch.channels_last)
    with torch.autocast(device, dtype=dtype):
        out = converted(x)
    assert out.dtype == dtype and out.is_contiguous(memory_format=torch.channels_last)
    assert_close([out], [exact(x.cpu().double())], TOLERANCES[dtype][0])
    out.float().square().sum().backward()
    for parameter in converted.parameters():
        assert parameter.grad.device.type == device and parameter.grad.isfinite().all()


def test_gradients_of_a_view(device):
    """Neither the pointer nor the strides are multiples of 16 bytes."""
    module = CGLightConv(6, 5, 3)
    whole = torch.randn(41, 3, 13)
    x = whole[1:, :, 3:9]
    want = module.double()(x.double())
    got = module.float().to(device)(whole.to(device)[1:, :, 3:9])
    assert_close([got], [want], TOLERANCES[torch.float32][0])
    inputs = list(module.parameters())
    assert all(g.isfinite().all() for g in gradients(got.cpu(), inputs))
