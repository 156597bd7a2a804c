from __future__ import annotations

import pytest
import torch
from torch import nn

from fairseq_cgc.analysis.layers import GATED, find_layer
from fairseq_cgc.core import CGConv1d, CGConv2d, UserError
from fairseq_cgc.vision import create_model


def model() -> nn.Sequential:
    return nn.Sequential(CGConv2d(3, 4, 3), nn.ReLU(), CGConv1d(4, 4, 3), nn.Conv2d(4, 4, 1))


def test_the_last_gated_layer_is_the_default():
    net = model()
    assert find_layer(net, None, GATED) == ("2", net[2])
    assert find_layer(net, None, nn.Conv2d) == ("0", net[0])  # neither 1-D nor the plain one


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet8_cifar", "layer3.0.conv2"),  # not the shortcut, which comes last
        ("resnet50", "layer4.2.conv2"),
        ("resnet50_cgc", "layer4.2.conv2"),
        ("dcnv2_resnet50", "layer4.2.conv2"),  # not its offsets
        ("cbam_resnet50", "layer4.2.conv2"),  # not in the attention
    ],
)
def test_without_gates_the_last_spatial_layer_is_the_default(name, layer):
    with torch.device("meta"):
        net = create_model(name)
    assert find_layer(net, None, nn.Conv2d) == (layer, net.get_submodule(layer))
    if not name.endswith("_cgc"):
        with pytest.raises(UserError, match="ResNet has no gated convolution"):
            find_layer(net, None, GATED)


def test_pointwise_layers_are_better_than_none():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    assert find_layer(net, None, nn.Conv2d)[0] == "1"


def test_a_layer_by_name():
    net = model()
    assert find_layer(net, "3", nn.Conv2d) == ("3", net[3])


def test_an_unknown_layer_is_reported_with_the_allowed_ones():
    with pytest.raises(UserError, match=r"^--layer is '1', but must be one of 0, 2$"):
        find_layer(model(), "1", GATED)


@pytest.mark.parametrize(
    ("name", "kinds", "message"),
    [
        (None, nn.Conv2d, "Linear has no Conv2d"),
        (None, GATED, "Linear has no gated convolution"),
        ("x", GATED, "Linear has no gated convolution"),
        ("x", nn.Conv2d, "Linear has no Conv2d"),
    ],
)
def test_a_model_without_such_layers_is_reported(name, kinds, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        find_layer(nn.Linear(2, 2), name, kinds)
