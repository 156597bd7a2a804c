"""A ResNet for clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.resnet import BasicBlock, Bottleneck, ResNet


class VideoResNet(ResNet):
    """A ResNet that sees the frames of all clips as one batch of images.

    What looks beyond its frame is a part of the blocks and knows how many frames a clip has: a
    shift, temporal convolutions, non-local blocks, gates.

    Args:
        block, depths, others: as :class:`ResNet`'s.
        num_frames: in a clip.
        dropout: share of the features that the classifier does not see while training.
        pools_clip: whether the frames' features are averaged before dropout and classifier
            (P3D-A), and not the frames' logits behind it (the segments' consensus of TSN).
            Without dropout that is the same.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        *,
        num_frames: int,
        dropout: float,
        pools_clip: bool,
        **others: Any,
    ) -> None:
        super().__init__(block, depths, **others)
        self.num_frames = num_frames
        self.pools_clip = pools_clip
        self.dropout = nn.Dropout(dropout)

    def forward(self, clips: Tensor) -> Tensor:
        """Classify clips.

        Args:
            clips: B x num_frames x in_channels x H x W.

        Returns:
            B x num_classes logits.

        Raises:
            UserError: if clips have another shape or are not floating point.
        """
        frames, channels = self.num_frames, self.conv1.in_channels
        if clips.dim() != 5 or clips.shape[1:3] != (frames, channels):
            raise UserError(
                f"clips must be B x {frames} x {channels} x H x W, but are {tuple(clips.shape)}"
            )
        if not clips.is_floating_point():
            raise UserError(f"clips must be floating point, but are {clips.dtype}")
        features = self.features(clips.flatten(0, 1)).unflatten(0, (len(clips), -1))
        if self.pools_clip:
            features = features.mean(1, keepdim=True)
        return self.fc(self.dropout(features)).mean(1)
