import logging

import pytest
import torch
from tools import TOLERANCE, gradients
from torch.utils._python_dispatch import TorchDispatchMode

from fairseq_cgc.core import UserError, functional, light_convolution, reference
from fairseq_cgc.core.functional import BLOCK, BLOCKED_FROM, FORCE, METHODS

# T, B, C, H, K: one position, shorter than the kernel, shorter than three kernels, one head,
# a block, a block and one, two blocks and a bit, a kernel wider than a block.
SHAPES = [
    (1, 2, 4, 2, 7),
    (3, 2, 4, 1, 7),
    (6, 1, 6, 3, 5),
    (12, 3, 4, 2, 3),
    (9, 2, 4, 4, 1),
    (BLOCK, 1, 2, 1, 3),
    (BLOCK + 1, 2, 2, 2, 5),
    (2 * BLOCK + 7, 1, 2, 1, 31),
    (BLOCK, 1, 2, 2, 2 * BLOCK + 1),
]


@pytest.fixture(params=[name for name in METHODS if name != "triton"])  # see gpu/
def method(request, monkeypatch):
    monkeypatch.setenv(FORCE, request.param)
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("own_kernels", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_reference_in_outputs_and_gradients(shape, own_kernels, dtype, method):
    time, batch, channels, num_heads, kernel_size = shape
    x = torch.randn(time, batch, channels, dtype=dtype, requires_grad=True)
    kernels = batch if own_kernels else 1
    kernel = torch.randn(kernels, num_heads, kernel_size, dtype=dtype, requires_grad=True)
    got, want = light_convolution(x, kernel), reference.light_convolution(x, kernel)
    tolerance = {"atol": 10 * TOLERANCE[dtype], "rtol": 0}
    torch.testing.assert_close(got, want, **tolerance)
    torch.testing.assert_close(
        gradients(got, [x, kernel]), gradients(want, [x, kernel]), **tolerance
    )


@pytest.mark.parametrize("padding_l", [0, 1, 3, 5])
@pytest.mark.parametrize("time", [1, 4, 9, BLOCK + 3])
def test_padding_on_either_side(time, padding_l, method):
    """From a kernel that only looks back (a decoder's) to one that only looks ahead; K is even."""
    x = torch.randn(time, 2, 4, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(1, 2, 6, dtype=torch.float64, requires_grad=True)
    got = light_convolution(x, kernel, padding_l=padding_l)
    want = reference.light_convolution(x, kernel, padding_l)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, [x, kernel]), gradients(want, [x, kernel]))


@pytest.mark.parametrize("padding_l", [-1, 5])
def test_wrong_padding_is_refused(padding_l):
    with pytest.raises(UserError, match=f"padding_l must be from 0 to 4, but is {padding_l}"):
        light_convolution(torch.ones(2, 1, 1), torch.ones(1, 1, 5), padding_l=padding_l)


@pytest.mark.parametrize("dropout", [0.0, 0.3, 1.0])
def test_gradcheck(method, dropout):
    x = torch.randn(BLOCK + 6, 1, 2, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(1, 2, 5, dtype=torch.float64, requires_grad=True)

    def run(x, kernel):
        torch.manual_seed(3)
        return light_convolution(x, kernel, dropout=dropout, training=True)

    assert torch.autograd.gradcheck(run, (x, kernel))


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_bfloat16_is_close_to_float32(method, dropout):
    found = []
    x, kernel = torch.randn(BLOCK + 20, 3, 8), torch.rand(3, 2, 5)
    for dtype in (torch.bfloat16, torch.float32):
        inputs = [value.to(dtype).requires_grad_() for value in (x, kernel)]
        torch.manual_seed(3)
        out = light_convolution(*inputs, dropout=dropout, training=True)
        found.append([out.detach(), *gradients(out, inputs)])
    for got, want in zip(*found, strict=True):
        assert got.dtype == torch.bfloat16
        scale = float(want.abs().max())
        torch.testing.assert_close(got.float(), want, atol=2e-2 * scale, rtol=2e-2)


def test_dropconnect_is_drawn_per_position_and_off_in_evaluation(method):
    x, kernel = torch.ones(50 + BLOCK, 1, 1), torch.ones(1, 1, 1)
    dropped = light_convolution(x, kernel, dropout=0.5, training=True).flatten()
    assert set(dropped.tolist()) == {0.0, 2.0}
    assert torch.equal(light_convolution(x, kernel, dropout=0.5), x)


def test_dropconnect_has_the_same_statistics_with_every_method(method):
    time, kernel_size = 2 * BLOCK + 5, 3
    x = torch.ones(time, 200, 2)
    kernel = torch.rand(200, 2, kernel_size, requires_grad=True)
    out = light_convolution(x, kernel, dropout=0.25, training=True)
    # Unbiased, and drawn independently for each position and block.
    torch.testing.assert_close(out[1:-1].mean(0).mean(), kernel.sum(2).mean(), atol=0, rtol=0.02)
    noise = (out / light_convolution(x, kernel) - 1)[1:-1].detach()
    for distance in (1, BLOCK):
        together = (noise[distance:] * noise[:-distance]).mean()
        assert together.abs() < 0.05 * noise.pow(2).mean()
    out.sum().backward()
    assert kernel.grad is not None and kernel.grad.isfinite().all()


class _Largest(TorchDispatchMode):
    """The number of elements of the largest tensor created."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // 4)
        return out


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_memory_grows_with_the_length_and_not_its_square(dropout):
    def largest(time):
        x = torch.randn(time, 1, 16, requires_grad=True)
        kernel = torch.randn(1, 4, 15, requires_grad=True)
        with _Largest() as mode:
            light_convolution(x, kernel, dropout=dropout, training=True).sum().backward()
        return mode.elements

    assert largest(8 * BLOCKED_FROM) <= 8.5 * largest(BLOCKED_FROM)
    assert largest(BLOCKED_FROM - 1) >= 4 * (BLOCKED_FROM - 1) ** 2  # the band matrix


def test_long_inputs_are_cut_into_blocks(monkeypatch):
    monkeypatch.delenv(FORCE, raising=False)
    x = torch.ones(BLOCKED_FROM, 1, 1)
    assert functional.choose_method(x[1:], 31) == "band"
    assert functional.choose_method(x, 31) == "blocked"
    assert functional.choose_method(x, 63) == "band"  # wide windows, few of them


def test_the_choice_is_logged_once(monkeypatch, caplog):
    functional._log_method.cache_clear()
    monkeypatch.setenv(FORCE, "band")
    with caplog.at_level(logging.DEBUG, logger="fairseq_cgc"):
        for _ in range(3):
            functional.choose_method(torch.ones(5, 1, 1), 3)
    (record,) = caplog.records
    assert record.getMessage() == f"lightweight convolution: band (forced by {FORCE})"


def test_an_unknown_method_is_named(monkeypatch):
    monkeypatch.setenv(FORCE, "direct")
    with pytest.raises(
        UserError, match=f"{FORCE} is 'direct', but must be one of band, blocked, triton"
    ):
        light_convolution(torch.ones(2, 1, 1), torch.ones(1, 1, 1))


def test_triton_is_refused_where_it_cannot_run(monkeypatch):
    monkeypatch.setenv(FORCE, "triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UserError, match=f"{FORCE} is 'triton', but x is on cpu, not on a CUDA dev"):
        light_convolution(torch.ones(2, 1, 1), torch.ones(1, 1, 1))


class _OnGpu:
    is_cuda = True

    def __len__(self):
        return 5


def test_a_gpu_gets_its_kernel(monkeypatch):
    monkeypatch.delenv(FORCE, raising=False)
    monkeypatch.setattr(functional.kernels, "supports", lambda x, kernel_size: None)
    assert functional.choose_method(_OnGpu(), 3) == "triton"


def test_a_gpu_without_its_kernel_is_logged_once(monkeypatch, caplog):
    functional._warn.cache_clear()
    monkeypatch.delenv(FORCE, raising=False)
    monkeypatch.setattr(functional.kernels, "supports", lambda *_: "Triton is not installed")
    with caplog.at_level(logging.WARNING, logger="fairseq_cgc"):
        assert {functional.choose_method(_OnGpu(), 3) for _ in range(3)} == {"band"}
    (record,) = caplog.records
    assert record.getMessage() == (
        "lightweight convolution without the GPU kernel, because Triton is not installed"
    )
