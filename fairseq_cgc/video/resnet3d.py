"""The 3-D network of ECO."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Convolution3d = Callable[..., nn.Conv3d]
"""Called like ``nn.Conv3d``."""


def _norm(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm3d(channels), nn.ReLU(inplace=True))


class Block3d(nn.Module):
    """Normalisation, then a residual of two 3 x 3 x 3 convolutions; the addition is not activated.

    The shortcut is the input, or a strided convolution of the normalised one.

    Args:
        in_channels, out_channels: of the block; a block with other outputs halves all dimensions.
        convolution: makes the convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, convolution: Convolution3d) -> None:
        super().__init__()
        halves = in_channels != out_channels
        stride = 2 if halves else 1
        self.norm1 = _norm(in_channels)
        self.conv1 = _conv(convolution, in_channels, out_channels, stride)
        self.norm2 = _norm(out_channels)
        self.conv2 = _conv(convolution, out_channels, out_channels)
        self.downsample = _conv(convolution, in_channels, out_channels, stride) if halves else None

    def forward(self, x: Tensor) -> Tensor:
        """B x in_channels x T x H x W to B x out_channels x T' x H' x W'."""
        out = self.norm1(x)
        shortcut = x if self.downsample is None else self.downsample(out)
        return self.conv2(self.norm2(self.conv1(out))) + shortcut


class ResNet3d(nn.Module):
    """The upper part of a 3-D ResNet-18: conv3_x to conv5_x, without the shortcut of the first.

    Zolfaghari et al., "ECO: Efficient Convolutional Network for Online Video Understanding"
    (ECCV 2018), appendix; blocks as in the authors' models.

    Args:
        in_channels: c of the maps.
        width: of the first blocks; those that follow have twice and four times as many channels.
        convolution: makes the convolutions.
    """

    def __init__(
        self, in_channels: int, width: int, convolution: Convolution3d = nn.Conv3d
    ) -> None:
        super().__init__()
        self.conv = _conv(convolution, in_channels, width)
        channels = (width, width, 2 * width, 2 * width, 4 * width, 4 * width)
        self.blocks = nn.Sequential(
            *(
                Block3d(before, after, convolution)
                for before, after in zip(channels, channels[1:], strict=False)
            )
        )
        self.num_features = channels[-1]
        self.norm = _norm(self.num_features)

    def forward(self, maps: Tensor) -> Tensor:
        """The maps of all frames of clips, B x c x T x h x w, to features, B x 4 width.

        On a CPU, autocast is off here: torch 2.13 returns wrong gradients of a 3 x 3 x 3 weight in
        bfloat16 where a padded map has two frames, as those of the last blocks for 8 frames.
        """
        if maps.device.type != "cpu":
            return self._features(maps)
        with torch.autocast("cpu", enabled=False):
            return self._features(maps.to(torch.promote_types(maps.dtype, torch.float32)))

    def _features(self, maps: Tensor) -> Tensor:
        return self.norm(self.blocks(self.conv(maps))).mean((2, 3, 4))


def _conv(
    convolution: Convolution3d, in_channels: int, out_channels: int, stride: int = 1
) -> nn.Conv3d:
    conv = convolution(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
