"""Which frames of a video make up a clip.

Frames are counted from 0. The formulas are those of TSN (Wang et al., ECCV 2016) and TSM (Lin et
al., ICCV 2019) as their published code has them.
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
        """``clips`` clips spread evenly; a single one lies in the middle."""


class Segments(Sampling):
    """A frame from each of as many equal segments (TSN).

    Training takes a random frame of each segment, and of a video shorter than ``num_frames``
    the first one throughout, as TSN's and TSM's code does. Evaluation takes the middles; several
    clips take places that divide the segments evenly, of which two are those of TSM's
    evaluation with two clips. There frames of short videos are repeated in their order.
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
    """Frames at equal distances within a window that lies anywhere in the video.

    A shorter video starts again at its end.

    Args:
        num_frames: of the clip.
        span: of the window, in frames.
    """

    def __init__(self, num_frames: int, span: int) -> None:
        super().__init__(num_frames)
        self.span, self.stride = span, span // num_frames

    def training_clip(self, length: int, draw: random.Random) -> list[int]:
        return self._from(self._random_start(max(0, length - self.span), draw), length)

    def evaluation_clips(self, length: int, clips: int) -> list[list[int]]:
        last = max(0, length - self.span)
        starts = [last // 2] if clips == 1 else np.linspace(0, last, clips, dtype=int).tolist()
        return [self._from(start, length) for start in starts]

    def _random_start(self, last: int, draw: random.Random) -> int:
        return draw.randint(0, last)

    def _from(self, start: int, length: int) -> list[int]:
        return [(start + i * self.stride) % length for i in range(self.num_frames)]


class Dense(Window):
    """A window of 64 frames, TSM's ``dense_sample``.

    Raises:
        UserError: for more frames than that.
    """

    def __init__(self, num_frames: int) -> None:
        if num_frames > DENSE_SPAN:
            raise UserError(
                f"--num-frames is {num_frames}, but --sampling dense takes them from a window of "
                f"{DENSE_SPAN}"
            )
        super().__init__(num_frames, DENSE_SPAN)

    def _random_start(self, last: int, draw: random.Random) -> int:
        return draw.randrange(last) if last else 0  # TSM's never begins in the very last place


def create_sampling(name: str, num_frames: int) -> Sampling:
    """One of ``SAMPLINGS``; ``consecutive`` is a window without gaps.

    Raises:
        UserError: if it cannot give so many frames.
    """
    if name == "segments":
        return Segments(num_frames)
    return Dense(num_frames) if name == "dense" else Window(num_frames, num_frames)
