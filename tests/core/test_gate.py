from math import prod

import pytest
import torch
from tools import SWITCHES, gradients
from torch import nn

from fairseq_cgc.core import ContextGate, UserError, reference

MORE_SWITCHES = [
    {"norm": "heads", "init": "xavier"},
    {"branches": "out", "shared_norm": True, "shared_decoder": True},
]


@pytest.mark.parametrize("switches", [*SWITCHES, *MORE_SWITCHES], ids=str)
@pytest.mark.parametrize("kernel_size", [(3,), (3, 2), (2, 3, 3)], ids=str)
def test_equals_reference_in_outputs_and_gradients(kernel_size, switches):
    gate = ContextGate(6, 4, kernel_size, **switches).double()
    for name, parameter in gate.named_parameters():
        if "norm" in name:  # another scale and shift for each number
            nn.init.normal_(parameter)
    x = torch.randn(3, 6, *kernel_size, dtype=torch.float64, requires_grad=True)
    inputs = [x, *gate.parameters()]
    got, want = gate(x), reference.context_gate(gate, x)
    assert got.shape == (3, 4, 6, *kernel_size)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))


@pytest.mark.parametrize("switches", [*SWITCHES, *MORE_SWITCHES], ids=str)
def test_every_parameter_has_a_gradient(switches):
    gate = ContextGate(32, 48, (3, 3), **switches)
    gate(torch.randn(4, 32, 7, 9)).square().sum().backward()
    assert [name for name, p in gate.named_parameters() if p.grad is None] == []


def test_gradcheck():
    gate = ContextGate(4, 6, (3,), norm="layer").double()
    x = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gate, (x,))


def test_groups_do_not_mix():
    gate = ContextGate(32, 32, (3, 3), branches="out").eval()
    x = torch.randn(1, 32, 6, 6)
    changed = x.clone()
    changed[:, :16] += torch.randn(1, 16, 6, 6)
    before, after = gate(x), gate(changed)
    assert not torch.allclose(before[:, :16], after[:, :16])
    assert torch.equal(before[:, 16:], after[:, 16:])


@pytest.mark.parametrize("size", [(5, 9), (3, 3), (2, 7)], ids=str)
@pytest.mark.parametrize("pool", ["avg", "max"])
def test_pools_any_map_to_the_kernels_size(size, pool):
    gate = ContextGate(4, 4, (3, 3), pool=pool).eval()
    x = torch.randn(2, 4, *size)
    pooling = nn.AdaptiveAvgPool2d if pool == "avg" else nn.AdaptiveMaxPool2d
    torch.testing.assert_close(gate(x), reference.context_gate(gate, pooling((3, 3))(x)))


def test_depthwise_form_has_one_branch():
    gate = ContextGate(4, 4, (31,), channel_interaction=False, grid_size=(93,), norm="layer")
    out = gate(torch.randn(2, 4, 93))
    assert out.shape == (2, 4, 1, 31)
    # E 93 x 16, layer norm 2 x 16, D 16 x 31
    assert sum(p.numel() for p in gate.parameters()) == 93 * 16 + 2 * 16 + 16 * 31


@pytest.mark.parametrize(
    ("channels", "width"),
    [
        ((3, 64), 3),
        ((64, 128), 16),
        ((32, 24), 16),
        ((24, 36), 12),  # the largest below 16
        ((2048, 64), 32),  # the smallest above
        ((34, 2), 17),
        ((51, 17), 3),
        ((19, 8), 19),
        ((20, 3), 20),
    ],
    ids=str,
)
def test_channels_per_group(channels, width):
    gate = ContextGate(*channels, (3, 3))
    assert gate.interaction is not None
    assert gate.interaction.shape == (channels[1] * width // channels[0], width)


def resnet110_convolutions() -> list[tuple[int, int]]:
    """Input and output channels of its 109 convolutions of 3 x 3."""
    widths = [3, 16]
    for width in (16, 32, 64):
        widths += [width] * 36
    return list(zip(widths[:-1], widths[1:], strict=True))


# Table 3a: ResNet-110 has 1.73M parameters, and with each switch, in millions.
TABLE_3A = [
    ({}, 1.80),
    ({"branches": "in"}, 1.75),
    ({"branches": "out"}, 1.78),
    ({"combine": "product"}, 1.80),
    ({"channels_per_group": None}, 1.96),
    ({"latent_size": 9}, 1.81),
    ({"shared_norm": True}, 1.79),
    ({"shared_encoder": False}, 1.80),
    ({"shared_decoder": True}, 1.79),
    ({"grid_size": (6, 6)}, 1.81),
    ({"pool": "max"}, 1.80),
]


@pytest.mark.parametrize(("switches", "millions"), TABLE_3A, ids=str)
def test_parameter_counts_of_table_3a(switches, millions):
    plain = sum(c * o * 9 + 2 * o for c, o in resnet110_convolutions())
    plain += 16 * 32 + 32 * 64 + 2 * (32 + 64)  # 1 x 1 shortcuts and their norms
    plain += 64 * 10 + 10
    assert round(plain / 1e6, 2) == 1.73
    gates = sum(
        p.numel()
        for channels in resnet110_convolutions()
        for p in ContextGate(*channels, (3, 3), **switches).parameters()
    )
    assert round((plain + gates) / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"branches": "left"}, "branches is 'left', but must be one of"),
        ({"norm": "group"}, "norm is 'group'"),
        ({"pool": "mean"}, "pool is 'mean'"),
        ({"init": "zeros"}, "init is 'zeros'"),
        ({"combine": "max"}, "combine is 'max'"),
        ({"latent_size": 0}, "latent_size is 0, but must be at least 1"),
        ({"channels_per_group": 0}, "channels_per_group is 0, but must be at least 1"),
        ({"grid_size": (0, 3)}, r"grid_size is \(0, 3\), but must be at least 1"),
        ({"grid_size": (3,)}, r"len\(grid_size\) is 1"),
        ({"channel_interaction": False}, "out_channels must equal in_channels"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        ContextGate(4, 8, (3, 3), **options)


def test_latent_size_by_default():
    for kernel, latent in (((3, 3), 5), ((7, 7), 25), ((31,), 16)):
        assert ContextGate(4, 4, kernel).encoder.shape == (latent, prod(kernel))


def test_a_checkpoint_with_another_width_is_refused_in_one_line():
    old = ContextGate(64, 2, (3, 3), channels_per_group=None)
    new = nn.ModuleDict({"gate": ContextGate(64, 2, (3, 3))})
    state = {f"gate.{name}": value for name, value in old.state_dict().items()}
    with pytest.raises(UserError) as error:
        new.load_state_dict(state)
    assert str(error.value) == (
        "gate.interaction is 2 x 64 in the checkpoint, but 1 x 32 in the model, because the "
        "default width of I's groups has changed or channels_per_group differs: a gate made with "
        "channels_per_group=64 fits"
    )
    fitting = ContextGate(64, 2, (3, 3), channels_per_group=64)
    fitting.load_state_dict(old.state_dict())
    x = torch.randn(2, 64, 5, 5)
    torch.testing.assert_close(fitting(x), old(x))
