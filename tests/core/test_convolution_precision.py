"""Context-gated convolutions in bfloat16 and float16, however they got there."""

import copy
import pickle

import pytest
import torch
from torch import nn

from fairseq_cgc.core import CGConv2d


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype, method):
    conv = CGConv2d(8, 6, 3, padding=1).eval()
    x = torch.randn(3, 8, 7, 9)
    got = copy.deepcopy(conv).to(dtype)(x.to(dtype))
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), conv(x), atol=4e-2, rtol=2e-2)


def test_autocast_convolves_in_bfloat16_and_gates_in_float32():
    conv = CGConv2d(8, 6, 3, padding=1)
    x = torch.randn(3, 8, 7, 9, requires_grad=True)
    kernels = conv.eval().sample_kernels(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = conv(x)
        assert torch.equal(conv.sample_kernels(x), kernels)
        assert conv(x.double()).dtype == torch.float64
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), conv(x), atol=4e-2, rtol=2e-2)
    got.sum().backward()
    assert {p.grad.dtype for p in [x, *conv.parameters()]} == {torch.float32}


def by_default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return CGConv2d(8, 6, 3, padding=1)
    finally:
        torch.set_default_dtype(before)


def by_assignment(dtype):
    half = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in CGConv2d(8, 6, 3, padding=1).state_dict().items()
    }
    conv = CGConv2d(8, 6, 3, padding=1)
    conv.load_state_dict(half, assign=True)
    return conv


def by_synchronised_norms(dtype):
    conv = nn.SyncBatchNorm.convert_sync_batchnorm(CGConv2d(8, 6, 3, padding=1))
    assert isinstance(conv.gate.in_norm, nn.SyncBatchNorm)
    return conv.to(dtype)


def by_data(dtype):
    conv = CGConv2d(8, 6, 3, padding=1)
    for parameter in conv.parameters():
        parameter.data = parameter.data.to(dtype)
    return conv


ROADS = {
    "to": lambda dtype: CGConv2d(8, 6, 3, padding=1).to(dtype),
    "from float64": lambda dtype: CGConv2d(8, 6, 3, padding=1).double().to(dtype),
    "argument": lambda dtype: CGConv2d(8, 6, 3, padding=1, dtype=dtype),
    "default": by_default_dtype,
    "assignment": by_assignment,
    "synchronised": by_synchronised_norms,
    "data": by_data,
    "each module": lambda dtype: CGConv2d(8, 6, 3, padding=1).apply(lambda m: m.to(dtype)),
    "pickled": lambda dtype: pickle.loads(pickle.dumps(CGConv2d(8, 6, 3, padding=1).to(dtype))),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("road", ROADS)
def test_every_road_to_half_precision(road, dtype):
    conv = ROADS[road](dtype)
    assert conv.weight.dtype == conv.gate.encoder.dtype == dtype
    norms = (conv.gate.in_norm, conv.gate.out_norm, conv.gate.interaction_norm)
    if road != "each module":  # which asks for the norms to be in half precision
        assert {b.dtype for n in norms for b in (n.running_mean, n.running_var)} == {torch.float32}
    twin = copy.deepcopy(conv).float()
    x = torch.randn(4, 8, 7, 9)
    got, want = conv(x.to(dtype)), twin(x.to(dtype).float())
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), want, atol=4e-2, rtol=2e-2)
    got.sum().backward()
    for norm, other in zip(norms, twin.gate.children(), strict=True):
        assert norm.num_batches_tracked == 1
        torch.testing.assert_close(
            norm.running_var.float(), other.running_var, atol=0.01, rtol=0.01
        )
    assert conv.eval()(x.to(dtype)).isfinite().all()


def test_large_inputs_in_float16():
    """Variances of sums of a few hundred are beyond its range, 65,504."""
    conv = CGConv2d(4, 6, 3, padding=1).half()
    conv(torch.full((2, 4, 5, 5), 100.0).half() * torch.tensor([1.0, 9.0]).half().view(2, 1, 1, 1))
    conv.half()
    assert conv.gate.in_norm.running_var.isfinite().all()
    assert conv.gate.in_norm.running_var.max() > 1000
