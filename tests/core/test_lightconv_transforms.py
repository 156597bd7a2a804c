"""CGLightConv and LightConv: second derivatives, forward mode, vmap, tracing and export."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tools import padding_mask
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.autograd.functional import hessian, hvp, jvp

from fairseq_cgc.core import CGLightConv, LightConv, light_convolution, reference
from fairseq_cgc.core.functional import FORCE
from fairseq_cgc.core.plain import FORCE as FORCE_PLAIN
from fairseq_cgc.core.pooling import mask_and_average

KINDS = [LightConv, CGLightConv]


def make(kind: type[LightConv] = CGLightConv, **options: object) -> LightConv:
    return kind(4, 3, 2, bias=True, **options).double()


def batch(time: int = 11) -> tuple[Tensor, Tensor]:
    """T x 2 x 4 and its mask: one sentence is shorter than 3K."""
    return torch.randn(time, 2, 4, dtype=torch.float64), padding_mask([6, time], "left")


def valid(out: Tensor, mask: Tensor) -> Tensor:
    return out.masked_fill(mask.t().unsqueeze(2), 0)


@pytest.fixture(params=["band", "blocked", "plain"])
def _method(request, monkeypatch):
    is_plain = request.param == "plain"
    monkeypatch.setenv(FORCE_PLAIN if is_plain else FORCE, "1" if is_plain else request.param)


@pytest.mark.usefixtures("_method")
@pytest.mark.parametrize("gate_target", ["kernel", "logits"])
def test_second_derivatives_equal_the_references(gate_target):
    conv = make(gate_target=gate_target)
    x, mask = batch()
    v = torch.randn_like(x)

    def derivatives(function: Callable[[Tensor], Tensor], power: int) -> list[Tensor]:
        second = hvp(lambda x: function(x).pow(power).sum(), x, v)[1]
        return [second, jvp(function, x, v)[1]]

    for power in (1, 2):  # for a mere sum, the gradient of the output needs no gradient itself
        got = derivatives(lambda x: valid(conv(x, mask), mask), power)
        want = derivatives(lambda x: reference.cg_light_conv(conv, x, mask), power)
        torch.testing.assert_close(got, want, atol=1e-10, rtol=1e-8)
        assert got[0].abs().max() > 1e-4


@pytest.mark.usefixtures("_method")
@pytest.mark.parametrize("kind", KINDS)
def test_gradgradcheck(kind):
    conv = make(kind)
    x, mask = batch()
    parameters = dict(conv.named_parameters())

    def run(x: Tensor, *values: Tensor) -> Tensor:
        state = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(conv, state, (x, mask))

    inputs = (x.requires_grad_(), *parameters.values())
    assert gradgradcheck(run, inputs, fast_mode=True)


@pytest.mark.usefixtures("_method")
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_convolution_gradgradcheck(dropout):
    x = torch.randn(37, 1, 2, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(1, 2, 5, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, kernel: Tensor) -> Tensor:
        torch.manual_seed(3)
        return light_convolution(x, kernel, dropout=dropout, training=True)

    assert gradgradcheck(run, (x, kernel), fast_mode=True)


def test_masking_and_averaging_gradgradcheck():
    x, mask = batch(7)
    assert gradgradcheck(lambda x: mask_and_average(x, 2, mask), x.requires_grad_())


def test_hessian_by_either_mode():
    conv, (x, mask) = make(), batch(9)

    def loss(x: Tensor) -> Tensor:
        return conv(x, mask).tanh().sum()

    want = hessian(loss, x)
    torch.testing.assert_close(torch.func.hessian(loss)(x), want)
    torch.testing.assert_close(hessian(loss, x, vectorize=True), want)
    assert want.abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("time", [11, 100])
def test_forward_mode(kind, time):
    conv, (x, mask), (v, _) = make(kind), batch(time), batch(time)
    want = jvp(lambda x: conv(x, mask), x, v)[1]  # by two backward passes
    torch.testing.assert_close(torch.func.jvp(lambda x: conv(x, mask), (x,), (v,))[1], want)
    with forward_ad.dual_level():
        out = forward_ad.unpack_dual(conv(forward_ad.make_dual(x, v), mask))
    torch.testing.assert_close(out.tangent, want)


def test_forward_mode_gradcheck_of_the_parameters():
    conv = make()
    x, mask = batch()
    parameters = dict(conv.named_parameters())

    def run(*values: Tensor) -> Tensor:
        state = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(conv, state, (x, mask))

    options = {"check_forward_ad": True, "check_backward_ad": False}
    assert gradcheck(run, tuple(parameters.values()), **options)


@pytest.mark.parametrize("kind", KINDS)
def test_vmap(kind):
    conv, (_, mask) = make(kind), batch()
    x = torch.randn(3, 11, 2, 4, dtype=torch.float64)
    got = torch.func.vmap(lambda x: conv(x, mask))(x)
    torch.testing.assert_close(got, torch.stack([conv(one, mask) for one in x]))
    gradient = torch.func.grad(lambda x: conv(x, mask).square().sum())
    torch.testing.assert_close(
        torch.func.vmap(gradient)(x), torch.stack([gradient(one) for one in x])
    )


def shapes() -> list[tuple[Tensor, Tensor]]:
    """Other batches than the one that is traced: shorter than K, than 3K, many blocks, one row."""
    found = [batch(), batch(6), batch(130)]
    x = torch.randn(40, 3, 4, dtype=torch.float64)
    return [*found, (x, padding_mask([2, 40, 9], "right")), (x[:2, :1], padding_mask([2], "left"))]


def check(conv: LightConv, traced: Callable[..., Tensor], *, with_mask: bool = True) -> None:
    for arguments in shapes():
        arguments = arguments if with_mask else arguments[:1]
        torch.testing.assert_close(traced(*arguments), conv(*arguments))


@pytest.mark.parametrize("kind", KINDS)
def test_jit_trace(kind):
    conv = make(kind)
    x, mask = batch()
    check(conv, torch.jit.trace(conv, (x, mask)))
    check(conv, torch.jit.trace(conv, (x,)), with_mask=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strict", [False, True])
def test_export(kind, strict):
    torch._dynamo.reset()
    time, rows = torch.export.Dim("time", min=2), torch.export.Dim("rows")
    dynamic = ({0: time, 1: rows}, {0: rows, 1: time})
    conv = make(kind)
    program = torch.export.export(conv, batch(), dynamic_shapes=dynamic, strict=strict)
    check(conv, program.module())


@pytest.mark.parametrize("kind", KINDS)
def test_fx_symbolic_trace(kind):
    conv = make(kind)
    traced = torch.fx.symbolic_trace(conv)
    check(conv, traced)
    check(conv, traced, with_mask=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_as_one_graph(kind):
    torch._dynamo.reset()
    conv = make(kind)
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager", dynamic=True)
    check(conv, compiled)
    check(conv, compiled, with_mask=False)
    x, mask = batch()
    x.requires_grad_()
    gradients = [torch.autograd.grad(f(x, mask).square().sum(), x)[0] for f in (compiled, conv)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("dynamo", [True, False])
def test_onnx_export(dynamo, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    conv, path = make().float(), tmp_path / "conv.onnx"
    x, mask = batch()
    if dynamo:
        time, rows = torch.export.Dim("time", min=2), torch.export.Dim("rows")
        options = {"dynamic_shapes": ({0: time, 1: rows}, {0: rows, 1: time})}
    else:
        axes = {"x": {0: "time", 1: "rows"}, "mask": {0: "rows", 1: "time"}}
        options = {"dynamic_axes": axes, "opset_version": 17}
    names = ["x", "mask"]
    torch.onnx.export(conv, (x.float(), mask), path, dynamo=dynamo, input_names=names, **options)
    session = runtime.InferenceSession(path)
    for x, mask in shapes():
        inputs = dict(zip(names, (x.float().numpy(), mask.numpy()), strict=True))
        got = torch.from_numpy(session.run(None, inputs)[0])
        torch.testing.assert_close(got, conv(x.float(), mask))
