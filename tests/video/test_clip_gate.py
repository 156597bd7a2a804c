import pytest
import torch
import torch.nn.functional as F
from tools import gradients
from torch import nn

from fairseq_cgc.core.reference import context_gate
from fairseq_cgc.video.layers import ClipGatedConv2d


def written_out(conv, x):
    """One frame of one clip at a time, with its gate."""
    clips = x.unflatten(0, (-1, conv.frames))
    gates = context_gate(conv.gate, pooled(clips, conv.kernel_size[0]))  # B x o x c x t x k x k
    out = []
    for clip, gate in zip(clips, gates, strict=True):
        for i, frame in enumerate(clip):
            kernel = conv.weight * (gate[:, :, i] if gate.shape[2] > 1 else gate[:, :, 0])
            out.append(F.conv2d(frame[None], kernel, conv.bias, conv.stride, conv.padding)[0])
    return torch.stack(out)


def pooled(clips, k):
    """The mean of each of k x k x k boxes: B x T x c x H x W to B x c x k x k x k."""

    def spans(length):
        return [slice(i * length // k, -(-(i + 1) * length // k)) for i in range(k)]

    boxes = [
        clips[:, t, :, i, j].mean((1, 3, 4))
        for t in spans(clips.shape[1])
        for i in spans(clips.shape[3])
        for j in spans(clips.shape[4])
    ]
    return torch.stack(boxes, 2).unflatten(2, (k, k, k))


def conv_and_frames(frames, per_frame, *, channels=(2, 4), kernel_size=3, stride=1, bias=False):
    conv = ClipGatedConv2d(
        *channels, kernel_size, stride, kernel_size // 2, bias, frames=frames, per_frame=per_frame
    ).double()
    x = torch.randn(2 * frames, channels[0], 5, 4, dtype=torch.float64, requires_grad=True)
    return conv, x


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "bias": True},
        {"channels": (16, 32)},
        {"channels": (3, 4), "kernel_size": 7, "stride": 2},
    ],
    ids=["plain", "strided", "grouped interaction", "stem"],
)
@pytest.mark.parametrize("per_frame", [True, False])
@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_equals_the_definition(frames, per_frame, options):
    conv, x = conv_and_frames(frames, per_frame, **options)
    got, want = conv(x), written_out(conv, x)
    inputs = [x, *conv.parameters()]
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))


@pytest.mark.parametrize("per_frame", [True, False])
def test_gradients_by_differences(per_frame):
    conv, x = conv_and_frames(2, per_frame)
    conv.eval()
    for norm in (conv.gate.in_norm, conv.gate.out_norm, conv.gate.interaction_norm):
        nn.init.normal_(norm.bias)  # away from the kink of the ReLU
    inputs = [x, *conv.parameters()]
    assert torch.autograd.gradcheck(lambda *_: conv(x), inputs, fast_mode=True)


@pytest.mark.parametrize("per_frame", [True, False])
def test_the_gate_itself_takes_the_clip(per_frame):
    """``gate(clip)``, o x c x t x k x k, is what the frames' kernels are multiplied with."""
    conv, x = conv_and_frames(4, per_frame)
    conv.eval()
    gates = conv.gate(x.unflatten(0, (2, 4)).transpose(1, 2))
    assert gates.shape == (2, 4, 2, 4 if per_frame else 1, 3, 3)
    kernels = (conv.weight[:, :, None] * gates).permute(0, 3, 1, 2, 4, 5)  # B x t x o x c x ...
    want = kernels.expand(2, 4, -1, -1, -1, -1).flatten(0, 1)
    torch.testing.assert_close(conv.sample_kernels(x), want)


def test_frames_have_gates_of_their_own():
    conv, x = conv_and_frames(3, True)
    kernels = conv.sample_kernels(x)
    assert not torch.allclose(kernels[0], kernels[1])


@pytest.mark.parametrize(("kernel_size", "latent"), [(3, 14), (7, 172)])
def test_sizes_of_section_4_3(kernel_size, latent):
    gate = ClipGatedConv2d(3, 64, kernel_size, frames=8, per_frame=True).gate
    assert gate.encoder.shape == (latent, kernel_size**3)
    assert gate.in_decoder.shape == gate.out_decoder.shape == (8 * kernel_size**2, latent)
    assert gate.interaction.shape == (64, 3)


def test_a_frame_sees_its_clip_and_no_other():
    conv, x = conv_and_frames(3, True)
    conv.eval()
    other = x.detach().clone()
    other[0] += 1
    changed = (conv(other) - conv(x)).abs().amax((1, 2, 3)) > 1e-9
    assert changed.tolist() == [True] * 3 + [False] * 3
