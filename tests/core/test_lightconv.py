import pytest
import torch
from tools import TOLERANCE, OpenGate, gradients, padding_mask
from torch import Tensor, nn

from fairseq_cgc.core import (
    GATE_NORMS,
    GATE_TARGETS,
    CGLightConv,
    LightConv,
    UserError,
    lightconv,
    pool_heads,
    reference,
)
from fairseq_cgc.core.functional import FORCE
from fairseq_cgc.core.sentence_gate import TARGETS, GateTarget

# C, H, K, lengths: one head; every channel a head; T < K; T < 3K; a sentence of one word.
CASES = [
    (4, 1, 3, [1, 2, 5]),
    (6, 6, 5, [4, 3]),
    (8, 2, 7, [1, 6, 13, 30]),
    (4, 2, 1, [3, 1]),
    (4, 2, 9, [1]),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gate_norm", GATE_NORMS)
@pytest.mark.parametrize("gate_target", ["kernel", "logits"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_reference_in_outputs_and_gradients(case, side, gate_target, gate_norm, dtype):
    channels, num_heads, kernel_size, lengths = case
    conv = CGLightConv(
        channels, kernel_size, num_heads, gate_target=gate_target, gate_norm=gate_norm, bias=True
    )
    conv.to(dtype)
    for parameter in conv.gate.in_norm.parameters() if conv.gate is not None else ():
        nn.init.normal_(parameter)  # another scale and shift for each number
    mask = padding_mask(lengths, side, max(lengths) + 1)
    x = torch.randn(max(lengths) + 1, len(lengths), channels, dtype=dtype, requires_grad=True)
    got = conv(x, mask).masked_fill(mask.t().unsqueeze(2), 0)
    want = reference.cg_light_conv(conv, x, mask)
    inputs = [x, *conv.parameters()]
    tolerance = {"atol": 10 * TOLERANCE[dtype], "rtol": 1e-5 if dtype == torch.float32 else 1e-9}
    torch.testing.assert_close(got, want, **tolerance)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs), **tolerance)


@pytest.mark.parametrize("gate_norm", GATE_NORMS)
@pytest.mark.parametrize("gate_target", ["kernel", "logits"])
@pytest.mark.parametrize("weight_softmax", [True, False])
def test_gradcheck(gate_target, weight_softmax, gate_norm):
    options = {"weight_softmax": weight_softmax, "gate_norm": gate_norm}
    conv = CGLightConv(4, 3, 2, gate_target=gate_target, **options).double()
    mask = padding_mask([3, 12], "left")
    x = torch.randn(12, 2, 4, dtype=torch.float64, requires_grad=True)
    parameters = dict(conv.named_parameters())

    def run(x: Tensor, *values: Tensor) -> Tensor:
        state = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(conv, state, (x, mask))

    assert torch.autograd.gradcheck(run, (x, *parameters.values()))


@pytest.mark.parametrize("weight_softmax", [True, False])
@pytest.mark.parametrize("gate_target", GATE_TARGETS)
def test_gate_targets_are_what_their_names_say(gate_target, weight_softmax):
    conv = CGLightConv(4, 5, 2, gate_target=gate_target, weight_softmax=weight_softmax)
    x = torch.randn(9, 1, 4)
    weight, gate = conv.weight.flatten(1), conv.gate(pool_heads(x, 2, 15)).flatten(0, 2)
    want = {"kernel": weight * gate, "logits": weight * gate}
    if weight_softmax:
        want = {"kernel": weight.softmax(1) * gate, "logits": (weight * gate).softmax(1)}
    torch.testing.assert_close(conv.sentence_kernels(x)[0], want[gate_target])


def test_a_new_gate_target_is_one_entry(monkeypatch):
    target = GateTarget(lambda weight, gate, normalise: normalise(weight + gate))
    monkeypatch.setitem(TARGETS, "sum", target)
    monkeypatch.setattr(lightconv, "choose_method", lambda *_: "triton")  # which lacks it
    conv = CGLightConv(4, 5, 2, gate_target="sum")
    x = torch.randn(9, 2, 4, requires_grad=True)
    inputs = [x, *conv.parameters()]
    got, want = conv(x), reference.cg_light_conv(conv, x)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))


def open_gate(*arguments, **options):
    conv = CGLightConv(*arguments, **options)
    conv.gate = OpenGate()
    return conv


@pytest.fixture(params=[LightConv, open_gate], ids=["plain", "open gate"])
def make(request):
    """Modules that must equal fairseq's lightweight convolution."""
    return request.param


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("weight_softmax", [True, False])
@pytest.mark.parametrize("time", [1, 5, 40, 150])
def test_equals_fairseq_without_a_gate(time, weight_softmax, bias, make):
    fairseq = pytest.importorskip("fairseq.modules.lightweight_convolution")
    theirs = fairseq.LightweightConv1dTBC(
        8, 7, padding_l=3, num_heads=2, weight_softmax=weight_softmax, bias=bias
    )
    ours = make(8, 7, 2, weight_softmax=weight_softmax, bias=bias)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(time, 3, 8, requires_grad=True)
    mask = padding_mask([time, max(1, time - 3), 1], "left")
    got, want = ours(x, mask), theirs(x.masked_fill(mask.t().unsqueeze(2), 0))
    torch.testing.assert_close(got, want, atol=1e-6, rtol=0)
    got = gradients(got, [x, *ours.parameters()])
    want = gradients(want, [x, *theirs.parameters()])
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-6, rtol=0)


@pytest.mark.usefixtures("torchs_dropout")
def test_drops_the_connections_that_fairseq_drops(make):
    fairseq = pytest.importorskip("fairseq.modules.lightweight_convolution")
    theirs = fairseq.LightweightConv1dTBC(
        8, 7, padding_l=3, num_heads=2, weight_softmax=True, weight_dropout=0.3
    )
    ours = make(8, 7, 2, weight_dropout=0.3)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(20, 3, 8)
    outputs = []
    for module in (ours, theirs):
        torch.manual_seed(3)
        outputs.append(module.train()(x))
    torch.testing.assert_close(*outputs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("gate_norm", GATE_NORMS)
@pytest.mark.parametrize("gate_target", ["kernel", "logits"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_sentence_does_not_depend_on_its_batch(side, gate_target, gate_norm):
    conv = CGLightConv(16, 7, 4, gate_target=gate_target, gate_norm=gate_norm).eval()
    lengths = [1 + 37 * i % 50 for i in range(64)]
    sentences = [torch.randn(length, 1, 16) for length in lengths]
    mask = padding_mask(lengths, side)
    batch = torch.full((max(lengths), 64, 16), float("nan"))
    for i, sentence in enumerate(sentences):
        batch[~mask[i], i] = sentence[:, 0]
    out = conv(batch, mask)
    for i, sentence in enumerate(sentences):
        torch.testing.assert_close(out[~mask[i], i], conv(sentence)[:, 0], atol=1e-6, rtol=0)


def test_gate_sees_the_whole_sentence():
    conv = CGLightConv(4, 3, 2)
    x = torch.randn(30, 1, 4)
    far = x.clone()
    far[25:] += 1.0
    assert not torch.allclose(conv(x)[:5], conv(far)[:5])


def test_norms_span_a_head_or_all_heads():
    """A constant added to all numbers of one head is visible only to a norm over all heads."""
    x = torch.randn(12, 1, 6)
    for gate_norm, shape in (("latent", (4,)), ("heads", (3, 4))):
        conv = CGLightConv(6, 7, 3, gate_norm=gate_norm)
        assert conv.gate.in_norm.weight.shape == shape
        with torch.no_grad():
            conv.gate.encoder.fill_(0.1)  # every latent number is the same
            conv.gate.encoder[0, 0] = 0.2
        kernels = [conv.sentence_kernels(x + torch.tensor([t, t, 0, 0, 0, 0])) for t in (0.0, 9.0)]
        changed = ~torch.isclose(*kernels, atol=1e-4).all(2)[0]
        assert changed.tolist() == [True, gate_norm == "heads", gate_norm == "heads"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close_to_float32(dtype):
    conv = CGLightConv(16, 7, 4)
    mask = padding_mask([5, 33], "left")
    x = torch.randn(33, 2, 16)
    want = conv(x, mask)
    got = conv.to(dtype)(x.to(dtype), mask)
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), want, atol=TOLERANCE[torch.bfloat16], rtol=2e-2)


def test_autocast_trains():
    conv = CGLightConv(16, 7, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = conv(torch.randn(20, 2, 16)).float().square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in conv.parameters())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("time", [1, 5, 95, 96, 200])
@pytest.mark.parametrize("kind", [LightConv, CGLightConv])
def test_autocast_decides_the_outputs_dtype_whatever_the_length(kind, time, dtype, bias):
    conv = kind(8, 7, 2, bias=bias)
    x, mask = torch.randn(time, 2, 8, requires_grad=True), padding_mask([1, time], "left")
    inputs = [x, *conv.parameters()]
    want = conv(x, mask)
    with torch.autocast("cpu", dtype=dtype):
        got = conv(x, mask)
        assert conv(x.double(), mask).dtype == torch.float64  # as torch's own layers
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), want, atol=4e-2, rtol=4e-2)
    for found, exact in zip(gradients(got, inputs), gradients(want, inputs), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, exact, atol=4e-2 * float(exact.abs().max()), rtol=0)


@pytest.mark.parametrize("method", ["band", "blocked", "unfolded", None])
@pytest.mark.parametrize("has_mask", [True, False])
@pytest.mark.parametrize("shape", [(120, 0, 8), (0, 2, 8), (0, 0, 8)], ids=str)
@pytest.mark.parametrize("kind", [LightConv, CGLightConv])
def test_empty_inputs_give_empty_outputs_as_in_fairseq(kind, shape, has_mask, method, monkeypatch):
    if method is not None:
        monkeypatch.setenv(FORCE, method)
    conv = kind(8, 7, 2, bias=True, weight_dropout=0.1)
    x = torch.randn(shape, requires_grad=True)
    mask = torch.zeros(shape[1], shape[0], dtype=torch.bool) if has_mask else None
    out = conv(x, mask)
    assert out.shape == x.shape
    out.sum().backward()
    assert x.grad is not None and x.grad.shape == x.shape
    for parameter in conv.parameters():
        assert parameter.grad is not None and not parameter.grad.any()


@pytest.mark.parametrize("kind", [LightConv, CGLightConv])
@pytest.mark.parametrize("time", [5, 130])
def test_half_precision_from_the_start_is_that_of_half(kind, time):
    exact = kind(8, 7, 2, bias=True)
    state = {name: value.bfloat16() for name, value in exact.state_dict().items()}
    try:
        torch.set_default_dtype(torch.bfloat16)
        made = kind(8, 7, 2, bias=True)
    finally:
        torch.set_default_dtype(torch.float32)
    made.load_state_dict(state)
    assigned = kind(8, 7, 2, bias=True)
    assigned.load_state_dict(state, assign=True)
    x, mask = torch.randn(time, 2, 8), padding_mask([3, time], "right")
    for dtype in (torch.bfloat16, torch.float32):
        want = exact.to(torch.bfloat16)(x.to(dtype), mask)
        assert want.dtype == dtype
        for conv in (made, assigned):
            inputs = list(conv.parameters())
            assert {parameter.dtype for parameter in inputs} == {torch.bfloat16}
            got = conv(x.to(dtype), mask)
            assert torch.equal(got, want)
            assert all(gradient.isfinite().all() for gradient in gradients(got, inputs))


@pytest.mark.parametrize("scale", [0.0, 1e4, 1e-6])
def test_extreme_inputs_stay_finite(scale):
    conv = CGLightConv(8, 7, 2)
    x = (torch.randn(40, 2, 8) * scale).requires_grad_()
    mask = padding_mask([1, 40], "left")
    out = conv(x, mask)
    found = [out, *gradients(out, [x, *conv.parameters()])]
    assert all(value.isfinite().all() for value in found)


def test_state_has_fairseqs_names_beside_the_gate():
    state = CGLightConv(8, 7, 2, bias=True).state_dict()
    assert state["weight"].shape == (2, 1, 7)
    assert state["bias"].shape == (8,)
    assert all(key.startswith("gate.") for key in state if key not in ("weight", "bias"))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((8, 4, 2), {}, "kernel_size must be odd and positive, but is 4"),
        ((8, 3, 3), {}, r"num_heads must divide channels \(8\), but is 3"),
        ((8, 3, 2), {"gate_target": "weights"}, "gate_target must be one of .*, but is 'weights'"),
        ((8, 3, 2), {"gate_norm": "batch"}, "gate_norm must be one of .*, but is 'batch'"),
        ((8, 3, 2), {"weight_dropout": 1.5}, "weight_dropout must be from 0 to 1, but is 1.5"),
    ],
)
def test_wrong_options_are_refused(arguments, options, message):
    with pytest.raises(UserError, match=message):
        CGLightConv(*arguments, **options)


@pytest.mark.parametrize("kind", [LightConv, CGLightConv])
def test_wrong_shapes_are_refused(kind):
    conv = kind(8, 3, 2)
    with pytest.raises(UserError, match="x must be T x B x 8, but is"):
        conv(torch.randn(5, 2, 4))
    with pytest.raises(UserError, match=r"padding_mask must be B x T = \(2, 5\), but is \(5, 2\)"):
        conv(torch.randn(5, 2, 8), torch.zeros(5, 2, dtype=torch.bool))
