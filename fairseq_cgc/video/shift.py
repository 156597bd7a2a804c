"""The temporal shift of TSM: some channels of a frame come from the frames beside it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_cgc.vision.registry import Architecture
from fairseq_cgc.vision.resnet import BlockPart

_DEEP = 23  # blocks in the third stage, as ResNet-101 has


class TemporalShift(nn.Module):
    """Lin et al., "TSM: Temporal Shift Module" (ICCV 2019), section 3; not in place.

    Of C channels the first C / ``fraction`` come from the next frame, the following
    C / ``fraction`` from the previous one, the others stay. Where there is no such frame, at the
    clip's ends, they are zero.

    Args:
        frames: T, in a clip.
        fraction: one in how many channels is shifted each way.
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


def shift_distance(backbone: Architecture) -> int:
    """TSM's release shifts before every block, but in ResNet-101 before every second one."""
    return 2 if backbone.depths[2] >= _DEEP else 1


def temporal_shifts(frames: int, every: int) -> BlockPart:
    """A shift before each block of a stage whose index is a multiple of ``every``.

    Args:
        frames: T, in a clip.
        every: at least 1.
    """

    def shift(stage: str, index: int, blocks: int, channels: int) -> nn.Module | None:
        return TemporalShift(frames) if index % every == 0 else None

    return shift
