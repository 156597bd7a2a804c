import copy
import logging

import pytest
import torch
from torch import nn

from fairseq_cgc.core import CGConv1d, CGConv2d, CGConv3d, UserError, convert, convert_to_cgc


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x):
        return x + self.bn(self.conv2(self.conv1(x))).relu()


class ResNet(nn.Module):
    """Three stages of residual blocks, as torchvision names them."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, stride=2, padding=3)
        self.layer1 = nn.Sequential(Block(8), Block(8))
        self.layer2 = nn.Sequential(Block(8))
        self.layer10 = nn.Sequential(Block(8))
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = self.layer10(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


SPATIAL = ["conv1", "layer1.0.conv2", "layer1.1.conv2", "layer2.0.conv2", "layer10.0.conv2"]


def gated(model):
    return [name for name, m in model.named_modules() if isinstance(m, CGConv2d)]


def test_swaps_in_place_and_keeps_everything_else(caplog):
    model = ResNet().double().to(memory_format=torch.channels_last).eval()
    model.layer1.train()
    model.layer2[0].conv2.weight = model.layer1[0].conv2.weight  # tied
    before = dict(model.named_parameters(remove_duplicate=False))
    modes = {name: m.training for name, m in model.named_modules()}
    calls = []
    model.conv1.register_forward_hook(lambda *_: calls.append(1))
    with caplog.at_level(logging.INFO, logger=convert.__name__):
        converted, names = convert_to_cgc(model)
    assert converted is model
    assert names == gated(model) == SPATIAL
    assert [record.message for record in caplog.records] == [
        f"context gates for 5 convolutions: {', '.join(SPATIAL)}"
    ]
    after = dict(model.named_parameters(remove_duplicate=False))
    assert all(after[name] is parameter for name, parameter in before.items())
    assert {name.rsplit("gate.", 1)[0] for name in after.keys() - before.keys()} == {
        f"{name}." for name in SPATIAL
    }
    assert all(p.dtype == torch.float64 for p in after.values())
    assert all(m.training == modes[name] for name, m in model.named_modules() if name in modes)
    assert not model.conv1.gate.in_norm.training and model.layer1[0].conv2.gate.in_norm.training
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    model(images).sum().backward()
    assert calls == [1]
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_loads_the_weights_of_the_plain_model():
    plain, twin = ResNet(), convert_to_cgc(ResNet())[0]
    loaded = twin.load_state_dict(plain.state_dict(), strict=False)
    assert not loaded.unexpected_keys
    assert all(".gate." in key for key in loaded.missing_keys)
    with torch.no_grad():  # and with open gates it is the plain model
        for name in SPATIAL:
            gate = twin.get_submodule(name).gate
            gate.in_norm.weight.zero_(), gate.in_norm.bias.fill_(1)
            gate.in_decoder.fill_(100), gate.out_decoder.zero_()
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(twin(images), plain(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("only", "names"),
    [
        (("layer1", "layer2"), SPATIAL[1:4]),
        ("layer1.1", SPATIAL[2:3]),
        (["conv1"], SPATIAL[:1]),
        (lambda name, conv: conv.kernel_size == (7, 7), SPATIAL[:1]),
        (lambda name, conv: name.endswith("conv2"), SPATIAL[1:]),
    ],
)
def test_selection(only, names):
    model, swapped = convert_to_cgc(ResNet(), only)
    assert swapped == gated(model) == names


def test_switches_reach_every_gate():
    model, names = convert_to_cgc(ResNet(), branches="in", latent_size=4)
    for name in names:
        gate = model.get_submodule(name).gate
        assert gate.branches == "in" and gate.encoder.shape[0] == 4


def test_a_converted_model_is_converted_no_further(caplog):
    model, _ = convert_to_cgc(ResNet(), "layer1")
    gate = model.layer1[0].conv2.gate
    with caplog.at_level(logging.WARNING, logger=convert.__name__):
        assert convert_to_cgc(model)[1] == ["conv1", "layer2.0.conv2", "layer10.0.conv2"]
    assert model.layer1[0].conv2.gate is gate
    assert caplog.records == []  # they are known classes
    with pytest.raises(UserError, match="no convolution to convert"):
        convert_to_cgc(model)


def test_dimensions_groups_and_shared_modules():
    shared = nn.Conv1d(4, 4, 3, groups=4)
    model = nn.Sequential(shared, shared, nn.Conv3d(2, 2, (1, 1, 2)), nn.Conv3d(2, 2, 1))
    assert convert_to_cgc(model)[1] == ["0", "2"]
    assert [type(m) for m in model] == [CGConv1d, CGConv1d, CGConv3d, nn.Conv3d]
    assert model[0] is model[1]


def test_a_convolution_by_itself():
    conv = nn.Conv2d(4, 4, 3)
    model, names = convert_to_cgc(conv)
    assert model is conv and type(conv) is CGConv2d and names == [""]
    assert copy.deepcopy(conv)(torch.randn(2, 4, 5, 5)).shape == (2, 4, 3, 3)


def test_unknown_classes_stay_and_are_told(caplog):
    class Standardised(nn.Conv2d):
        pass

    model = nn.ModuleDict(
        {"a": Standardised(4, 4, 3), "b": nn.Conv2d(4, 4, 3), "c": nn.ConvTranspose2d(4, 4, 3)}
    )
    nn.utils.parametrizations.weight_norm(model["b"])
    model["d"] = nn.Conv2d(4, 4, 3)
    with caplog.at_level(logging.WARNING, logger=convert.__name__):
        assert convert_to_cgc(model)[1] == ["d"]
    (record,) = caplog.records
    for told in ("a (Standardised)", "b (ParametrizedConv2d)", "c (ConvTranspose2d)"):
        assert told in record.message


@pytest.mark.parametrize(
    ("only", "switches", "message"),
    [
        (("layer1", "layer3"), {}, "only has 'layer3', but no convolution to convert"),
        ("fc", {}, "only has 'fc'"),
        ((), {}, "no convolution to convert"),
        (lambda name, conv: False, {}, "no convolution to convert"),
        (None, {"pool": "mean"}, "pool is 'mean'"),
        (None, {"grid_size": (3,)}, "grid_size"),
        (None, {"reduction": 4}, "'reduction' is no switch"),
    ],
)
def test_mistakes_are_told_and_leave_the_model_alone(only, switches, message):
    model = ResNet()
    with pytest.raises(UserError, match=message):
        convert_to_cgc(model, only, **switches)
    assert gated(model) == [] and not hasattr(model.conv1, "gate")
