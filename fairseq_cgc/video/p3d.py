"""Where P3D-A has its temporal layers (appendix A.4)."""

from __future__ import annotations

from torch import nn

from fairseq_cgc.core import CGConv2d
from fairseq_cgc.video.temporal import TemporalConv, TemporalMaxPool
from fairseq_cgc.vision.registry import Architecture
from fairseq_cgc.vision.resnet import STEM, BlockPart, Bottleneck


def frames_in_blocks(num_frames: int, backbone: Architecture) -> int:
    """How many frames the stem leaves: half of them, and half of those if it has a pooling."""
    halved = _half(num_frames)
    return halved if backbone.small_images else _half(halved)


def temporal_layers(num_frames: int, backbone: Architecture, *, gated: bool) -> BlockPart:
    """The temporal layers of P3D-A, as :class:`fairseq_cgc.vision.resnet.ResNet` takes them.

    A 5 x 1 x 1 convolution of stride 2 after the first convolution, the inflation of the max
    pooling behind it (a backbone for small images has none), and a 3 x 1 x 1 convolution for
    every two 1 x 3 x 3 ones. These are counted within each stage: with bottlenecks every second
    block has one, after its 3 x 3 convolution, and with two 3 x 3 convolutions to a basic block
    every block, between them, so that the residual goes on to end in a normalisation.

    1 x k x k convolutions are 2-D ones of every frame: weights of images need no inflation.

    Args:
        num_frames: in a clip.
        backbone: the ResNet.
        gated: whether those in the blocks are context-gated.
    """
    frames = frames_in_blocks(num_frames, backbone)
    convolution = CGConv2d if gated else nn.Conv2d

    def layer(stage: str, index: int, blocks: int, channels: int) -> nn.Module | None:
        if stage == STEM:
            stem = TemporalConv(channels, 5, frames=num_frames, stride=2)
            if backbone.small_images:
                return stem
            return nn.Sequential(stem, TemporalMaxPool(_half(num_frames)))
        if backbone.block is Bottleneck and index % 2 == 0:
            return None
        return TemporalConv(channels, 3, frames=frames, convolution=convolution)

    return layer


def _half(frames: int) -> int:
    return (frames + 1) // 2
