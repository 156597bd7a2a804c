"""Lightweight convolution by Triton, without a gate."""

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
    windows,
)
from torch import Tensor

from fairseq_cgc.core import reference
from fairseq_cgc.core.gpu import light_convolution, operations
from fairseq_cgc.core.gpu.convolution import multiply_taps

pytestmark = launching.MARKS

# T, B, C, H, K, padding_l: one position, shorter than the kernel, an even kernel and R = 3, blocks
# of all sizes and one more, a decoder's padding, R = 1, R above a block, several programs per row.
SHAPES = [
    (1, 2, 2, 2, 7, 3),
    (1, 1, 3, 1, 1, 0),
    (3, 2, 4, 1, 7, 6),
    (6, 1, 9, 3, 4, 2),
    (17, 2, 8, 1, 31, 15),
    (40, 2, 6, 2, 31, 30),
    (70, 1, 2, 2, 63, 31),
    (33, 1, 2, 1, 3, 0),
    (20, 1, 130, 1, 3, 1),
    (300, 1, 1, 1, 5, 2),
]


@pytest.mark.parametrize("own_kernels", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_pytorch_in_outputs_and_gradients(shape, own_kernels):
    time, batch, channels, heads, size, padding_l = shape
    x, kernel = random(time, batch, channels), random(batch if own_kernels else 1, heads, size)
    got = light_convolution(x, kernel, padding_l=padding_l)
    exact = doubles(x, kernel)
    want = expected(*exact, padding_l)
    assert_close([got], [want], atol=1e-5)
    assert_close(projected(got, [x, kernel]), projected(want, exact), atol=2e-5)


@pytest.mark.parametrize("own_kernels", [True, False])
def test_padding_counts_as_zero(own_kernels):
    mask = torch.rand(2, 40).lt(0.3).to(DEVICE)
    padding = mask.t().unsqueeze(2)
    kernel = random(2 if own_kernels else 1, 2, 6)
    x = torch.randn(40, 2, 4).to(DEVICE).masked_fill(padding, torch.nan).requires_grad_()
    got = light_convolution(x, kernel, padding_l=4, padding_mask=mask)
    exact = doubles(x, kernel)
    want = expected(exact[0].masked_fill(padding, 0), exact[1], 4)
    assert_close([got], [want], atol=1e-5)
    assert_close(projected(got, [x, kernel]), projected(want, exact), atol=2e-5)


def test_equals_the_reference():
    x, kernel = random(9, 2, 6), random(2, 2, 5)
    got, want = (f(x, kernel) for f in (_same, reference.light_convolution))
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        projected(got, [x, kernel]), projected(want, [x, kernel]), atol=1e-5, rtol=0
    )


def _same(x: Tensor, kernel: Tensor) -> Tensor:
    return light_convolution(x, kernel, padding_l=kernel.shape[2] // 2)


@pytest.mark.parametrize("kernel_dtype", [torch.float32, None])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [SHAPES[2], SHAPES[5]], ids=str)
def test_half_precision(shape, dtype, kernel_dtype):
    time, batch, channels, heads, size, padding_l = shape
    x = random(time, batch, channels, dtype=dtype)
    kernel = torch.rand(batch, heads, size).softmax(2).to(DEVICE, kernel_dtype or dtype)
    kernel.requires_grad_()
    got = light_convolution(x, kernel, padding_l=padding_l)
    exact = doubles(x, kernel)
    want = expected(*exact, padding_l)
    assert got.dtype == dtype
    assert_close([got], [want], atol=ROUNDING[dtype])
    got, want = projected(got, [x, kernel]), projected(want, exact)
    assert got[1].dtype == kernel.dtype
    assert_close(got[:1], want[:1], atol=ROUNDING[dtype])
    # Products of the input and the output's gradient are exact: only the result is rounded.
    assert_close(got[1:], want[1:], atol=EXACT, rtol=torch.finfo(kernel.dtype).eps)


@pytest.mark.parametrize("dropout", [0.3, 1.0])
@pytest.mark.parametrize("shape", [SHAPES[2], SHAPES[3], (40, 2, 6, 2, 7, 3)], ids=str)
def test_backward_drops_what_forward_dropped(shape, dropout):
    time, batch, channels, heads, size, padding_l = shape
    x, kernel = random(time, batch, channels), random(batch, heads, size)
    torch.manual_seed(5)
    got = light_convolution(x, kernel, padding_l=padding_l, dropout=dropout)
    factors = drawn_taps(shape, dropout, seed=5).nan_to_num()
    exact = doubles(x, kernel)
    want = expected(exact[0], exact[1] * factors, padding_l)
    assert_close([got], [want], atol=1e-5)
    assert_close(projected(got, [x, kernel]), projected(want, exact), atol=3e-5)


def test_dropconnect_draws_for_each_position_sentence_head_and_tap():
    time, size, dropout = 60, 5, 0.25
    factors = drawn_taps((time, 4, 1, 3, size, 2), dropout, seed=1)
    found = factors[~factors.isnan()]
    torch.testing.assert_close(found.unique().cpu(), torch.tensor([0.0, 1 / (1 - dropout)]))
    kept = factors.gt(0).double()[2:-2]  # positions that have every tap
    deviation = (dropout * (1 - dropout) / kept.numel()) ** 0.5
    assert (kept.mean() - (1 - dropout)).abs() < 4 * deviation
    noise = (kept - (1 - dropout)) / (dropout * (1 - dropout)) ** 0.5
    for dim in range(4):  # neighbours in every direction are independent
        several = noise.size(dim)
        for distance in (1, 2):
            ahead = noise.narrow(dim, distance, several - distance)
            together = ahead * noise.narrow(dim, 0, several - distance)
            assert together.mean().abs() < 4 / together.numel() ** 0.5
    along = noise[1:, ..., :-1] * noise[:-1, ..., 1:]  # and those that see the same input
    assert along.mean().abs() < 4 / along.numel() ** 0.5


def test_dropconnect_follows_torchs_seed():
    shape = (12, 2, 1, 2, 5, 2)
    first, again, other = (drawn_taps(shape, 0.5, seed).nan_to_num() for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_draws_nothing_without_dropconnect():
    x, kernel = random(3, 1, 1), random(1, 1, 3)
    state = torch.random.get_rng_state()
    light_convolution(x, kernel, padding_l=1)
    assert torch.equal(state, torch.random.get_rng_state())


def test_strides_do_not_matter():
    x, kernel = random(4, 2, 20), random(5, 2, 2)
    got = light_convolution(x.transpose(0, 2), kernel.transpose(0, 2), padding_l=2)
    exact = doubles(x, kernel)
    want = expected(exact[0].transpose(0, 2), exact[1].transpose(0, 2), 2)
    assert_close([got], [want], atol=1e-5)
    # The gradient of a sum is one number, expanded.
    found = torch.autograd.grad(got.sum(), [x, kernel])
    assert_close(found, torch.autograd.grad(want.sum(), exact), atol=2e-5)


def test_rows_of_a_batch_first_tensor():
    x, kernel = random(2, 9, 6), random(2, 3, 4)
    got = light_convolution(x.transpose(0, 1), kernel, padding_l=3)
    assert_close([got], [expected(*doubles(x.transpose(0, 1), kernel), 3)], atol=1e-5)


@pytest.mark.parametrize("wanted", ["x", "kernel", ""])
def test_computes_only_the_gradients_that_are_wanted(wanted, monkeypatch):
    calls = []
    for name in ("convolve", "multiply_taps"):
        monkeypatch.setattr(operations, name, told(getattr(operations, name), calls))
    x, kernel = random(5, 2, 4), random(1, 2, 3)
    x.requires_grad_(wanted == "x")
    kernel.requires_grad_(wanted == "kernel")
    out = light_convolution(x, kernel, padding_l=1)
    assert out.requires_grad == (wanted != "")
    if wanted:
        out.sum().backward()
    assert calls == ["convolve", *{"x": ["convolve"], "kernel": ["multiply_taps"]}.get(wanted, [])]


@pytest.mark.parametrize(("time", "rows"), [(5, 5), (32, 32), (40, 32), (300, 96)])
def test_gradients_of_taps_take_no_more_rows_than_there_are_positions(time, rows):
    grad, x = random(time, 2, 4).detach(), random(time, 2, 4).detach()
    taps = multiply_taps(grad, x, 2, 3, 1)
    assert taps.shape == (2, 2, rows, 3)
    products = windows(x, 3, 1) * grad.unsqueeze(3)  # T x B x C x K
    want = products.double().unflatten(2, (2, -1)).sum((0, 3))
    assert_close([taps.sum(2)], [want], atol=2e-5)


def test_has_no_second_derivative():
    x, kernel = random(4, 1, 2), random(1, 1, 3)
    for loss in (torch.sum, lambda out: out.square().sum()):
        out = loss(light_convolution(x, kernel, padding_l=1))
        with pytest.raises(RuntimeError, match="no second derivatives .*FAIRSEQ_CGC_PLAIN=1"):
            torch.autograd.grad(out, x, create_graph=True)


@pytest.mark.gpu
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1024, 4, 512, 4, 31, 15), (2048, 2, 512, 16, 63, 62)], ids=str)
def test_long_inputs(shape, dtype, dropout):
    time, batch, channels, heads, size, padding_l = shape
    x = random(time, batch, channels, dtype=dtype)
    kernel = torch.randn(batch, heads, size).softmax(2).to(DEVICE).requires_grad_()
    torch.manual_seed(3)
    got = light_convolution(x, kernel, padding_l=padding_l, dropout=dropout)
    factors = drawn_taps(shape, dropout, seed=3).nan_to_num().double() if dropout else 1.0
    exact = doubles(x, kernel)
    want = expected(exact[0], exact[1] * factors, padding_l)
    assert_close([got], [want], atol=ROUNDING[dtype])
    got, want = projected(got, [x, kernel]), projected(want, exact)
    assert_close(got[:1], want[:1], atol=ROUNDING[dtype])
    assert_close(got[1:], want[1:], atol=2e-2, rtol=1e-4)  # sums of up to a million numbers


@pytest.mark.gpu
def test_more_numbers_than_32_bits_can_count():
    time, batch, channels = 2049, 1024, 1024
    if torch.cuda.mem_get_info()[0] < 20 * 2**30:
        pytest.skip("needs 20 GiB of the GPU's memory")
    x = torch.zeros(time, batch, channels, dtype=torch.bfloat16, device=DEVICE)
    x[:, -1] = torch.randn(time, channels)
    kernel = torch.rand(1, 4, 5, device=DEVICE, requires_grad=True)
    out = light_convolution(x.requires_grad_(), kernel, padding_l=2)
    alone = x.detach()[:, -1:].clone().requires_grad_()
    want = light_convolution(alone, kernel, padding_l=2)
    assert torch.equal(out[:, -1:], want)
    got = torch.autograd.grad(out[:, -1:].float().sum(), [x, kernel])
    want = torch.autograd.grad(want.float().sum(), [alone, kernel])
    assert torch.equal(got[0][:, -1:], want[0])
    torch.testing.assert_close(got[1], want[1], atol=1e-2, rtol=1e-4)
