"""Non-local blocks: every position of a clip gathers from all others."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_cgc.vision.resnet import BlockPart


class NonLocal(nn.Module):
    """Wang et al., "Non-local Neural Networks" (CVPR 2018), section 3, embedded Gaussian.

    ``z_i = x_i + BN(W sum_j softmax_j(theta(x_i) . phi(x_j)) g(x_j))`` over the positions of all
    frames; theta, phi and g are 1 x 1 convolutions to C / 2 channels. As for all blocks of that
    paper, phi and g are max-pooled by 2 x 2 in space, so that a position looks at a quarter of
    the others, and the normalisation's scale starts at zero, so that the block starts as the
    identity.

    Args:
        channels: C.
        frames: T, in a clip.
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
        pool = partial(F.max_pool2d, kernel_size=2, ceil_mode=True)  # none is lost at odd sizes
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
    """After every other block of res2 and res3: two and three in ResNet-50.

    These are the stages of 28 x 28 and 14 x 14 maps (Wang et al.'s res3 and res4), from the
    first block of each on as in TSM's release, which the paper built on.

    Args:
        frames: in a clip, where these blocks are.
    """

    def block(stage: str, index: int, blocks: int, channels: int) -> nn.Module | None:
        return NonLocal(channels, frames) if stage in ("res2", "res3") and index % 2 == 0 else None

    return block
