"""Generated clips whose class depends on the order of their frames alone.

A shape moves to the left or to the right, or opens or closes. The reversal of every clip is in the
same split, with the opposite label. A model that averages over frames gives both the same answer,
so it is right for half of them at most, if it can tell moving from scaling; chance is 25 %.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fairseq_cgc.vision.data.dataset import SPLITS, Data, Statistics
from fairseq_cgc.vision.data.memory import MemoryImages
from fairseq_cgc.vision.data.seeds import generator
from fairseq_cgc.vision.data.transforms import Crops

MOTION = "motion"
CLASSES = ("right", "left", "opening", "closing")  # each beside its reversal
SIZE = 24  # pixels, of a side
_PAIRS = {"train": 480, "val": 120}  # a clip and its reversal
_TRAVEL = (6.0, 12.0)  # pixels that a moving centre travels from the first frame to the last
_GROWTH = (3.0, 5.0)  # pixels by which the radius of an opening shape grows
_NOISE = 0.1  # standard deviation; the shape's brightness is up to 1
# Of the training clips; 8 frames or 16 hardly differ.
_STATISTICS = Statistics((0.116,), (0.230,))


class MemoryVideos(MemoryImages):
    """Clips of one size, uint8, N x T x C x H x W."""

    noun = "videos"


def open_motion(num_frames: int, crops: Crops) -> Data:
    """960 training and 240 validation clips of T x 1 x 24 x 24, the same at every call."""
    return Data(*(_open(split, num_frames, crops) for split in SPLITS))


def _open(split: str, num_frames: int, crops: Crops) -> MemoryVideos:
    pairs = _PAIRS[split]
    clips = _clips(pairs, num_frames, generator(MOTION, split))
    labels = torch.arange(pairs) % 2 * 2  # right, opening
    both = torch.stack([clips, clips.flip(1)], dim=1).flatten(0, 1)
    both_labels = torch.stack([labels, labels + 1], dim=1).flatten()
    return MemoryVideos(both, CLASSES, both_labels, _STATISTICS, crops)


def _clips(number: int, num_frames: int, draw: torch.Generator) -> Tensor:
    """Uint8, N x T x 1 x H x W; the even clips move to the right, the odd ones open."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(number, 1, generator=draw)

    opens = (torch.arange(number) % 2 == 1)[:, None]
    progress = torch.linspace(-0.5, 0.5, num_frames)  # N x T by broadcasting, as all below
    # Centre and radius in the middle of the clip have the same distribution for both.
    middle = (SIZE - 1) / 2
    x = middle + uniform(-2, 2) + torch.where(opens, 0.0, uniform(*_TRAVEL)) * progress
    y = middle + uniform(-4, 4) + torch.zeros_like(progress)
    radius = uniform(3.5, 5) + torch.where(opens, uniform(*_GROWTH), 0.0) * progress
    grid = torch.arange(SIZE, dtype=torch.float32)
    dx = (grid[None, None, None, :] - x[..., None, None]).abs()
    dy = (grid[None, None, :, None] - y[..., None, None]).abs()
    # The distance of each pixel from the centre of a disc, a square and a rhombus, in turn.
    distances = torch.stack([(dx**2 + dy**2).sqrt(), torch.maximum(dx, dy), dx + dy])
    distance = distances[torch.arange(number) // 2 % 3, torch.arange(number)]
    shape = (radius[..., None, None] - distance + 0.5).clamp(0, 1)  # with soft edges
    bright = uniform(0.6, 1.0)[..., None, None]
    noise = _NOISE * torch.randn(number, num_frames, SIZE, SIZE, generator=draw)
    return ((bright * shape + noise).clamp(0, 1) * 255).round().to(torch.uint8)[:, :, None]
