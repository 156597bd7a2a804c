"""BN-Inception against a table of its layers and torch's functions."""

import pytest
import torch
import torch.nn.functional as F
from tools import gradients
from torch import nn

from fairseq_cgc.core import CGConv2d, UserError
from fairseq_cgc.vision import create_model
from fairseq_cgc.vision.bn_inception import Inception

#: Block, inputs, outputs and their sum of input times output channels: of 1 x 1 and of 3 x 3
#: convolutions.
BLOCKS = [
    ("3a", 192, 256, 192 * (64 + 64 + 64 + 32), 64 * 64 + 64 * 96 + 96 * 96),
    ("3b", 256, 320, 256 * (64 + 64 + 64 + 64), 64 * 96 + 64 * 96 + 96 * 96),
    ("3c", 320, 576, 320 * (128 + 64), 128 * 160 + 64 * 96 + 96 * 96),
    ("4a", 576, 576, 576 * (224 + 64 + 96 + 128), 64 * 96 + 96 * 128 + 128 * 128),
    ("4b", 576, 576, 576 * (192 + 96 + 96 + 128), 96 * 128 + 96 * 128 + 128 * 128),
    ("4c", 576, 608, 576 * (160 + 128 + 128 + 128), 128 * 160 + 128 * 160 + 160 * 160),
    ("4d", 608, 608, 608 * (96 + 128 + 160 + 128), 128 * 192 + 160 * 192 + 192 * 192),
    ("4e", 608, 1056, 608 * (128 + 192), 128 * 192 + 192 * 256 + 256 * 256),
    ("5a", 1056, 1024, 1056 * (352 + 192 + 160 + 128), 192 * 320 + 160 * 224 + 224 * 224),
    ("5b", 1024, 1024, 1024 * (352 + 192 + 192 + 128), 192 * 320 + 192 * 224 + 224 * 224),
]


@pytest.fixture(scope="module")
def on_meta():
    with torch.device("meta"):
        return create_model("bn_inception")


def test_parameters_by_hand(on_meta):
    weights = 3 * 64 * 49 + 64 * 64 + 64 * 192 * 9
    weights += sum(single + 9 * triple for *_, single, triple in BLOCKS)
    convolutions = [m for m in on_meta.modules() if isinstance(m, nn.Conv2d)]
    assert sum(m.weight.numel() for m in convolutions) == weights
    norms = 2 * sum(m.out_channels for m in convolutions)  # a scale and a shift each
    classifier = 1024 * 1000 + 1000
    total = weights + norms + classifier
    assert sum(p.numel() for p in on_meta.parameters()) == total == 11_285_224
    assert [m.bias for m in convolutions] == [None] * 69


@pytest.mark.parametrize("row", BLOCKS, ids=lambda row: row[0])
def test_blocks(row, on_meta):
    name, channels, outputs, *_ = row
    block = on_meta.get_submodule(f"inception_{name}")
    out, inner = block(torch.zeros(1, channels, 28, 28, device="meta"))
    side = 14 if name in ("3c", "4e") else 28
    assert out.shape == (1, outputs, side, side)
    assert inner.shape == (1, block.inner_channels, 28, 28)


def test_the_maps_of_eco(on_meta):
    maps, features = on_meta.maps_and_features(torch.zeros(2, 3, 224, 224, device="meta"))
    assert maps.shape == (2, 96, 28, 28) and features.shape == (2, 1024)


def unit(part, x):
    conv, norm, _ = part
    x = F.conv2d(x, conv.weight, stride=conv.stride, padding=conv.padding)
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()


@pytest.mark.parametrize("name", ["inception_3b", "inception_4e", "inception_5b"])
@pytest.mark.parametrize("size", [(6, 5), (1, 3)])
def test_outputs_and_gradients_of_a_block(name, size):
    block = Inception(3, name, nn.Conv2d).double().eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    halves = name == "inception_4e"
    stride = 2 if halves else 1
    parts = [] if halves else [unit(block.branch_1x1, x)]
    parts.append(unit(block.branch_3x3[1], unit(block.branch_3x3[0], x)))
    inner = unit(block.branch_double[1], unit(block.branch_double[0], x))
    parts.append(unit(block.branch_double2, inner))
    if name == "inception_3b":
        pooled = F.avg_pool2d(x, 3, stride, padding=1)
    else:
        pooled = F.max_pool2d(x, 3, stride, padding=1)
    parts.append(pooled if halves else unit(block.branch_pool[1], pooled))
    inputs = [x, *block.parameters()]
    got, got_inner = block(x)
    torch.testing.assert_close(got, torch.cat(parts, 1))
    torch.testing.assert_close(got_inner, inner)
    torch.testing.assert_close(
        gradients(got, inputs), gradients(torch.cat(parts, 1), inputs), atol=1e-9, rtol=1e-7
    )


def test_only_the_named_stages_of_bn_inception_are_gated():
    with torch.device("meta"):
        model = create_model("bn_inception_cgc", cgc={"stages": ["stem", "inception4"]})
    gated = [n for n, m in model.named_modules() if isinstance(m, CGConv2d)]
    assert gated[:2] == ["conv1", "conv2.1.0"] and len(gated) == 2 + 5 * 3
    assert {name.partition(".")[0][:-1] for name in gated[2:]} == {"inception_4"}
    with pytest.raises(UserError, match="cgc stages has 'res2'; allowed are stem, inception3, inc"):
        create_model("bn_inception_cgc", cgc={"stages": ["res2"]})


def test_small_images_of_any_size():
    model = create_model("bn_inception_cgc", 3, in_channels=1)
    out = model(torch.randn(2, 1, 33, 18))
    out.square().sum().backward()
    assert out.shape == (2, 3)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
