import pytest
import torch
import torch.nn.functional as F
from tools import gradients
from torch import nn

from fairseq_cgc.core import CGConv2d
from fairseq_cgc.core.reference import context_gate
from fairseq_cgc.video.layers import TemporalConv, TemporalMaxPool


def written_out(layer, x, kernels):
    """One output frame at a time; kernels are B x o x c x k, one for each clip."""
    clips = x.unflatten(0, (-1, layer.frames))
    half, stride = kernels.shape[3] // 2, layer.conv.stride[0]
    out = []
    for clip, kernel in zip(clips, kernels, strict=True):
        for middle in range(0, layer.frames, stride):
            taps = [
                torch.einsum("oc,chw->ohw", kernel[:, :, tap], clip[middle + tap - half])
                for tap in range(kernel.shape[2])
                if 0 <= middle + tap - half < layer.frames
            ]
            out.append(torch.stack(taps).sum(0))
    frames = torch.stack(out)
    mean = frames.mean((0, 2, 3), keepdim=True)
    variance = ((frames - mean) ** 2).mean((0, 2, 3), keepdim=True)
    normalised = (frames - mean) / (variance + layer.bn.eps).sqrt()
    scale, shift = layer.bn.weight[:, None, None], layer.bn.bias[:, None, None]
    return (normalised * scale + shift).relu()


def layer_and_clips(kernel_size, frames, stride=1, convolution=nn.Conv2d):
    layer = TemporalConv(
        4, kernel_size, frames=frames, stride=stride, convolution=convolution
    ).double()
    nn.init.normal_(layer.bn.weight)
    nn.init.normal_(layer.bn.bias)
    x = torch.randn(2 * frames, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    return layer, x


@pytest.mark.parametrize("frames", [1, 4, 7])
@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 1), (5, 2)])
def test_equals_the_definition(kernel_size, stride, frames):
    layer, x = layer_and_clips(kernel_size, frames, stride)
    got = layer(x)
    want = written_out(layer, x, layer.conv.weight.squeeze(3).expand(2, -1, -1, -1))
    assert len(got) == 2 * -(-frames // stride)
    inputs = [x, *layer.parameters()]
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))


@pytest.mark.parametrize("frames", [1, 2, 3, 8])
def test_cgc_1d_equals_the_definition(frames):
    """Context: means over space, then over three spans of time."""
    layer, x = layer_and_clips(3, frames, convolution=CGConv2d)
    clips = x.unflatten(0, (2, frames))
    spans = [(i * frames // 3, -(-(i + 1) * frames // 3)) for i in range(3)]
    pooled = torch.stack([clips[:, a:b].mean((1, 3, 4)) for a, b in spans], 2)  # B x c x 3
    gate = context_gate(layer.conv.gate, pooled.unsqueeze(3))
    want = written_out(layer, x, (layer.conv.weight * gate).squeeze(4))
    got = layer(x)
    inputs = [x, *layer.parameters()]
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))


def test_cgc_1d_sizes():
    gate = TemporalConv(32, 3, frames=8, convolution=CGConv2d).conv.gate
    assert gate.encoder.shape == (2, 3)  # d = 3 // 2 + 1
    assert gate.in_decoder.shape == gate.out_decoder.shape == (3, 2)


@pytest.mark.parametrize("frames", [1, 4, 5])
def test_max_pooling_is_the_temporal_half_of_the_3d_one(frames):
    x = torch.randn(2 * frames, 3, 6, 5, dtype=torch.float64, requires_grad=True)
    clips = x.unflatten(0, (2, frames)).transpose(1, 2)
    want = F.max_pool3d(clips, 3, stride=2, padding=1).transpose(1, 2).flatten(0, 1)
    got = F.max_pool2d(TemporalMaxPool(frames)(x), 3, stride=2, padding=1)
    assert torch.equal(got, want)
    torch.testing.assert_close(gradients(got, [x]), gradients(want, [x]))


@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 1), (5, 2)])
def test_identity_hands_on_the_middle_frame(kernel_size, stride):
    layer = TemporalConv(4, kernel_size, frames=5, stride=stride).eval()
    layer.reset_to_identity()
    x = torch.rand(10, 4, 2, 3)
    want = x.unflatten(0, (2, 5))[:, ::stride].flatten(0, 1)
    torch.testing.assert_close(layer(x), want, rtol=1e-5, atol=0)
