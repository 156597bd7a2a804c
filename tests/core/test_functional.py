import pytest
import torch
from conftest import TOLERANCE, gradients

from fairseq_cgc.core import light_convolution, reference

# T, B, C, H, K: one position, shorter than the kernel, shorter than three kernels, one head.
SHAPES = [(1, 2, 4, 2, 7), (3, 2, 4, 1, 7), (6, 1, 6, 3, 5), (12, 3, 4, 2, 3), (9, 2, 4, 4, 1)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("own_kernels", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_reference_in_outputs_and_gradients(shape, own_kernels, dtype):
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


def test_gradcheck():
    x = torch.randn(6, 2, 4, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(2, 2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(light_convolution, (x, kernel))


def test_bfloat16_is_close_to_float32():
    x, kernel = torch.randn(20, 3, 8), torch.rand(3, 2, 5)
    got = light_convolution(x.bfloat16(), kernel.bfloat16())
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(
        got.float(), light_convolution(x, kernel), atol=TOLERANCE[torch.bfloat16], rtol=2e-2
    )


def test_dropconnect_is_drawn_per_position_and_off_in_evaluation():
    x, kernel = torch.ones(50, 1, 1), torch.ones(1, 1, 1)
    dropped = light_convolution(x, kernel, dropout=0.5, training=True).flatten()
    assert set(dropped.tolist()) == {0.0, 2.0}
    assert torch.equal(light_convolution(x, kernel, dropout=0.5), x)
