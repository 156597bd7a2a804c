"""CGC 3-D: 2-D convolutions of frames whose gates come from the whole clip (section 4.3).

Shape letters: B clips, T frames in a clip, c input channels, o output channels, k kernel width,
t gates in a clip.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_cgc.core import CGConv2d, ContextGate


class ClipGatedConv2d(CGConv2d):
    """``nn.Conv2d`` of the frames of all clips, BT x c x H x W, with kernels gated by the clip.

    The clip, c x T x H x W, is pooled to c x k x k x k; each channel's k^3 numbers are encoded to
    d = k^3 // 2 + 1, and the gates that are decoded from them are o x c x t x k x k. With
    t = T, in TSN and TSM, frame i is convolved with ``weight * gate[:, :, i]``; with t = 1, in
    P3D-A whose spatial kernels are 1 x k x k, all frames with the same.

    Parameters are named as in :class:`CGConv2d`; ``gate(clip)`` gives the gates.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, bias: as ``nn.Conv2d``'s.
        frames: T.
        per_frame: whether t = T, and not 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        *,
        frames: int,
        per_frame: bool,
    ) -> None:
        # Not CGConv2d's, which would make a gate of two dimensions.
        nn.Conv2d.__init__(self, in_channels, out_channels, kernel_size, stride, padding, bias=bias)
        self.frames = frames
        self.gate = ContextGate(
            in_channels,
            out_channels,
            (frames if per_frame else 1, kernel_size, kernel_size),
            grid_size=(kernel_size,) * 3,
            latent_size=kernel_size**3 // 2 + 1,
        )

    def _context(self, x: Tensor) -> Tensor:
        """The clips pooled in space: BT x c x H x W to B x c x T x k x k."""
        # A mean over a box is the mean over time of means over space: frame by frame the pooling
        # needs no copy of the clip with its channels before its frames.
        grid = F.adaptive_avg_pool2d(x, self.kernel_size[0]).to(self.weight.dtype)
        return grid.unflatten(0, (-1, self.frames)).transpose(1, 2)

    def _for_samples(self, gate: Tensor) -> Tensor:
        """For each frame: B x ... x t x k x k to BT x ... x k x k."""
        gate = gate.movedim(-3, 1)
        return gate.expand(-1, self.frames, *gate.shape[2:]).flatten(0, 1)
