"""Relations between frames: the classifier of TRN."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SUBSETS = 3  # of a scale, in each forward pass


class TemporalRelations(nn.Module):
    """Zhou et al., "Temporal Relational Reasoning in Videos" (ECCV 2018), equations 2 to 4.

    ``y = sum_s sum_r mlp_s(f_r1, ..., f_rs)``: the features of a clip's T frames are reduced to
    ``width`` numbers each; for every scale s from 2 to T, a network of one hidden layer sees s
    frames in their order. There is one subset of T frames; of a smaller scale, which has more of
    them, three are seen: other ones in each forward pass of a training, always the same in
    evaluation. (TRN's release draws anew in evaluation as well.)

    Args:
        channels: C of the features.
        num_classes: outputs.
        num_frames: T, at least 2.
        width: of the reduced features and of the hidden layers; 256 in TRN's release.
    """

    def __init__(
        self, channels: int, num_classes: int, num_frames: int, *, width: int = 256
    ) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.reduce = nn.Linear(channels, width)
        self.scales = nn.ModuleList(
            nn.Sequential(
                nn.Linear(size * width, width),
                nn.ReLU(inplace=True),
                nn.Linear(width, num_classes),
            )
            for size in range(2, num_frames + 1)
        )
        draws = random.Random(0)
        self._fixed = {
            size: _subsets(size, num_frames, lambda: draws.sample(range(num_frames), num_frames))
            for size in range(2, num_frames + 1)
        }

    def subsets(self, size: int) -> list[tuple[int, ...]]:
        """The frames, in their order, that the network of one scale sees in a forward pass."""
        if not self.training:
            return self._fixed[size]
        frames = self.num_frames
        return _subsets(size, frames, lambda: torch.randperm(frames, device="cpu").tolist())

    def forward(self, features: Tensor) -> Tensor:
        """Features, B x T x C, to logits of the clip, B x 1 x num_classes."""
        reduced = F.relu(self.reduce(features))
        votes = [
            scale(reduced[:, self.subsets(size)].flatten(2))  # B x subsets x num_classes
            for size, scale in enumerate(self.scales, start=2)
        ]
        return torch.cat(votes, dim=1).sum(1, keepdim=True)


def _subsets(size: int, frames: int, order: Callable[[], list[int]]) -> list[tuple[int, ...]]:
    """Different subsets of one size, each the beginning of a random ``order`` of the frames."""
    if size == frames:
        return [tuple(range(frames))]
    chosen: dict[tuple[int, ...], None] = {}
    while len(chosen) < _SUBSETS:
        chosen[tuple(sorted(order()[:size]))] = None
    return list(chosen)
