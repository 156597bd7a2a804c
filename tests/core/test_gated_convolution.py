import functools
import itertools

import pytest
import torch
from tools import gradients
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from fairseq_cgc.core import gated_convolution as module
from fairseq_cgc.core.gated_convolution import gated_convolution
from fairseq_cgc.core.modulated_kernels import WORKSPACE, sample_kernels
from fairseq_cgc.core.sample_methods import METHODS, Geometry

SAME = Geometry((1, 1), (1, 1), (1, 1), 1)


def arguments(groups=1, dtype=torch.float64, batch=5):
    """x, weight, G1 and G2 of a convolution of 4 to 6 channels."""
    shapes = ((batch, 4, 5, 6), (6, 4 // groups, 3, 3), (batch, 4, 3, 3), (batch, 6, 3, 3))
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def written_out(x, weight, g1, g2, geometry, combine="sum"):
    """By autograd, each sample with its gate, o x c, or with groups a part of it."""
    rows, width = weight.shape[0] // geometry.groups, weight.shape[1]
    outs = []
    for b in range(len(x)):
        one = None if g1 is None else g1[b].unsqueeze(0).expand(weight.shape[0], -1, -1, -1)
        two = None if g2 is None else g2[b].unsqueeze(1).expand(-1, x.shape[1], -1, -1)
        if one is None or two is None:
            logits = one if one is not None else two
        else:
            logits = one + two if combine == "sum" else one * two
        gate = torch.stack(
            [logits[o, o // rows * width :][:width] for o in range(weight.shape[0])]
        ).sigmoid()
        outs.append(F.conv2d(x[b : b + 1], weight * gate, None, *geometry))
    return torch.cat(outs)


@pytest.mark.parametrize(
    "workspace",
    [1, 2 * 4 * 9 * 8, 2 * 6 * 4 * 9 * 8, 2**20],
    ids=["one row", "some rows", "two samples", "all"],
)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("branches", "combine"), [("both", "sum"), ("both", "product"), ("in", "sum"), ("out", "sum")]
)
def test_equals_autograd_for_any_number_of_samples_at_a_time(
    branches, combine, groups, workspace, method, monkeypatch
):
    monkeypatch.setitem(WORKSPACE, "cpu", workspace)
    x, weight, g1, g2 = arguments(groups)
    g1, g2 = g1 if branches != "out" else None, g2 if branches != "in" else None
    inputs = [tensor for tensor in (x, weight, g1, g2) if tensor is not None]
    geometry = Geometry((2, 1), (1, 0), (1, 2), groups)
    got = gated_convolution(x, weight, g1, g2, geometry, combine=combine)
    want = written_out(x, weight, g1, g2, geometry, combine)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))
    kernels = sample_kernels(weight, g1, g2, groups, combine)
    again = METHODS["loop"](x, weight.shape[2:], geometry).forward(kernels)
    torch.testing.assert_close(again, want)


@pytest.mark.parametrize("scale", [10, 35, 100, 1e4])
def test_saturated_gates(scale, method):
    """Branches of opposite signs may be far beyond what their exponentials can represent."""
    x, weight, g1, g2 = arguments(dtype=torch.float32)
    with torch.no_grad():
        g1 *= scale / g1.abs().max()
        g2 *= -scale / g2.abs().max()
        g2[0], g2[1] = -g1[0, 0] + 1, -g1[1, 0]  # in the middle
    inputs = [x, weight, g1, g2]
    doubles = [tensor.detach().double().requires_grad_() for tensor in inputs]
    got, want = gated_convolution(*inputs, SAME), gated_convolution(*doubles, SAME)
    found = [got, *gradients(got, inputs)]
    expected = [want, *gradients(want, doubles)]
    expected = [tensor.float() for tensor in expected]
    torch.testing.assert_close(found, expected, atol=1e-4 * scale, rtol=1e-4)


def test_gradcheck(method):
    shapes = ((2, 2, 3, 4), (3, 2, 2, 3), (2, 2, 2, 3), (2, 3, 2, 3))
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    for combine in ("sum", "product"):
        assert torch.autograd.gradcheck(
            functools.partial(gated_convolution, geometry=SAME, combine=combine), inputs
        )


# Which of x, weight, G1 and G2 need a gradient, and which branches exist.
NEEDS = [n for n in itertools.product([False, True], repeat=4) if any(n)]


@pytest.mark.parametrize("branches", ["both", "in", "out"])
@pytest.mark.parametrize("needs", NEEDS, ids=str)
def test_computes_only_the_gradients_that_are_needed(needs, branches):
    inputs = arguments()
    inputs[2] = None if branches == "out" else inputs[2]
    inputs[3] = None if branches == "in" else inputs[3]
    for tensor, needed in zip(inputs, needs, strict=True):
        if tensor is not None:
            tensor.requires_grad_(needed)
    wanted = [tensor for tensor in inputs if tensor is not None and tensor.requires_grad]
    if not wanted:
        return
    got = gradients(gated_convolution(*inputs, SAME), wanted)
    torch.testing.assert_close(got, gradients(written_out(*inputs, SAME), wanted))


def test_torchs_own_checks_of_an_operation():
    x, weight, g1, g2 = arguments(batch=2)
    for one in (x, x.detach()):
        torch.library.opcheck(module._operation, (one, weight, g1, None, "sum", *SAME))
    torch.library.opcheck(module._operation, (x, weight, g1, g2, "product", *SAME))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sums_over_samples_in_float32(dtype, method, monkeypatch):
    monkeypatch.setitem(WORKSPACE, "cpu", 1)  # one sample at a time
    inputs = [tensor.detach().to(dtype) for tensor in arguments(batch=300)]
    inputs[0].abs_()  # so that the sum over samples grows
    half = [tensor.requires_grad_() for tensor in inputs]
    full = [tensor.detach().float().requires_grad_() for tensor in inputs]
    got, want = gated_convolution(*half, SAME), gated_convolution(*full, SAME)
    assert got.dtype == dtype
    epsilon = torch.finfo(dtype).eps
    torch.testing.assert_close(got.float(), want, atol=8 * epsilon, rtol=4 * epsilon)
    grad = torch.ones_like(got)
    got = torch.autograd.grad(got, half[1], grad)[0].float()
    want = torch.autograd.grad(want, full[1], grad.float())[0]
    # Summed in half precision, the error would grow with the samples.
    assert (got - want).abs().max() < 4 * epsilon * want.abs().max()


class _Largest(TorchDispatchMode):
    """The number of bytes of the largest tensor created."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return out


def test_no_tensor_of_all_kernels_or_columns(method):
    """The kernels of 64 samples take 37.7 MB, the columns 7.5 MB, x 0.8 MB."""
    x, weight = torch.randn(64, 64, 7, 7), torch.randn(256, 64, 3, 3)
    g1, g2 = torch.randn(64, 64, 3, 3), torch.randn(64, 256, 3, 3)
    operation, backward = module._operation._init_fn, module._backward_operation._init_fn
    with torch.no_grad(), _Largest() as largest:
        out = operation(x, weight, g1, g2, "sum", *SAME)
        backward(torch.ones_like(out), x, weight, g1, g2, "sum", *SAME, True)
    assert largest.bytes <= max(WORKSPACE["cpu"], out.nbytes)


def test_what_is_kept_for_the_backward_pass_is_small():
    kept = []
    inputs = arguments()

    def pack(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        gated_convolution(*inputs, SAME)
    assert len(kept) == 4
    assert all(a is b or a.data_ptr() == b.data_ptr() for a, b in zip(kept, inputs, strict=True))


def test_counted_as_a_convolution():
    inputs = arguments()
    x, weight = inputs[:2]
    with FlopCounterMode(display=False) as plain:
        F.conv2d(x, weight, None, 1, 1).sum().backward()
    with FlopCounterMode(display=False) as ours:
        gated_convolution(*inputs, SAME).sum().backward()
    assert ours.get_total_flops() == plain.get_total_flops() > 0


@pytest.mark.parametrize("which", ["x", "weight", "neither"])
def test_channels_last_where_torch_has_it(which, method):
    x, weight, g1, g2 = arguments()
    want = gated_convolution(x, weight, g1, g2, SAME)
    if which == "x":
        x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    elif which == "weight":
        weight = weight.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    got = gated_convolution(x, weight, g1, g2, SAME)
    assert got.stride() == F.conv2d(x, weight, None, 1, 1).stride()
    torch.testing.assert_close(got, want)
    got.sum().backward()
    assert x.grad.stride() == x.stride() and weight.grad.stride() == weight.stride()


@pytest.mark.parametrize(("groups", "outputs"), [(1, 6), (1, 1), (2, 6)])
def test_gradients_do_not_depend_on_the_layout(groups, outputs, method):
    x, weight, g1, g2 = arguments(groups)
    inputs = [x, weight[:outputs].detach().requires_grad_(), g1, g2[:, :outputs].detach()]
    inputs[3].requires_grad_()
    last = [x.detach().contiguous(memory_format=torch.channels_last) for x in inputs]
    found = [
        gradients(gated_convolution(*tensors, SAME._replace(groups=groups)), tensors)
        for tensors in (inputs, [x.requires_grad_() for x in last])
    ]
    torch.testing.assert_close(found[1], found[0], check_stride=False)


@pytest.mark.parametrize(("depth", "width"), [(1, 3), (2, 3), (3, 5), (4, 5)])
def test_bfloat16_volumes_smaller_than_the_kernel(depth, width):
    """torch 2.13 returns wrong gradients of such a kernel on a CPU, or crashes."""
    padding = width // 2
    geometry = Geometry((1, 1, 1), (padding, 1, 1), (1, 1, 1), 1)
    shapes = ((2, 16, depth, 4, 4), (16, 16, width, 3, 3), (2, 16, width, 3, 3))
    inputs = [torch.randn(shape).bfloat16().requires_grad_() for shape in shapes]
    full = [tensor.detach().float().requires_grad_() for tensor in inputs]
    found = [
        gradients(gated_convolution(*tensors, None, geometry).float(), tensors)
        for tensors in (inputs, full)
    ]
    for got, want in zip(*found, strict=True):
        assert (got - want).abs().max() < 0.05 * want.abs().max()
