import pytest
from torch import nn

from fairseq_cgc.core import CGConv2d, UserError
from fairseq_cgc.vision import create_model
from fairseq_cgc.vision.gating import gated_convolutions

STAGES = ("stem", "res1", "res2")


def gated_names(model):
    return [name for name, m in model.named_modules() if isinstance(m, CGConv2d)]


def test_every_spatial_convolution_is_gated():
    model = create_model("cbam_resnet50_cgc")
    convolutions = [
        name
        for name, m in model.named_modules()
        if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1) and ".attention." not in name
    ]
    assert gated_names(model) == convolutions
    assert len(convolutions) == 17
    # 4.2: "for the first convolutional layer, we use I of 3 x 64"
    assert model.conv1.gate.interaction.shape == (64, 3)
    assert model.conv1.gate.encoder.shape == (25, 49)


@pytest.mark.parametrize(
    ("stages", "first", "count"),
    [
        (("res1", "res2", "res3"), "layer1.0.conv1", 18),
        (["res2", "res3"], "layer2.0.conv1", 12),
        ("res3", "layer3.0.conv1", 6),
    ],
    ids=str,
)
def test_stages(stages, first, count):
    names = gated_names(create_model("resnet20_cifar", cgc={"stages": stages}))
    assert names[0] == first and len(names) == count


def test_switches_reach_the_gates():
    make = gated_convolutions({"branches": "in", "pool": "max", "latent_size": 7}, STAGES)
    gate = make("res1")(16, 32, 3, padding=1).gate
    assert gate.branches == "in" and gate.encoder.shape == (7, 9)
    assert make("res1")(16, 32, 3, padding=1, bias=False).bias is None


def test_grid_scale_follows_the_kernel():
    make = gated_convolutions({"grid_scale": 2}, STAGES)
    assert make("stem")(3, 64, 7).gate.grid_size == (14, 14)
    assert make("res1")(16, 16, 3).gate.grid_size == (6, 6)


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({"latent": 5}, "cgc has no switch 'latent'; allowed are grid_size, "),
        ({"stages": ("res1", "res4")}, "cgc stages has 'res4'; allowed are stem, res1, res2"),
        ({"grid_scale": 0}, "cgc grid_scale is 0"),
        ({"grid_scale": 1.5}, "cgc grid_scale is 1.5"),
        ({"grid_scale": 2, "grid_size": (6, 6)}, "both grid_size and grid_scale"),
    ],
    ids=str,
)
def test_wrong_switches_are_told(switches, message):
    with pytest.raises(UserError, match=message):
        gated_convolutions(switches, STAGES)


def test_a_wrong_value_is_told_by_the_gate():
    with pytest.raises(UserError, match="pool is 'mean', but must be one of"):
        create_model("resnet8_cifar_cgc", cgc={"pool": "mean"})
