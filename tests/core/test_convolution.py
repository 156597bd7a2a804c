import copy
import pickle

import pytest
import torch
from tools import SWITCHES, TOLERANCE, gradients
from torch import nn

from fairseq_cgc.core import CGConv1d, CGConv2d, CGConv3d, ContextGate, UserError, reference

GATED = {1: CGConv1d, 2: CGConv2d, 3: CGConv3d}
PLAIN = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}

# Input's size, channels, and the arguments of the convolution.
CASES = [
    ((11,), (4, 6), {"kernel_size": 5, "padding": 2}),
    ((10,), (3, 5), {"kernel_size": 4, "padding": "same", "dilation": 3, "bias": False}),
    ((7, 9), (4, 6), {"kernel_size": 3, "padding": 1}),
    ((8, 7), (6, 4), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 2)}),
    ((9, 8), (4, 4), {"kernel_size": (3, 5), "dilation": (2, 1), "padding": "valid"}),
    ((6, 5), (2, 3), {"kernel_size": (2, 4), "padding": "same", "dilation": (1, 2)}),
    ((2, 2), (4, 4), {"kernel_size": 3, "padding": 1}),  # smaller than the pooled grid
    ((1, 1), (4, 4), {"kernel_size": 3, "padding": 1}),
    ((6, 6), (4, 8), {"kernel_size": 3, "groups": 2, "stride": 2}),
    ((6, 6), (4, 4), {"kernel_size": 3, "groups": 4, "padding": 1}),  # depthwise
    ((13, 9), (3, 8), {"kernel_size": 7, "stride": 2, "padding": 3, "bias": False}),  # a stem
    ((4, 5, 6), (3, 4), {"kernel_size": (2, 3, 3), "stride": (1, 2, 1), "padding": (1, 1, 0)}),
    ((3, 4, 4), (2, 4), {"kernel_size": 3, "padding": "same", "groups": 2}),
]
MODES = ["zeros", "reflect", "replicate", "circular"]


def make(size, channels, options, **switches):
    return GATED[len(size)](*channels, **options, **switches)


def open_gate(conv):
    """A gate of exactly one everywhere: the sigmoid of a number that is large enough."""
    nn.init.zeros_(conv.gate.in_norm.weight)
    nn.init.ones_(conv.gate.in_norm.bias)
    nn.init.constant_(conv.gate.in_decoder, 100.0)
    nn.init.zeros_(conv.gate.out_decoder)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_reference_in_outputs_and_gradients(case, batch, method):
    size, channels, _ = case
    conv = make(*case).double()
    x = torch.randn(batch, channels[0], *size, dtype=torch.float64, requires_grad=True)
    inputs = [x, *conv.parameters()]
    got, want = conv(x), reference.cg_convolution(conv, x)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))


@pytest.mark.parametrize("seed", range(12))
def test_equals_reference_over_random_shapes(seed):
    random = torch.Generator().manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high + 1, (), generator=random))

    dims = draw(1, 3)
    kernel_size = tuple(draw(1, 4) for _ in range(dims - 1)) + (draw(2, 4),)
    groups = draw(1, 2)
    options = {
        "kernel_size": kernel_size,
        "stride": tuple(draw(1, 3) for _ in range(dims)),
        "padding": tuple(draw(0, 2) for _ in range(dims)),
        "dilation": tuple(draw(1, 2) for _ in range(dims)),
        "groups": groups,
        "bias": bool(draw(0, 1)),
    }
    size = tuple(2 * (k - 1) + draw(1, 4) for k in kernel_size)
    channels = (groups * draw(1, 3), groups * draw(1, 3))
    conv = make(size, channels, options).double()
    x = torch.randn(draw(1, 4), channels[0], *size, dtype=torch.float64, requires_grad=True)
    inputs = [x, *conv.parameters()]
    got, want = conv(x), reference.cg_convolution(conv, x)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))


@pytest.mark.parametrize("mode", MODES[1:])
@pytest.mark.parametrize("case", [case for case in CASES if min(case[0]) > 3], ids=str)
def test_padding_modes(case, mode):
    size, channels, options = case
    options = {**options, "padding_mode": mode}
    conv = make(size, channels, options).double()
    x = torch.randn(2, channels[0], *size, dtype=torch.float64, requires_grad=True)
    inputs = [x, *conv.parameters()]
    got, want = conv(x), reference.cg_convolution(conv, x)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))
    equals_torchs_with_an_open_gate(size, channels, options, torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_with_an_open_gate_is_torchs_convolution(case, dtype, method):
    equals_torchs_with_an_open_gate(*case, dtype)


def equals_torchs_with_an_open_gate(size, channels, options, dtype):
    conv = make(size, channels, options).to(dtype)
    open_gate(conv)
    plain = PLAIN[len(size)](*channels, **options).to(dtype)
    loaded = plain.load_state_dict(conv.state_dict(), strict=False)
    assert not loaded.missing_keys
    assert all(key.startswith("gate.") for key in loaded.unexpected_keys)
    x = torch.randn(2, channels[0], *size, dtype=dtype, requires_grad=True)
    got, want = conv(x), plain(x)
    tolerance = {"atol": 10 * TOLERANCE[dtype], "rtol": 10 * TOLERANCE[dtype]}
    torch.testing.assert_close(got, want, **tolerance)
    own = [p for name, p in conv.named_parameters() if not name.startswith("gate.")]
    torch.testing.assert_close(
        gradients(got, [x, *own]), gradients(want, [x, *plain.parameters()]), **tolerance
    )
    torch.testing.assert_close(conv(x[0]), plain(x[0]), **tolerance)


@pytest.mark.parametrize("switches", [*SWITCHES, {"grid_size": (6, 6)}, {"pool": "max"}], ids=str)
def test_switches_reach_the_gate(switches):
    conv = CGConv2d(4, 6, 3, **switches).double()
    x = torch.randn(3, 4, 8, 7, dtype=torch.float64, requires_grad=True)
    inputs = [x, *conv.parameters()]
    got, want = conv(x), reference.cg_convolution(conv, x)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))
    shapes = {name: p.shape for name, p in ContextGate(4, 6, (3, 3), **switches).named_parameters()}
    assert {name: p.shape for name, p in conv.gate.named_parameters()} == shapes


def test_gradcheck(method):
    conv = CGConv2d(2, 2, (3, 2), padding=1).double()
    x = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*conv.named_parameters(), strict=True)

    def call(x, *parameters):
        return torch.func.functional_call(conv, dict(zip(names, parameters, strict=True)), x)

    assert torch.autograd.gradcheck(call, (x, *parameters))


def test_kernels_of_samples_are_the_weight_times_the_gate():
    conv = CGConv2d(4, 6, 3).eval()
    x = torch.randn(3, 4, 8, 8)
    torch.testing.assert_close(conv.sample_kernels(x), conv.weight * conv.gate(x))
    grouped = CGConv2d(4, 4, 3, groups=4).eval()
    gate = grouped.gate(x).diagonal(dim1=1, dim2=2).movedim(-1, 1).unsqueeze(2)
    torch.testing.assert_close(grouped.sample_kernels(x), grouped.weight * gate)


def test_batch_statistics_follow_only_while_training():
    conv = CGConv2d(4, 6, 3)
    twin = copy.deepcopy(conv)
    x = torch.randn(3, 4, 8, 8)
    conv(x), twin.gate(x)
    assert conv.gate.in_norm.num_batches_tracked == 1
    torch.testing.assert_close(conv.state_dict(), twin.state_dict())
    before = copy.deepcopy(conv.state_dict())
    conv.eval()(torch.randn(3, 4, 8, 8))
    torch.testing.assert_close(conv.state_dict(), before, atol=0, rtol=0)


def test_samples_do_not_meet_in_evaluation(method):
    conv = CGConv2d(4, 6, 3, padding=1).eval()
    x = torch.randn(5, 4, 9, 8)
    torch.testing.assert_close(conv(x)[1:3], conv(x[1:3]), atol=2e-6, rtol=1e-5)


def test_channels_last_in_and_out(method):
    conv = CGConv2d(4, 6, 3, padding=1).double()
    x = torch.randn(3, 4, 8, 7, dtype=torch.float64)
    want = conv(x)
    conv.to(memory_format=torch.channels_last)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    got = conv(x)
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, want)
    got.square().sum().backward()
    assert x.grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_as_one_graph(backend):
    torch._dynamo.reset()
    conv = CGConv2d(4, 6, 3, padding="same", padding_mode="circular")
    compiled = torch.compile(conv, backend=backend, fullgraph=True)
    twin = copy.deepcopy(conv)
    x = torch.randn(3, 4, 8, 7, requires_grad=True)
    got, want = compiled(x), twin(x)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(
        gradients(got, [x, *conv.parameters()]), gradients(want, [x, *twin.parameters()])
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(compiled(x), twin(x))


def test_same_numbers_every_time(method):
    conv = CGConv2d(4, 6, 3, padding=1).eval()
    x = torch.randn(9, 4, 8, 7, requires_grad=True)
    inputs = [x, *conv.parameters()]
    first, second = conv(x), conv(x)
    assert torch.equal(first, second)
    for a, b in zip(gradients(first, inputs), gradients(second, inputs), strict=True):
        assert torch.equal(a, b)


def test_an_empty_batch_changes_nothing():
    conv = CGConv2d(4, 6, 3, padding=1)
    before = copy.deepcopy(conv.state_dict())
    x = torch.ones(0, 4, 8, 7, requires_grad=True)
    out = conv(x)
    assert out.shape == (0, 6, 8, 7)
    out.sum().backward()
    assert not conv.weight.grad.any()
    torch.testing.assert_close(conv.state_dict(), before, atol=0, rtol=0)


def test_state_dict_copies_and_pickles():
    conv = CGConv2d(4, 6, 3, branches="in").eval()
    x = torch.randn(2, 4, 8, 7)
    assert list(conv.state_dict())[:2] == ["weight", "bias"]
    assert all(key.startswith("gate.") for key in list(conv.state_dict())[2:])
    other = CGConv2d(4, 6, 3, branches="in").eval()
    other.load_state_dict(conv.state_dict())
    for twin in (other, copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert torch.equal(twin(x), conv(x))
    assert CGConv2d(4, 6, 3).load_state_dict(nn.Conv2d(4, 6, 3).state_dict(), strict=False)
    assert repr(conv).startswith("CGConv2d(\n  4, 6, kernel_size=(3, 3), stride=(1, 1)\n  (gate)")


def test_takes_torchs_arguments_in_order():
    arguments = (4, 8, 3, 2, 1, 1, 2, False, "reflect", "meta", torch.float16)
    conv = CGConv2d(*arguments)
    plain = nn.Conv2d(*arguments)
    assert conv.extra_repr() == plain.extra_repr()
    assert {p.device.type for p in conv.parameters()} == {"meta"}
    dtypes = {"norm" in name: p.dtype for name, p in conv.named_parameters()}
    assert dtypes == {False: torch.float16, True: torch.float32}  # batch statistics are squares
    assert conv(torch.empty(2, 4, 9, 9, device="meta", dtype=torch.float16)).shape == (2, 8, 5, 5)


@pytest.mark.parametrize(
    ("dims", "options", "message"),
    [
        (2, {"kernel_size": 1}, r"kernel_size must be larger than 1, .* use nn.Conv2d"),
        (1, {"kernel_size": (1,)}, r"use nn.Conv1d"),
        (2, {"kernel_size": 3, "reduction": 16}, "'reduction' is no switch of the gate"),
        (2, {"kernel_size": 3, "channel_interaction": False}, "is no switch"),
        (2, {"kernel_size": 3, "pool": "mean"}, "pool is 'mean'"),
    ],
)
def test_wrong_options_are_refused(dims, options, message):
    with pytest.raises(UserError, match=message):
        GATED[dims](4, 4, **options)


@pytest.mark.parametrize(
    ("dims", "shape", "message"),
    [
        (2, (2, 3, 8, 8), r"x must be B x 4 x H x W, with or without the B, but is \(2, 3, 8, 8\)"),
        (1, (4,), "x must be B x 4 x L"),
        (3, (2, 4, 8, 8), "x must be B x 4 x D x H x W"),
        (2, (2, 4, 2, 8), "a dimension of 2 padded by 0 is smaller than 3 taps"),
    ],
)
def test_wrong_inputs_are_refused(dims, shape, message):
    with pytest.raises(UserError, match=message):
        GATED[dims](4, 4, 3)(torch.ones(shape))


def test_parameters_of_resnet50s_stem():
    """3 x 64 channels of 7 x 7: E and both decoders 49 x 25, I 3 x 64, norms of 3, 3 and 64."""
    gate = 3 * 49 * 25 + 3 * 64 + 2 * (3 + 3 + 64)
    conv = CGConv2d(3, 64, 7, stride=2, padding=3, bias=False)
    assert sum(p.numel() for p in conv.parameters()) == 3 * 64 * 49 + gate
