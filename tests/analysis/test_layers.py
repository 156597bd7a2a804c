from __future__ import annotations

import pytest
from torch import nn

from fairseq_cgc.analysis.layers import GATED, find_layer
from fairseq_cgc.core import CGConv1d, CGConv2d, UserError


def model() -> nn.Sequential:
    return nn.Sequential(CGConv2d(3, 4, 3), nn.ReLU(), CGConv1d(4, 4, 3), nn.Conv2d(4, 4, 1))


def test_the_last_gated_layer_is_the_default():
    net = model()
    assert find_layer(net, None, GATED) == ("2", net[2])
    assert find_layer(net, None, nn.Conv2d) == ("0", net[0])  # neither 1-D nor the plain one


def test_a_layer_by_name():
    net = model()
    assert find_layer(net, "3", nn.Conv2d) == ("3", net[3])


def test_an_unknown_layer_is_told_with_those_there_are():
    with pytest.raises(UserError, match=r"^--layer is '1', but must be one of 0, 2$"):
        find_layer(model(), "1", GATED)


@pytest.mark.parametrize(
    ("name", "kinds", "message"),
    [
        (None, GATED, "Linear has no gated convolution"),
        ("x", GATED, "Linear has no gated convolution"),
        ("x", nn.Conv2d, "Linear has no Conv2d"),
    ],
)
def test_a_model_without_such_layers_is_told(name, kinds, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        find_layer(nn.Linear(2, 2), name, kinds)
