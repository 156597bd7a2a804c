"""Networks for clips, which see the frames of all clips as one batch of images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fairseq_cgc.core import UserError
from fairseq_cgc.video.relations import TemporalRelations
from fairseq_cgc.video.resnet3d import Convolution3d, ResNet3d
from fairseq_cgc.vision.bn_inception import BNInception
from fairseq_cgc.vision.network import ImageNetwork
from fairseq_cgc.vision.resnet import ResNet


class ClipNetwork(ImageNetwork):
    """What makes a network for images one for clips; a base class before it.

    Shifts, temporal convolutions, non-local blocks and gates are inside the network and know how
    many frames a clip has. What follows it is TSN's consensus, the mean of the frames' logits,
    unless one of the last three arguments says otherwise.

    Args:
        block, depths, others: of the network for images.
        num_classes: outputs of the classifier.
        num_frames: T, in a clip.
        dropout: share of the features that the classifier does not see in training.
        pools_clip: average the frames' features before dropout and classifier (P3D-A).
        relates: classify by the relations between frames (TRN).
        volume: makes the convolutions of a 3-D network that sees the maps from halfway; its
            features join the mean of the frames' features (ECO). None for no such network.
    """

    def __init__(
        self,
        *network: Any,
        num_classes: int,
        num_frames: int,
        dropout: float,
        pools_clip: bool = False,
        relates: bool = False,
        volume: Convolution3d | None = None,
        **others: Any,
    ) -> None:
        super().__init__(*network, num_classes=num_classes, **others)
        self.num_frames = num_frames
        self.pools_clip = pools_clip
        self.dropout = nn.Dropout(dropout)
        self.volume: ResNet3d | None = None
        if relates:
            self.fc = TemporalRelations(self.num_features, num_classes, num_frames)
        if volume is not None:
            self.pools_clip = True
            self.volume = ResNet3d(self.map_channels, self.volume_width, volume)
            self.fc = nn.Linear(self.num_features + self.volume.num_features, num_classes)

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
        maps, features = self.maps_and_features(clips.flatten(0, 1))
        features = features.unflatten(0, (len(clips), -1))  # B x T x C
        if self.pools_clip:
            features = features.mean(1, keepdim=True)
        if self.volume is not None:
            volumes = maps.unflatten(0, (len(clips), -1)).transpose(1, 2)  # B x c x T x h x w
            features = torch.cat([features, self.volume(volumes).unsqueeze(1)], dim=2)
        return self.fc(self.dropout(features)).mean(1)


class VideoResNet(ClipNetwork, ResNet):
    """A ResNet for clips."""


class VideoBNInception(ClipNetwork, BNInception):
    """BN-Inception for clips."""
