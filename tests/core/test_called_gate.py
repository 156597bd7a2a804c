"""Hooks on a convolution's gate, pruning of its parameters, and other modules in its place."""

import copy

import pytest
import torch
from tools import gradients
from torch import nn
from torch.nn.utils import parametrize, prune

from fairseq_cgc.core import CGConv1d, CGConv2d, CGConv3d, ContextGate, UserError
from fairseq_cgc.core.sample_convolution import FORCE
from fairseq_cgc.core.sample_methods import METHODS

GATED = {1: CGConv1d, 2: CGConv2d, 3: CGConv3d}
CASES = [
    (1, {"padding": 1}),
    (2, {"padding": 1, "groups": 2, "stride": 2}),
    (2, {"padding": 1, "branches": "in", "bias": False}),
    (2, {"groups": 4, "branches": "out"}),
    (3, {"combine": "product"}),
]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    dims, options = request.param
    x = torch.randn(3, 4, *[5, 6, 4][:dims], dtype=torch.float64, requires_grad=True)
    return GATED[dims](4, 8, 3, **options).double(), x


def convolved(conv, x, gate):
    """The definition, by torch's convolution for each sample; gate is B x o x c x kernel."""
    rows, width = conv.out_channels // conv.groups, conv.in_channels // conv.groups
    plain = getattr(nn.functional, f"conv{len(conv.kernel_size)}d")
    outs = []
    for one, of_one in zip(x, gate, strict=True):
        parts = [of_one[o, o // rows * width :][:width] for o in range(conv.out_channels)]
        kernel = conv.weight * torch.stack(parts)
        outs.append(plain(one, kernel, conv.bias, conv.stride, conv.padding, 1, conv.groups))
    return torch.stack(outs)


@pytest.mark.parametrize("method", METHODS)
def test_a_hook_that_only_looks_changes_nothing(case, method, monkeypatch):
    monkeypatch.setenv(FORCE, method)
    conv, x = case
    inputs = [x, *conv.parameters()]
    want = conv(x)
    seen = []
    handle = conv.gate.register_forward_hook(lambda *call: seen.append(call))
    got = conv(x)
    ((_, (of_gate,), gate),) = seen
    assert of_gate is x and gate.shape == (3, 8, 4, *conv.kernel_size)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))
    torch.testing.assert_close(got, convolved(conv, x, gate))
    kernels = conv.sample_kernels(x)
    handle.remove()
    torch.testing.assert_close(conv.sample_kernels(x), kernels)
    conv(x)
    assert len(seen) == 2


def test_a_hook_changes_the_gate(case):
    conv, x = case
    gate = conv.gate(x)
    conv.gate.register_forward_hook(lambda module, inputs, gate: gate * gate)
    torch.testing.assert_close(conv(x), convolved(conv, x, gate * gate))


def test_a_hook_changes_what_the_gate_is_given(case):
    conv, x = case
    gate = conv.gate(x + 1)
    conv.gate.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    torch.testing.assert_close(conv(x), convolved(conv, x, gate))


@pytest.mark.parametrize("when", ["", "pre_"])
def test_a_hook_changes_gradients(case, when):
    conv, x = case
    with torch.no_grad():
        gate = copy.deepcopy(conv).gate(x)
    (want,) = torch.autograd.grad(convolved(conv, x, gate).sum(), x)

    def none(module, grads, *others):
        return tuple(torch.zeros_like(grad) for grad in grads)

    getattr(conv.gate, f"register_full_backward_{when}hook")(none)
    conv(x).sum().backward()
    torch.testing.assert_close(x.grad, want)  # as if the gate did not depend on x
    assert conv.gate.encoder.grad.any() == (when == "")


def test_a_hook_on_all_modules_sees_the_gate(case):
    conv, x = case
    seen = []
    handle = nn.modules.module.register_module_forward_hook(lambda m, i, o: seen.append(m))
    try:
        conv(x)
    finally:
        handle.remove()
    assert conv.gate in seen


def test_pruning_and_parametrisation(case):
    conv, x = case
    twin = copy.deepcopy(conv)
    prune.l1_unstructured(conv.gate, "encoder", 0.5)
    with torch.no_grad():
        twin.gate.encoder.mul_(conv.gate.encoder_mask)
    torch.testing.assert_close(conv(x), twin(x))
    conv(x).sum().backward()
    with torch.no_grad():  # the mask is applied at each call
        conv.gate.encoder_orig.add_(1)
        twin.gate.encoder.add_(1).mul_(conv.gate.encoder_mask)
    torch.testing.assert_close(conv(x), twin(x))
    prune.remove(conv.gate, "encoder")
    torch.testing.assert_close(conv(x), twin(x))
    twice = nn.Module()
    twice.forward = lambda tensor: 2 * tensor
    parametrize.register_parametrization(conv.gate, "encoder", twice)
    with torch.no_grad():
        twin.gate.encoder.mul_(2)
    torch.testing.assert_close(conv(x), twin(x))


class Ones(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.new_ones(len(x), *self.shape)


class Halved(ContextGate):
    def forward(self, x):
        return super().forward(x) / 2


def test_another_module_in_the_gates_place(case):
    conv, x = case
    plain = [nn.Conv1d, nn.Conv2d, nn.Conv3d][len(conv.kernel_size) - 1](
        4, 8, 3, conv.stride, conv.padding, 1, conv.groups, conv.bias is not None
    )
    plain = plain.double()
    plain.load_state_dict(conv.state_dict(), strict=False)
    conv.gate = Ones(8, 4, *conv.kernel_size)
    got, want = conv(x), plain(x)
    torch.testing.assert_close(got, want)
    inputs = ([x, *conv.parameters()], [x, *plain.parameters()])
    torch.testing.assert_close(gradients(got, inputs[0]), gradients(want, inputs[1]))
    torch.testing.assert_close(conv(x[0]), plain(x[0]))
    conv.gate = Halved(4, 8, conv.kernel_size).double()
    torch.testing.assert_close(conv(x), convolved(conv, x, conv.gate(x)))
    conv.gate = Ones(8, 1, *conv.kernel_size)
    with pytest.raises(UserError, match="the gate must be B x 8 x 4 x 3"):
        conv(x)


def test_called_under_autocast_and_compiled_and_transformed():
    conv = CGConv2d(4, 6, 3, padding=1).eval()
    x = torch.randn(2, 4, 7, 6)
    twin = copy.deepcopy(conv)
    conv.gate.register_forward_hook(lambda module, inputs, gate: gate + 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = conv(x)
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got, twin(x), atol=4e-2, rtol=2e-2)
    half = copy.deepcopy(conv).bfloat16()(x.bfloat16())
    torch.testing.assert_close(half.float(), twin(x), atol=4e-2, rtol=2e-2)
    torch._dynamo.reset()
    compiled = torch.compile(conv, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), twin(x))
    torch.testing.assert_close(torch.func.jvp(conv, (x,), (x,)), torch.func.jvp(twin, (x,), (x,)))
    torch.testing.assert_close(torch.fx.symbolic_trace(conv)(x), twin(x))
