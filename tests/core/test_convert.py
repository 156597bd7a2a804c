import copy
import logging
import re

import pytest
import torch
import torch.nn.utils.prune
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
def test_only_the_selected_parts_are_converted(only, names):
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


class Standardised(nn.Conv2d):
    pass


class Own(nn.Module):
    """Like torchvision's DeformConv2d, which is not an ``nn.Conv2d``."""

    def __init__(self):
        super().__init__()
        self.kernel_size = (3, 3)


OwnConv2d = type("OwnConv2d", (Own,), {})
NOT_CONVERTED = {
    "ConvTranspose2d: transposed": lambda: nn.ConvTranspose2d(4, 4, 3),
    "ParametrizedConv2d: parametrised: convert the model first": lambda: (
        nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3))
    ),
    "ParametrizedConv1d: parametrised": lambda: nn.utils.parametrizations.spectral_norm(
        nn.Conv1d(4, 4, 3)
    ),
    "ParametrizedConvTranspose2d: transposed": lambda: nn.utils.parametrizations.weight_norm(
        nn.ConvTranspose2d(4, 4, 3)
    ),
    "LazyConv2d: lazy: run the model once": lambda: nn.LazyConv2d(4, 3),
    "Conv2d: compiled by torch.jit": lambda: torch.jit.script(nn.Conv2d(4, 4, 3)),
    "Conv1d: compiled by torch.jit": lambda: torch.jit.trace(
        nn.Conv1d(4, 4, 3), torch.randn(1, 4, 5)
    ),
    "Conv2d: quantised": lambda: torch.ao.nn.quantized.Conv2d(4, 4, 3),
    "ConvBnReLU2d: quantised": lambda: torch.ao.nn.intrinsic.qat.ConvBnReLU2d(
        4, 4, 3, qconfig=torch.ao.quantization.get_default_qat_qconfig()
    ),
    "CGConv2d: gated already": lambda: CGConv2d(4, 4, 3),
    "Conv2d: kernels of 1": lambda: nn.Conv2d(4, 4, 1),
    "Conv2d: complex weights": lambda: nn.Conv2d(4, 4, 3, dtype=torch.cfloat),
    "Standardised: a class of its own": lambda: Standardised(4, 4, 3),
    "OwnConv2d: a class of its own": OwnConv2d,
    "it has none": lambda: nn.Sequential(nn.Linear(4, 4), nn.MaxPool2d(3), nn.Unfold(3)),
}


@pytest.mark.filterwarnings("ignore:.*deprecated", "ignore:.*observers", "ignore:Lazy modules")
@pytest.mark.parametrize("message", NOT_CONVERTED)
def test_every_other_convolution_stays_and_is_reported(message, caplog):
    conv = NOT_CONVERTED[message]()
    before = type(conv)
    told = f"the model has no convolution to convert: {message}"
    with pytest.raises(UserError, match=re.escape(told)):
        convert_to_cgc(conv)
    model = nn.ModuleDict({"a": conv, "b": nn.Conv2d(4, 4, 3)})
    named = f"a ({message.replace(':', '):', 1)}"
    if message == "it has none":
        named = "there is no convolution of such a name"
    with pytest.raises(
        UserError, match=re.escape(f"only has 'a', but no convolution to convert: {named}")
    ):
        convert_to_cgc(model, ("b", "a"))
    assert type(model["b"]) is nn.Conv2d
    with caplog.at_level(logging.WARNING, logger=convert.__name__):
        assert convert_to_cgc(model)[1] == ["b"]
    expected = any(word in message for word in ("already", "kernels of 1", "none"))
    assert [f"no context gate for {named}" in text for text in caplog.messages] == (
        [] if expected else [True]
    )
    assert type(conv) is before


def test_convolutions_that_stay_are_reported_by_reason(caplog):
    model = nn.Sequential(*[nn.ConvTranspose1d(2, 2, 3) for _ in range(5)], Standardised(2, 2, 3))
    told = (
        "0 (ConvTranspose1d), 1 (ConvTranspose1d), 2 (ConvTranspose1d) and 2 more: transposed, for "
        "which no gate is defined; 5 (Standardised): a class of its own"
    )
    with pytest.raises(UserError, match=re.escape(told)):
        convert_to_cgc(model)


@pytest.mark.filterwarnings("ignore:.*weight_norm", "ignore:.*deprecated")
@pytest.mark.parametrize(
    "reparametrise",
    [
        lambda conv: nn.utils.prune.l1_unstructured(conv, "weight", 0.5),
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
    ],
    ids=["pruned", "weight norm", "spectral norm"],
)
def test_weights_that_hooks_compute_are_gated_and_trained(reparametrise):
    conv = reparametrise(nn.Conv2d(4, 4, 3))
    convert_to_cgc(conv)
    with torch.no_grad():  # every gate is 1/2
        conv.gate.in_decoder.zero_(), conv.gate.out_decoder.zero_()
    x = torch.randn(2, 4, 6, 6)
    out = conv.eval()(x)
    halved = nn.functional.conv2d(x, conv.weight / 2, conv.bias)
    torch.testing.assert_close(out, halved, atol=1e-5, rtol=1e-5)
    out.sum().backward()
    assert [name for name, p in conv.named_parameters() if p.grad is None] == []


def test_a_converted_convolution_can_be_parametrised():
    conv, _ = convert_to_cgc(nn.Conv2d(4, 4, 3))
    x = torch.randn(2, 4, 6, 6)
    before = conv.eval()(x)
    nn.utils.parametrizations.weight_norm(conv)
    torch.testing.assert_close(conv(x), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("only", ["1", ("1", "0"), "0", lambda name, conv: name == "1"])
def test_a_shared_module_is_converted_once_by_any_of_its_names(only):
    shared = nn.Conv2d(4, 4, 3)
    model = nn.Sequential(shared, shared, nn.Conv2d(4, 4, 3))
    _, names = convert_to_cgc(model, only)
    assert len(names) == 1 and type(model.get_submodule(names[0])) is CGConv2d
    assert model[0] is model[1] is shared and type(model[2]) is nn.Conv2d


class Wrapper(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module


@pytest.mark.parametrize(
    "name",
    [
        "DistributedDataParallel",
        "LegacyDistributedDataParallel",  # fairseq's
        "FullyShardedDataParallel",
        "FSDPModule",
        "DeepSpeedEngine",
    ],
)
def test_what_synchronises_parameters_is_refused_by_its_name(name):
    wrapped = type("Own", (type(name, (Wrapper,), {}),), {})(ResNet())
    for model, where in ((wrapped, ""), (nn.Sequential(nn.ReLU(), wrapped), r" \(at '1'\)")):
        with pytest.raises(UserError, match=f"wrapped in {name}{where}, which would not synchron"):
            convert_to_cgc(model, lambda name, conv: False)
    assert gated(wrapped) == []
    assert convert_to_cgc(nn.DataParallel(nn.Conv2d(4, 4, 3)))[1] == ["module"]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_torchs_own_wrappers_are_refused(tmp_path):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", store, rank=0, world_size=1)
    try:
        ddp = nn.parallel.DistributedDataParallel(nn.Conv2d(4, 4, 3))
        sharded = nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 3)))
        fully_shard(sharded, mesh=init_device_mesh("cpu", (1,)))
        for model, message in (
            (ddp, "wrapped in DistributedDataParallel"),
            (sharded, "wrapped in FSDPModule"),
            (sharded[0], "parameters are distributed"),
        ):
            with pytest.raises(UserError, match=message):
                convert_to_cgc(model)
        assert convert_to_cgc(ddp.module)[1] == [""]  # cannot be seen from inside
    finally:
        torch.distributed.destroy_process_group()


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
def test_mistakes_are_refused_and_leave_the_model_alone(only, switches, message):
    model = ResNet()
    with pytest.raises(UserError, match=message):
        convert_to_cgc(model, only, **switches)
    assert gated(model) == [] and not hasattr(model.conv1, "gate")
