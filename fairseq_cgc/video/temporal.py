"""What P3D-A does along time: convolutions and a pooling of k x 1 x 1 (appendix A.4).

A clip counts as a picture here, its frames as rows and the positions of a frame as columns.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_cgc.vision.resnet import Convolution


class TemporalConv(nn.Module):
    """A k x 1 x 1 convolution, batch normalisation and ReLU.

    With ``convolution=CGConv2d`` it is CGC 1-D (section 4.3): the kernel's own size as the grid
    means that space is pooled away and time to k positions, from which come d = k // 2 + 1
    latent numbers and a gate for the k taps of every clip's kernel.

    Args:
        channels: C, of input and output.
        kernel_size: k, in frames.
        frames: T, in a clip.
        stride: in frames.
        convolution: makes it.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        *,
        frames: int,
        stride: int = 1,
        convolution: Convolution = nn.Conv2d,
    ) -> None:
        super().__init__()
        self.frames = frames
        self.conv = convolution(
            channels,
            channels,
            (kernel_size, 1),
            stride=(stride, 1),
            padding=(kernel_size // 2, 0),
            bias=False,
        )
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.bn = nn.BatchNorm2d(channels)

    def reset_to_identity(self) -> None:
        """A kernel that hands on the frame under its middle."""
        nn.init.dirac_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """The frames of all clips, BT x C x H x W, to BT' x C x H x W, T' = ceil(T / stride)."""
        clips = x.unflatten(0, (-1, self.frames)).transpose(1, 2)  # B x C x T x H x W
        out = F.relu(self.bn(self.conv(clips.flatten(3))))  # B x C x T' x HW
        return out.unflatten(3, x.shape[2:]).transpose(1, 2).flatten(0, 1)


class TemporalMaxPool(nn.Module):
    """A maximum over 3 frames, every other frame. With the 2-D one behind it, it is 3-D.

    Args:
        frames: T, in a clip.
    """

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        """The frames of all clips, BT x C x H x W, to BT' x C x H x W, T' = ceil(T / 2)."""
        clips = x.unflatten(0, (-1, self.frames)).flatten(2)  # B x T x CHW
        out = F.max_pool2d(clips, (3, 1), stride=(2, 1), padding=(1, 0))
        return out.unflatten(2, x.shape[1:]).flatten(0, 1)

    def extra_repr(self) -> str:
        return f"frames={self.frames}"
