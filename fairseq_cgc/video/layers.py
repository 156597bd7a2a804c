"""The layers that look beyond a frame: P3D-A's, CGC 3-D, non-local blocks and TSM's shift.

The temporal layers of P3D-A (appendix A.4) take a clip as a picture: its frames are the rows, the
positions in a frame the columns.

Shape letters: B clips, T frames in a clip, C channels, c input channels, o output channels,
k kernel width, t gates in a clip.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_cgc.core import CGConv2d, ContextGate
from fairseq_cgc.vision.resnet import STEM, BlockPart, Bottleneck, Convolution, Shape


class TemporalConv(nn.Module):
    """A k x 1 x 1 convolution, batch normalisation and ReLU.

    With ``convolution=CGConv2d`` it is CGC 1-D (section 4.3): the pooled grid, the kernel's own
    size, keeps k positions in time and none in space; they are encoded to d = k // 2 + 1 numbers,
    which gate the k taps of every clip's kernel.

    Args:
        channels: C.
        kernel_size: k, in frames.
        frames: T.
        stride: in frames.
        convolution: makes the convolution.
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
        """Make the convolution pass on the frame under the middle of its kernel."""
        nn.init.dirac_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """The frames of all clips, BT x C x H x W, to BT' x C x H x W, T' = ceil(T / stride)."""
        clips = x.unflatten(0, (-1, self.frames)).transpose(1, 2)  # B x C x T x H x W
        out = F.relu(self.bn(self.conv(clips.flatten(3))))  # B x C x T' x HW
        return out.unflatten(3, x.shape[2:]).transpose(1, 2).flatten(0, 1)


class TemporalMaxPool(nn.Module):
    """A maximum over 3 of T frames with stride 2: the temporal half of a 3-D max pooling."""

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


class ClipGatedConv2d(CGConv2d):
    """``nn.Conv2d`` of the frames of all clips, BT x c x H x W, with kernels gated by the clip.

    The clip, c x T x H x W, is pooled to c x k x k x k; each channel's k^3 numbers are encoded to
    d = k^3 // 2 + 1, from which gates of o x c x t x k x k are decoded. With t = T (TSN and TSM)
    frame i is convolved with ``weight * gate[:, :, i]``; with t = 1 (P3D-A, whose spatial kernels
    are 1 x k x k) all frames are convolved with the same kernel.

    Parameters are named as in :class:`CGConv2d`; ``gate(clip)`` gives the gates.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, bias: as ``nn.Conv2d``'s.
        frames: T.
        per_frame: whether t = T; else t = 1.
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
        # Not CGConv2d's __init__, which would make a gate of two dimensions.
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
        # A mean over a box is the mean over time of means over space; the latter need no copy of
        # the clip with its channels before its frames.
        grid = F.adaptive_avg_pool2d(x, self.kernel_size[0]).to(self.weight.dtype)
        return grid.unflatten(0, (-1, self.frames)).transpose(1, 2)

    def _for_samples(self, gate: Tensor) -> Tensor:
        """One gate for each frame: B x ... x t x k x k to BT x ... x k x k."""
        gate = gate.movedim(-3, 1)
        return gate.expand(-1, self.frames, *gate.shape[2:]).flatten(0, 1)


class NonLocal(nn.Module):
    """Wang et al., "Non-local Neural Networks" (CVPR 2018), section 3, embedded Gaussian.

    ``z_i = x_i + BN(W sum_j softmax_j(theta(x_i) . phi(x_j)) g(x_j))`` over the positions of all
    frames; theta, phi and g are 1 x 1 convolutions to C / 2 channels. As in that paper, phi and g
    are max-pooled by 2 x 2 in space, so that a position attends to a quarter of the others, and
    the scale of the normalisation starts at zero, so that the block starts as the identity.
    ``channels`` is C, ``frames`` is T.
    """

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        width = channels // 2
        self.theta = nn.Conv2d(channels, width, 1)
        self.phi = nn.Conv2d(channels, width, 1)
        self.g = nn.Conv2d(channels, width, 1)
        self.W = nn.Conv2d(width, channels, 1)
        self.bn = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.bn.weight)

    def forward(self, x: Tensor) -> Tensor:
        """The frames of all clips, BT x C x H x W, to the same."""
        pool = partial(F.max_pool2d, kernel_size=2, ceil_mode=True)  # odd sizes lose nothing
        queries, keys, values = self.theta(x), pool(self.phi(x)), pool(self.g(x))
        gathered = F.scaled_dot_product_attention(
            self._positions(queries), self._positions(keys), self._positions(values), scale=1.0
        )  # B x 1 x THW x C/2
        frames = gathered.flatten(0, 1).unflatten(1, (self.frames, -1)).flatten(0, 1)
        maps = frames.mT.unflatten(2, x.shape[2:])  # BT x C/2 x H x W
        return x + self.bn(self.W(maps))

    def _positions(self, x: Tensor) -> Tensor:
        """BT x C/2 x h x w to B x 1 x Thw x C/2, a single head of attention."""
        return x.flatten(2).mT.unflatten(0, (-1, 1, self.frames)).flatten(2, 3)


def non_local_blocks(frames: int) -> BlockPart:
    """After every other block of res2 and res3, from the first on: five blocks in ResNet-50.

    These are the stages of 28 x 28 and 14 x 14 maps (Wang et al.'s res3 and res4). The places are
    those of TSM's release, on which the paper builds. ``frames`` is T at these blocks.
    """

    def block(stage: str, index: int, blocks: int, channels: int) -> nn.Module | None:
        return NonLocal(channels, frames) if stage in ("res2", "res3") and index % 2 == 0 else None

    return block


class TemporalShift(nn.Module):
    """Lin et al., "TSM: Temporal Shift Module" (ICCV 2019), section 3; not in place.

    The first C / ``fraction`` channels come from the next frame, the following C / ``fraction``
    from the previous one, the others stay. At the ends of the clip, shifted channels are zero.
    ``frames`` is T.
    """

    def __init__(self, frames: int, fraction: int = 8) -> None:
        super().__init__()
        self.frames, self.fraction = frames, fraction

    def forward(self, x: Tensor) -> Tensor:
        """The frames of all clips, BT x C x H x W, to the same."""
        clips = x.unflatten(0, (-1, self.frames))
        shifted = clips.shape[2] // self.fraction
        following, previous, still = clips.tensor_split([shifted, 2 * shifted], dim=2)
        # Padding counts from the last dimension: W, H, C, then T.
        following = F.pad(following[:, 1:], (0, 0, 0, 0, 0, 0, 0, 1))
        previous = F.pad(previous[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))
        return torch.cat([following, previous, still], dim=2).flatten(0, 1)

    def extra_repr(self) -> str:
        return f"frames={self.frames}, fraction={self.fraction}"


def shift_distance(backbone: Shape) -> int:
    """Blocks per shift in TSM's release: 1, but 2 in ResNet-101 and deeper."""
    return 2 if max(backbone.depths) >= 23 else 1


def temporal_shifts(frames: int, every: int) -> BlockPart:
    """A shift between T frames before every ``every``-th block of a stage, the first included."""

    def shift(stage: str, index: int, blocks: int, channels: int) -> nn.Module | None:
        return TemporalShift(frames) if index % every == 0 else None

    return shift


def frames_in_blocks(num_frames: int, backbone: Shape) -> int:
    """How many frames P3D-A's stem leaves: a half, or a quarter if it has a max pooling."""
    halved = _half(num_frames)
    return halved if backbone.small_images else _half(halved)


def temporal_layers(num_frames: int, backbone: Shape, *, gated: bool) -> BlockPart:
    """The temporal layers of P3D-A, as :class:`fairseq_cgc.vision.resnet.ResNet` takes them.

    The stem gets a 5 x 1 x 1 convolution of stride 2 after its first convolution, and its max
    pooling, if it has one, becomes 3-D. The blocks get a 3 x 1 x 1 convolution for every two
    1 x 3 x 3 ones, counted within each stage: every second bottleneck after its 3 x 3
    convolution, and every basic block between its two, so that the residual still ends in a
    normalisation. 1 x k x k convolutions are 2-D convolutions of every frame, so weights of image
    models need no inflation. With ``gated``, the temporal convolutions in the blocks are gated.
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
