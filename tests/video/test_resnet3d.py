"""ECO and its 3-D network against torch's functions."""

import pytest
import torch
import torch.nn.functional as F
from test_video_model import all_parts_at_work, small_model
from tools import gradients
from torch import nn

from fairseq_cgc.core import CGConv3d
from fairseq_cgc.video import create_model
from fairseq_cgc.video.layers import ClipGatedConv2d
from fairseq_cgc.video.resnet3d import ResNet3d


def activated(part, x):
    norm = part[0]
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()


def written_out(network, x):
    """The blocks one after another: 128, 128, 256 (halved), 256, 512 (halved), 512 channels."""
    x = F.conv3d(x, network.conv.weight, padding=1)
    for block, halved in zip(network.blocks, (False, True, False, True, False), strict=True):
        stride = 2 if halved else 1
        h = activated(block.norm1, x)
        if halved:
            x = F.conv3d(h, block.downsample.weight, stride=2, padding=1)
        h = activated(block.norm2, F.conv3d(h, block.conv1.weight, stride=stride, padding=1))
        x = x + F.conv3d(h, block.conv2.weight, padding=1)
    return activated(network.norm, x).flatten(2).mean(2)


@pytest.mark.parametrize("shape", [(4, 5, 6), (7, 1, 3), (1, 2, 2)])
def test_outputs_and_gradients(shape):
    network = all_parts_at_work(ResNet3d(3, 4)).double()
    maps = torch.randn(2, 3, *shape, dtype=torch.float64, requires_grad=True)
    inputs = [maps, *network.parameters()]
    got, want = network(maps), written_out(network, maps)
    assert got.shape == (2, network.num_features) == (2, 16)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))


@pytest.mark.parametrize("convolution", [nn.Conv3d, CGConv3d])
def test_gradients_in_bfloat16(convolution):
    """The last maps have two frames, for which torch's own gradients are wrong by far."""
    network = ResNet3d(16, 16, convolution)
    maps = torch.randn(2, 16, 8, 8, 8)
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            out = network(maps)
        found.append(torch.autograd.grad(out.float().square().sum(), list(network.parameters())))
    for plain, mixed in zip(*found, strict=True):
        assert (mixed - plain).abs().max() < 0.1 * plain.abs().max()


@pytest.mark.parametrize("frames", [4, 7])
def test_eco_joins_the_frames_and_the_volume(frames):
    """The maps are those after layer2, and the features of both networks make the logits."""
    model = all_parts_at_work(small_model("eco", frames=frames)).double()
    clips = torch.randn(2, frames, 3, 12, 10, dtype=torch.float64)
    want = []
    for clip in clips:
        x = model.bn1(model.conv1(clip)).relu()
        maps = model.layer2(model.layer1(x))
        frame_features = model.layer3(maps).mean((2, 3)).mean(0)
        volume = written_out(model.volume, maps.transpose(0, 1).unsqueeze(0))[0]
        want.append(model.fc(torch.cat([frame_features, volume])))
    torch.testing.assert_close(model(clips), torch.stack(want))


def test_the_gates_of_eco():
    with torch.device("meta"):
        model = create_model("eco_cgc", backbone="bn_inception")
    of_clips = [m for m in model.modules() if isinstance(m, ClipGatedConv2d)]
    assert len(of_clips) == 2 + 10 * 3 and {m.gate.kernel_size[0] for m in of_clips} == {8}
    of_volumes = {n for n, m in model.named_modules() if isinstance(m, CGConv3d)}
    plain = {n for n, m in model.named_modules() if isinstance(m, nn.Conv3d)}
    assert of_volumes == plain and len(plain) == 1 + 5 * 2 + 2
    gate = model.volume.conv.gate  # section 4.3: k x k x k pooled positions, about k^3 / 2 numbers
    assert gate.encoder.shape == (14, 27) and gate.kernel_size == (3, 3, 3)
    pointwise = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert not any(isinstance(m, ClipGatedConv2d) for m in pointwise)
