"""Transforms, traces and exports of a convolution get plain operations with the same result."""

import io

import pytest
import torch
from torch.autograd import forward_ad
from torch.autograd.functional import hessian, hvp
from torch.fx.experimental.proxy_tensor import make_fx

from fairseq_cgc.core import CGConv1d, CGConv2d, CGConv3d, reference
from fairseq_cgc.core.gated_convolution import gated_convolution
from fairseq_cgc.core.plain import FORCE
from fairseq_cgc.core.sample_methods import Geometry

GATED = {1: CGConv1d, 2: CGConv2d, 3: CGConv3d}
CASES = [
    (1, {"padding": 1}),
    (1, {"stride": 2, "groups": 2, "pool": "max"}),
    (2, {"padding": 1, "combine": "product"}),
    (2, {"padding": "same", "dilation": (1, 2), "padding_mode": "circular", "norm": "layer"}),
    (2, {"padding": 1, "stride": 2, "groups": 2, "branches": "in"}),
    (3, {"branches": "out", "bias": False, "pool": "max"}),
    (3, {"padding": (1, 0, 1), "stride": (1, 2, 1), "groups": 2}),
]


def make(dims, options):
    """A convolution, a batch of 2 for it, and a batch of 3 with another size."""
    conv = GATED[dims](4, 6, 3, **options).double().eval()
    x = torch.randn(2, 4, *[5, 7, 9][:dims], dtype=torch.float64)
    return conv, x, torch.randn(3, 4, *[7, 6, 5][:dims], dtype=torch.float64)


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return make(*request.param)


@pytest.fixture(params=CASES[1::2], ids=str)
def traced(request):  # tracing takes seconds
    return make(*request.param)


def by_forward_ad(function, x, v):
    with forward_ad.dual_level():
        return tuple(forward_ad.unpack_dual(function(forward_ad.make_dual(x, v))))


def test_forward_mode_derivatives_equal_the_references(case):
    conv, x, _ = case
    v = torch.randn_like(x)

    def written_out(x):
        return reference.cg_convolution(conv, x)

    want = by_forward_ad(written_out, x, v)
    torch.testing.assert_close(torch.func.jvp(conv, (x,), (v,)), want)
    torch.testing.assert_close(by_forward_ad(conv.train(), x, v), by_forward_ad(written_out, x, v))
    parameters = {name: p.detach() for name, p in conv.eval().named_parameters()}
    tangents = {name: torch.randn_like(p) for name, p in parameters.items()}

    def of_parameters(parameters):
        return torch.func.functional_call(conv, parameters, (x,))

    _, got = torch.func.jvp(of_parameters, (parameters,), (tangents,))
    moved = {name: p + 1e-6 * tangents[name] for name, p in parameters.items()}
    want = (of_parameters(moved) - of_parameters(parameters)) / 1e-6
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("training", [False, True])
def test_second_derivatives_equal_the_references(case, training):
    conv, x, _ = case
    conv.train(training)
    v = torch.randn_like(x)

    def loss(convolve):
        return lambda x: convolve(x).square().sum()

    def written_out(x):
        return reference.cg_convolution(conv, x)

    torch.testing.assert_close(hvp(loss(conv), x, v), hvp(loss(written_out), x, v))
    inputs = [x.requires_grad_(), *conv.parameters()]
    seconds = []
    for convolve in (conv, written_out):
        firsts = torch.autograd.grad(loss(convolve)(x), inputs, create_graph=True)
        seconds.append(torch.autograd.grad(sum(g.square().sum() for g in firsts), inputs))
    torch.testing.assert_close(*seconds)


def test_hessians_and_jacobians():
    conv = CGConv1d(2, 3, 3, padding=1).double().eval()
    x = torch.randn(2, 2, 4, dtype=torch.float64)

    def loss(x):
        return conv(x).square().sum()

    want = hessian(lambda x: reference.cg_convolution(conv, x).square().sum(), x)
    torch.testing.assert_close(hessian(loss, x), want)
    torch.testing.assert_close(hessian(loss, x, vectorize=True), want)
    torch.testing.assert_close(torch.func.hessian(loss)(x), want)
    want = torch.autograd.functional.jacobian(conv, x)
    torch.testing.assert_close(torch.autograd.functional.jacobian(conv, x, vectorize=True), want)
    torch.testing.assert_close(torch.func.jacfwd(conv)(x), want)


def test_second_derivatives_of_the_operation_itself():
    shapes = ((2, 2, 3, 4), (3, 2, 2, 3), (2, 2, 2, 3), (2, 3, 2, 3))
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    geometry = Geometry((1, 1), (1, 1), (1, 1), 1)
    assert torch.autograd.gradgradcheck(lambda *i: gated_convolution(*i, geometry), inputs)
    assert torch.autograd.gradcheck(
        lambda *i: gated_convolution(*i, geometry), inputs, check_forward_ad=True
    )


def test_maps_over_samples_and_batches(case):
    conv, x, _ = case
    torch.testing.assert_close(torch.func.vmap(conv)(x), conv(x))
    torch.testing.assert_close(torch.func.vmap(conv)(x.unsqueeze(0)), conv(x).unsqueeze(0))
    (want,) = torch.autograd.grad(conv(x.requires_grad_()).square().sum(), x)
    of_samples = torch.func.vmap(torch.func.grad(lambda x: conv(x).square().sum()))
    torch.testing.assert_close(of_samples(x.detach()), want)


def test_plain_by_argument_and_variable(case, monkeypatch):
    conv, x, _ = case
    inputs = [x.requires_grad_(), *conv.parameters()]
    want = conv(x)
    want = want, torch.autograd.grad(want.square().sum(), inputs)
    names = set()
    for switch in ("argument", "variable"):
        conv.plain = switch == "argument"
        if switch == "variable":
            monkeypatch.setenv(FORCE, "1")
        got = conv(x)
        names |= operations(got.grad_fn)
        torch.testing.assert_close((got, torch.autograd.grad(got.square().sum(), inputs)), want)
    assert not any("fairseq_cgc" in name or "gated" in name.lower() for name in names)


def operations(node):
    if node is None:
        return set()
    return {node.name()}.union(*(operations(parent) for parent, _ in node.next_functions))


@pytest.mark.parametrize("training", [False, True])
def test_traced_symbolically(case, training):
    conv, _, other = case
    conv.train(training)
    graph = torch.fx.symbolic_trace(conv)
    assert "fairseq_cgc." not in graph.code
    torch.testing.assert_close(graph(other), conv(other))
    got, want = graph(other), conv(other)
    names = [name for name, _ in conv.named_parameters()]
    torch.testing.assert_close(
        torch.autograd.grad(got.sum(), [graph.get_parameter(name) for name in names]),
        torch.autograd.grad(want.sum(), [conv.get_parameter(name) for name in names]),
    )


def test_traced_for_other_sizes(traced):
    conv, x, other = traced
    script = torch.jit.trace(conv, (x,))
    assert "fairseq_cgc::" not in str(script.inlined_graph)
    torch.testing.assert_close(script(other), conv(other))
    graph = make_fx(conv, tracing_mode="symbolic", _allow_non_fake_inputs=True)(x)
    torch.testing.assert_close(graph(other), conv(other))


def test_exported_for_other_sizes(traced):
    conv, x, other = traced
    sizes = {dim: torch.export.Dim.DYNAMIC for dim in range(x.dim()) if dim != 1}
    program = torch.export.export(conv, (x,), dynamic_shapes=(sizes,))
    assert "fairseq_cgc." not in program.graph_module.code
    torch.testing.assert_close(program.module()(other), conv(other))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [False, True])
def test_exported_to_onnx(traced, dynamo):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    conv, x, other = traced
    conv, x, other = conv.float(), x.float(), other.float()
    sizes = [dim for dim in range(x.dim()) if dim != 1]
    file = io.BytesIO()
    if dynamo:
        shapes = (dict.fromkeys(sizes, torch.export.Dim.DYNAMIC),)
        torch.onnx.export(conv, (x,), dynamic_shapes=shapes, verbose=False).save(file)
    else:
        axes = {"x": {dim: f"size{dim}" for dim in sizes}}
        torch.onnx.export(conv, (x,), file, dynamo=False, input_names=["x"], dynamic_axes=axes)
    session = runtime.InferenceSession(file.getvalue())
    (got,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    torch.testing.assert_close(torch.from_numpy(got), conv(other), atol=2e-6, rtol=1e-5)
