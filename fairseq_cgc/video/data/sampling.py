"""Which frames of a video make up a clip.

Frames are counted from 0. The formulas are those of the published code of TSN (Wang et al., ECCV
2016) and TSM (Lin et al., ICCV 2019).
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod

import numpy as np

from fairseq_cgc.core import UserError

SAMPLINGS = ("segments", "dense", "consecutive")
DENSE_SPAN = 64  # frames: about two seconds, as in I3D


class Sampling(ABC):
    """Chooses ``num_frames`` of a video's frames."""

    def __init__(self, num_frames: int) -> None:
        self.num_frames = num_frames

    @abstractmethod
    def training_clip(self, length: int, draw: random.Random) -> list[int]:
        """A random clip of a video of ``length`` frames."""

    @abstractmethod
    def evaluation_clips(self, length: int, clips: int) -> list[list[int]]:
        """``clips`` clips, spread evenly; a single one is in the middle."""


class Segments(Sampling):
    """One frame from each of ``num_frames`` equal segments (TSN).

    Training takes a random frame of each segment; of a video shorter than ``num_frames`` it
    repeats the first frame, as TSN's and TSM's code does. Evaluation takes the middle frames.
    Several clips divide the segments evenly (two as in TSM's evaluation with two clips); the
    frames of short videos are then repeated in order.
    """

    def training_clip(self, length: int, draw: random.Random) -> list[int]:
        duration = length // self.num_frames
        if duration == 0:
            return [0] * self.num_frames
        return [i * duration + draw.randrange(duration) for i in range(self.num_frames)]

    def evaluation_clips(self, length: int, clips: int) -> list[list[int]]:
        tick = length / self.num_frames
        shares = [0.5] if clips == 1 else [clip / clips for clip in range(clips)]
        return [[int(tick * share + tick * i) for i in range(self.num_frames)] for share in shares]


class Window(Sampling):
    """Frames at equal distances in a window of ``span`` frames anywhere in the video.

    A video shorter than the window is repeated. With ``skip_last``, as in TSM's ``dense_sample``,
    the window never starts in the last possible place.
    """

    def __init__(self, num_frames: int, span: int, *, skip_last: bool = False) -> None:
        super().__init__(num_frames)
        self.span, self.skip_last = span, skip_last

    def training_clip(self, length: int, draw: random.Random) -> list[int]:
        last = max(0, length - self.span)
        if self.skip_last:
            return self._clip(draw.randrange(last) if last else 0, length)
        return self._clip(draw.randint(0, last), length)

    def evaluation_clips(self, length: int, clips: int) -> list[list[int]]:
        last = max(0, length - self.span)
        starts = [last // 2] if clips == 1 else np.linspace(0, last, clips, dtype=int).tolist()
        return [self._clip(start, length) for start in starts]

    def _clip(self, start: int, length: int) -> list[int]:
        stride = self.span // self.num_frames
        return [(start + i * stride) % length for i in range(self.num_frames)]


def create_sampling(name: str, num_frames: int) -> Sampling:
    """One of ``SAMPLINGS``; ``consecutive`` is a window without gaps.

    Raises:
        UserError: if it cannot give so many frames.
    """
    if name == "segments":
        return Segments(num_frames)
    if name == "consecutive":
        return Window(num_frames, num_frames)
    if num_frames > DENSE_SPAN:
        raise UserError(
            f"--num-frames is {num_frames}, but --sampling dense takes them from a window of "
            f"{DENSE_SPAN}"
        )
    return Window(num_frames, DENSE_SPAN, skip_last=True)


_SCALES = (1, 0.875, 0.75, 0.66)
_MAX_DISTORTION = 1  # steps between the scales of width and height
_SNAP = 3  # pixels; a side that differs less from the output's becomes equal to it
# In quarters of the free space: corners, centre, middles of the sides, and between these.
_PLACES = (
    *((0, 0), (4, 0), (0, 4), (4, 4), (2, 2)),
    *((0, 2), (4, 2), (2, 4), (2, 0)),
    *((1, 1), (3, 1), (1, 3), (3, 3)),
)

Box = tuple[int, int, int, int]
"""Left, top, width and height."""


def multi_scale_box(width: int, height: int, size: int, draw: random.Random) -> Box:
    """TSN's corner cropping with scale jittering, with the 13 places of TSM's code.

    Width and height are 1 to 0.66 times the shorter side and differ by one step at most.

    Args:
        width, height: of the frames.
        size: to which the box will be resized.
        draw: source of random numbers.
    """
    shorter = min(width, height)
    sides = [int(shorter * scale) for scale in _SCALES]
    sides = [size if abs(side - size) < _SNAP and size <= shorter else side for side in sides]
    pairs = [
        (w, h)
        for i, h in enumerate(sides)
        for j, w in enumerate(sides)
        if abs(i - j) <= _MAX_DISTORTION
    ]
    w, h = draw.choice(pairs)
    right, down = draw.choice(_PLACES)
    return right * ((width - w) // 4), down * ((height - h) // 4), w, h


def three_boxes(width: int, height: int) -> list[Box]:
    """The largest squares at both ends and in the middle of the longer side.

    These are the three full-resolution crops of TSM's evaluation, whose steps are whole quarters
    of the free space. Of upright frames TSM's code takes the middle square three times.
    """
    side = min(width, height)
    step_x, step_y = (width - side) // 4, (height - side) // 4
    return [(place * step_x, place * step_y, side, side) for place in (0, 4, 2)]
