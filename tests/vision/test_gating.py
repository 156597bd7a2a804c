import re

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
def test_only_the_named_stages_are_gated(stages, first, count):
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
        ({"grid_scale": True}, "cgc grid_scale is True, but must be a whole number from 1 to 1024"),
        ({"shared_norm": "maybe"}, "cgc shared_norm is 'maybe', but must be true or false"),
        ({"shared_encoder": 1}, "cgc shared_encoder is 1, but must be true or false"),
        ({"channels_per_group": 0}, "cgc channels_per_group is 0, but must be a whole number fr"),
        ({"latent_size": "abc"}, "cgc latent_size is 'abc', but must be a whole number from 1"),
        ({"latent_size": -1}, "cgc latent_size is -1"),
        ({"latent_size": 2.0}, "cgc latent_size is 2.0"),
        ({"latent_size": 10**12}, "cgc latent_size is 1000000000000, but must be a whole number"),
        ({"grid_size": [3, 10**9]}, r"cgc grid_size is \[3, 1000000000\], but must be two"),
        ({"channels_per_group": "16"}, "cgc channels_per_group is '16'"),
        ({"shared_decoder": None}, "cgc shared_decoder is None, but must be true or false"),
        ({"stages": {"res1": 1}}, "cgc stages is {'res1': 1}, but must be the name of a stage"),
        ({"stages": [["res1"]]}, r"cgc stages is \[\['res1'\]\], but must be the name"),
        ({"grid_size": 3}, r"cgc grid_size is 3, but must be two whole numbers .* \[3, 3\]"),
        ({"grid_size": [3]}, r"cgc grid_size is \[3\], but must be two"),
        ({"grid_size": [3, 0]}, r"cgc grid_size is \[3, 0\], but must be two"),
        ({"stages": []}, r"cgc stages is \[\], but must be the name of a stage, or a list"),
        ({"stages": 2}, "cgc stages is 2, but must be the name of a stage"),
        ({"stages": None}, "cgc stages is None, but must be the name of a stage"),
        ({"grid_scale": 2, "grid_size": (6, 6)}, "both grid_size and grid_scale"),
    ],
    ids=str,
)
def test_wrong_switches_are_told(switches, message):
    with pytest.raises(UserError, match=message):
        gated_convolutions(switches, STAGES)


def test_null_is_the_default_or_one_group():
    switches = {"latent_size": None, "grid_size": None, "channels_per_group": None}
    gate = gated_convolutions(switches, STAGES)("res1")(32, 32, 3).gate
    assert gate.encoder.shape == (5, 9) and gate.interaction.shape == (32, 32)


@pytest.mark.parametrize("switch", ["branches", "combine", "norm", "pool", "init"])
@pytest.mark.parametrize("value", ["mean", 1, None, ["avg"]])
def test_a_wrong_word_is_told_by_the_gate(switch, value):
    message = re.escape(f"{switch} is {value!r}, but must be one of")
    with pytest.raises(UserError, match=message):
        create_model("resnet8_cifar_cgc", cgc={switch: value})
