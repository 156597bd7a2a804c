import pytest
import torch
from torch import nn

from fairseq_cgc.vision.resnet import BasicBlock, Bottleneck, ResNet, stage_names


class Double(nn.Module):
    def forward(self, x):
        return 2 * x


class Names(nn.Module):
    """Keeps what it was made for; the identity."""

    def __init__(self, *made_for):
        super().__init__()
        self.made_for = made_for

    def forward(self, x):
        return x


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_block_adds_its_input(block):
    module = block(8, 8 // block.expansion).eval()
    last = module.bn2 if block is BasicBlock else module.bn3
    nn.init.zeros_(last.weight)
    x = torch.randn(2, 8, 5, 7)
    assert module.downsample is None
    torch.testing.assert_close(module(x), x.relu())


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_shortcut_where_the_shape_changes(block):
    module = block(6, 8, stride=2)
    conv, norm = module.downsample
    channels = 8 * block.expansion
    assert conv.weight.shape == (channels, 6, 1, 1) and conv.bias is None
    assert norm.weight.shape == (channels,)
    assert module(torch.randn(2, 6, 5, 8)).shape == (2, channels, 3, 4)


def test_bottleneck_strides_in_its_3x3():
    block = Bottleneck(64, 64, stride=2)
    assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2))


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_attention_changes_the_residual_and_after_the_output(block):
    make = {"in_channels": 8, "width": 8 // block.expansion}
    plain, other = block(**make), block(**make, attention=lambda c: Double(), after=Double())
    other.load_state_dict(plain.state_dict())
    plain.eval(), other.eval()
    last = "bn2" if block is BasicBlock else "bn3"
    residual = []
    plain.get_submodule(last).register_forward_hook(lambda m, i, o: residual.append(o.clone()))
    x = torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(plain(x), (residual[0] + x).relu())
    torch.testing.assert_close(other(x), 2 * (2 * residual[0] + x).relu())


def test_hooks_are_told_where_they_are():
    model = ResNet(
        BasicBlock,
        (1, 2),
        num_classes=3,
        width=4,
        small_images=True,
        attention=Names,
        after=lambda *where: Names(*where) if where[1] == where[2] - 1 else None,
    )
    assert [m.made_for for m in model.modules() if isinstance(m, Names)] == [
        (4,),
        ("res1", 0, 1, 4),
        (8,),
        (8,),
        ("res2", 1, 2, 8),
    ]


def test_convolutions_by_stage():
    class Marked(nn.Conv2d):
        pass

    model = ResNet(
        Bottleneck,
        (1, 2, 1),
        num_classes=3,
        convolution=lambda stage: Marked if stage in ("stem", "res2") else nn.Conv2d,
    )
    marked = [name for name, m in model.named_modules() if isinstance(m, Marked)]
    assert marked == ["conv1", "layer2.0.conv2", "layer2.1.conv2"]
    assert stage_names((1, 2, 1)) == ("stem", "res1", "res2", "res3")


@pytest.mark.parametrize(("small", "sizes"), [(True, [32, 32, 16, 8]), (False, [8, 8, 4, 2])])
def test_size_of_the_map_after_each_stage(small, sizes):
    model = ResNet(BasicBlock, (1, 1, 1), num_classes=3, width=4, small_images=small)
    seen = []
    for module in (model.maxpool, model.layer1, model.layer2, model.layer3):
        module.register_forward_hook(lambda m, i, o: seen.append(o.shape[-1]))
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 3)
    assert seen == sizes


def test_initialised_as_kaiming_says():
    block = Bottleneck(256, 256, stride=2)
    for conv in (block.conv1, block.conv2, block.conv3, block.downsample[0]):
        fan_out = conv.out_channels * conv.kernel_size[0] ** 2
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.02)
    assert torch.equal(block.bn3.weight, torch.ones(1024))
