import logging

import pytest
import torch
from torch.nn import functional as F

from fairseq_cgc.core import UserError, sample_convolution
from fairseq_cgc.core.sample_convolution import FORCE, choose_method
from fairseq_cgc.core.sample_methods import METHODS, Geometry

# Input's size, kernel's, stride, padding, dilation, groups.
CASES = [
    ((9,), (3,), (1,), (1,), (1,), 1),
    ((8,), (4,), (3,), (2,), (2,), 2),
    ((7, 9), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((7, 6), (3, 2), (2, 1), (0, 3), (1, 2), 1),
    ((5, 5), (1, 3), (2, 2), (1, 0), (1, 1), 2),
    ((3, 2), (3, 2), (1, 1), (0, 0), (1, 1), 6),
    ((4, 5, 6), (2, 3, 3), (1, 2, 1), (0, 1, 2), (1, 1, 2), 1),
    ((3, 3, 3), (3, 1, 2), (1, 1, 1), (1, 0, 0), (1, 1, 1), 3),
]
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_equals_torchs_convolution_of_each_sample(method, case, samples):
    size, kernel_size, *numbers, groups = case
    geometry = Geometry(*numbers, groups)
    x = torch.randn(samples, 6, *size, dtype=torch.float64, requires_grad=True)
    shape = (samples, 12, 6 // groups, *kernel_size)
    kernels = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    convolve = CONVOLUTIONS[len(size)]
    want = torch.cat([convolve(x[i : i + 1], kernels[i], None, *geometry) for i in range(samples)])
    convolution = METHODS[method](x.detach(), kernel_size, geometry)
    torch.testing.assert_close(convolution.forward(kernels.detach()), want.detach())
    assert geometry.output_size(size, kernel_size) == list(want.shape[2:])
    grad = torch.randn_like(want)
    of_x, of_kernels = torch.autograd.grad(want, [x, kernels], grad)
    got = [convolution.backward_x(grad, kernels.detach())]
    got.append(convolution.backward_kernels(grad, kernels.detach()))
    torch.testing.assert_close(got, [of_x, of_kernels])


@pytest.mark.parametrize("method", METHODS)
def test_any_layout_of_memory(method):
    """Sliced and transposed inputs, a gradient that is one number everywhere."""
    x = torch.randn(6, 5, 4, 8)[:, 1:].permute(2, 1, 0, 3)[:3]  # 3 x 4 x 6 x 8
    kernels = torch.randn(3, 4, 3, 5, 3).transpose(2, 3)[:, :, 1:]
    grad = torch.ones(1).expand(3, 4, 6, 8)
    geometry = Geometry((1, 1), (1, 1), (1, 1), 1)
    want = METHODS["loop"](x.contiguous(), (3, 3), geometry)
    dense = grad.contiguous(), kernels.contiguous()
    for memory_format in (torch.preserve_format, torch.channels_last):
        got = METHODS[method](x.clone(memory_format=memory_format), (3, 3), geometry)
        torch.testing.assert_close(
            [
                got.forward(kernels),
                got.backward_x(grad, kernels),
                got.backward_kernels(grad, kernels),
            ],
            [want.forward(dense[1]), want.backward_x(*dense), want.backward_kernels(*dense)],
            atol=2e-5,
            rtol=1e-4,
        )


@pytest.mark.parametrize("method", METHODS)
def test_some_output_channels_of_each_group(method):
    geometry = Geometry((1, 2), (1, 0), (1, 1), 2)
    x, kernels = torch.randn(2, 4, 5, 6), torch.randn(2, 6, 2, 3, 3)
    convolution = METHODS[method](x, (3, 3), geometry)
    out, some = convolution.forward(kernels), [1, 2, 4, 5]
    torch.testing.assert_close(convolution.forward(kernels[:, some]), out[:, some])
    grad = torch.randn_like(out)
    torch.testing.assert_close(
        convolution.backward_kernels(grad[:, some], kernels[:, some]),
        convolution.backward_kernels(grad, kernels)[:, some],
    )


@pytest.mark.parametrize(
    ("x", "weight", "stride", "method"),
    [
        ((8, 3, 224, 224), (64, 3, 7, 7), 2, "loop"),
        ((8, 64, 56, 56), (64, 1, 3, 3), 1, "loop"),  # depthwise
        ((8, 64, 56, 56), (64, 64, 3, 3), 1, "grouped"),
        ((8, 512, 16, 17), (512, 512, 3, 3), 1, "grouped"),
        ((8, 512, 16, 16), (512, 512, 3, 3), 1, "unfold"),
        ((8, 512, 28, 28), (512, 512, 3, 3), 2, "unfold"),
        ((8, 64, 8, 8), (64, 64, 3, 3), 1, "grouped"),
    ],
)
def test_chosen_by_the_shape(x, weight, stride, method, monkeypatch):
    monkeypatch.delenv(FORCE, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    side = weight[2] // 2
    geometry = Geometry((stride, stride), (side, side), (1, 1), x[1] // weight[1])
    assert choose_method(torch.empty(x), weight, geometry) == method
    last = torch.empty(x, memory_format=torch.channels_last)
    assert choose_method(last, weight, geometry) == ("loop" if method == "grouped" else method)
    few_weights = torch.empty(2, 16, 9, 9, memory_format=torch.channels_last)
    assert choose_method(few_weights, (16, 16, 3, 3), geometry) == "grouped"
    on_another_device = torch.empty(x, device="meta")
    assert choose_method(on_another_device, weight, geometry) == "grouped"


@pytest.mark.parametrize(
    ("dtype", "channels", "method"),
    [
        (torch.float32, 512, "grouped"),
        (torch.bfloat16, 512, "unfold"),
        (torch.bfloat16, 256, "grouped"),
    ],
)
def test_chosen_for_several_threads(dtype, channels, method, monkeypatch):
    monkeypatch.delenv(FORCE, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    geometry = Geometry((1, 1), (1, 1), (1, 1), 1)
    x = torch.empty(8, channels, 7, 7, dtype=dtype)
    assert choose_method(x, (channels, channels, 3, 3), geometry) == method


@pytest.mark.parametrize("method", METHODS)
def test_forced_and_logged_once(method, monkeypatch, caplog):
    monkeypatch.setenv(FORCE, method)
    sample_convolution._log_method.cache_clear()
    geometry = Geometry((1,), (1,), (1,), 1)
    with caplog.at_level(logging.DEBUG, logger=sample_convolution.__name__):
        for size in (4, 9):
            assert choose_method(torch.ones(1, 1, size), (1, 1, 3), geometry) == method
    assert [record.message for record in caplog.records] == [
        f"convolution with a kernel for each sample: {method} (forced by {FORCE})"
    ]


def test_wrong_method_is_refused(monkeypatch):
    monkeypatch.setenv(FORCE, "fft")
    message = "FAIRSEQ_CGC_CONV is 'fft', but must be loop or grouped or unfold"
    with pytest.raises(UserError, match=message):
        choose_method(torch.ones(1, 1, 4), (1, 1, 3), Geometry((1,), (1,), (1,), 1))


def test_input_smaller_than_the_kernel_is_refused():
    with pytest.raises(UserError, match="a dimension of 3 padded by 0 is smaller than 3 taps"):
        Geometry((1, 1), (1, 0), (1, 2), 1).output_size((3, 3), (3, 3))
