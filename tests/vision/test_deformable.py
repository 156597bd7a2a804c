import sys
from types import SimpleNamespace

import pytest
import torch
from tools import gradients
from torch import nn

from fairseq_cgc.vision.deformable import ModulatedDeformConv2d, deform_conv2d

SHAPES = [
    # kernel, stride, padding, dilation, map
    ((3, 3), (1, 1), (1, 1), (1, 1), (6, 7)),
    ((3, 2), (2, 1), (0, 2), (1, 2), (9, 5)),
    ((1, 1), (1, 1), (0, 0), (1, 1), (1, 4)),
]


def arguments(kernel, stride, padding, dilation, size):
    """Input, offsets, weight, bias, the three numbers and modulation, float64."""
    double = {"dtype": torch.float64}
    x = torch.randn(2, 3, *size, **double)
    weight, bias = torch.randn(4, 3, *kernel, **double), torch.randn(4, **double)
    out = nn.functional.conv2d(x, weight, bias, stride, padding, dilation)
    positions = kernel[0] * kernel[1]
    offsets = torch.randn(2, 2 * positions, *out.shape[2:], **double)
    modulation = torch.rand(2, positions, *out.shape[2:], **double)
    return x, offsets, weight, bias, stride, padding, dilation, modulation


def value(image, row, column):
    """Bilinear interpolation of c x H x W, zero outside."""
    total = torch.zeros_like(image[:, 0, 0])
    top, left = int(row // 1), int(column // 1)
    for i in (top, top + 1):
        for j in (left, left + 1):
            if 0 <= i < image.shape[1] and 0 <= j < image.shape[2]:
                total = total + image[:, i, j] * (1 - abs(row - i)) * (1 - abs(column - j))
    return total


def by_definition(x, offsets, weight, bias, stride, padding, dilation, modulation):
    """Equation 1, output by output."""
    out = torch.zeros(len(x), len(weight), *modulation.shape[2:], dtype=x.dtype)
    columns = weight.shape[3]
    for b, image in enumerate(x):
        for i in range(out.shape[2]):
            for j in range(out.shape[3]):
                total = bias
                for k in range(modulation.shape[1]):
                    row = i * stride[0] - padding[0] + k // columns * dilation[0]
                    column = j * stride[1] - padding[1] + k % columns * dilation[1]
                    row = row + offsets[b, 2 * k, i, j]
                    column = column + offsets[b, 2 * k + 1, i, j]
                    sample = value(image, row, column) * modulation[b, k, i, j]
                    total = total + weight[:, :, k // columns, k % columns] @ sample
                out[b, :, i, j] = total
    return out


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_definition_in_outputs_and_gradients(shape):
    args = arguments(*shape)
    inputs = [a.requires_grad_() for a in args if isinstance(a, torch.Tensor)]
    got, want = deform_conv2d(*args), by_definition(*args)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_without_offsets_it_is_a_convolution(shape):
    x, offsets, weight, bias, *numbers, modulation = arguments(*shape)
    inputs = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    got = deform_conv2d(
        x, torch.zeros_like(offsets), weight, bias, *numbers, torch.ones_like(modulation)
    )
    want = nn.functional.conv2d(x, weight, bias, *numbers)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))


@pytest.mark.parametrize(("down", "right"), [(1, 0), (0, -2), (-3, 2), (9, 0)])
def test_whole_offsets_shift_the_input(down, right):
    x, offsets, weight, bias, *numbers, modulation = arguments(*SHAPES[0])
    offsets = torch.tensor([down, right], dtype=x.dtype).repeat(9)[None, :, None, None]
    got = deform_conv2d(
        x, offsets.expand(2, -1, 6, 7), weight, bias, *numbers, torch.ones_like(modulation)
    )
    # Beyond the padding lie further zeros, which a shifted sample may reach.
    margin = 10
    padded = nn.functional.pad(x, [margin] * 4)
    want = nn.functional.conv2d(padded.roll((-down, -right), (2, 3)), weight, bias, padding=1)
    torch.testing.assert_close(got, want[:, :, margin:-margin, margin:-margin])


def test_gradcheck():
    x, offsets, weight, bias, *numbers, modulation = arguments(
        (2, 2), (1, 1), (1, 1), (1, 1), (3, 4)
    )

    def run(x, offsets, weight, bias, modulation):
        return deform_conv2d(x, offsets, weight, bias, *numbers, modulation)

    inputs = [t.requires_grad_() for t in (x, offsets, weight, bias, modulation)]
    assert torch.autograd.gradcheck(run, inputs)


def test_module_starts_with_no_offsets_and_half_the_modulation():
    module = ModulatedDeformConv2d(3, 4, 3, stride=2, padding=2, dilation=2)
    x = torch.randn(2, 3, 8, 9)
    plain = nn.functional.conv2d(x, module.weight, None, 2, 2, 2)
    want = plain / 2 + module.bias[:, None, None]
    torch.testing.assert_close(module(x), want, atol=1e-5, rtol=1e-5)


def test_every_parameter_of_the_module_has_a_gradient():
    module = ModulatedDeformConv2d(3, 4, 3, padding=1)
    module(torch.randn(2, 3, 6, 6)).square().sum().backward()
    without = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_places_keep_their_digits_in_half_precision():
    module = ModulatedDeformConv2d(3, 4, 3, padding=1).bfloat16()
    module.offset.bias.data[0:18:2] = 1 / 3
    x = torch.randn(1, 3, 4, 300).bfloat16()
    got, want = module(x).float(), module.float()(x.float())
    torch.testing.assert_close(got, want, atol=4e-2, rtol=4e-2)


def test_torchvisions_operator_is_used_where_it_can_be_imported(monkeypatch):
    calls = []

    def operator(input, offset, weight, bias=None, stride=1, padding=0, dilation=1, mask=None):
        calls.append((stride, padding, dilation))
        return deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask)

    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchvision.ops", SimpleNamespace(deform_conv2d=operator))
    module = ModulatedDeformConv2d(3, 4, 3, stride=2, padding=1, dilation=1)
    module(torch.randn(1, 3, 5, 5))
    module.to("meta")(torch.empty(1, 3, 5, 5, device="meta"))
    assert calls == [((2, 2), (1, 1), (1, 1))]


def test_a_broken_torchvision_is_as_good_as_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.ops", None)
    assert ModulatedDeformConv2d(3, 4, 3)(torch.randn(1, 3, 5, 5)).shape == (1, 4, 3, 3)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_torchvision(shape):
    ops = pytest.importorskip("torchvision.ops", exc_type=(ImportError, RuntimeError))
    args = arguments(*shape)
    torch.testing.assert_close(deform_conv2d(*args), ops.deform_conv2d(*args))
