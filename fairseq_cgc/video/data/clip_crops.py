"""How the frames of a clip are cut, all of them alike."""

from __future__ import annotations

import random

_SCALES = (1, 0.875, 0.75, 0.66)
_MAX_DISTORTION = 1  # steps between the scales of width and height
_SNAP = 3  # pixels; a side that is nearer to the output's is made equal to it
# Corners, centre, middles of the sides and between: in quarters of the room that a box has.
_PLACES = (
    *((0, 0), (4, 0), (0, 4), (4, 4), (2, 2)),
    *((0, 2), (4, 2), (2, 4), (2, 0)),
    *((1, 1), (3, 1), (1, 3), (3, 3)),
)

Box = tuple[int, int, int, int]
"""Left, top, width and height."""


def multi_scale_box(width: int, height: int, size: int, draw: random.Random) -> Box:
    """TSN's corner cropping with jittered scales, with the 13 places of its later code and TSM's.

    Width and height are shares of the shorter side, from 1 to 0.66, that differ by one step at
    most.

    Args:
        width, height: of the frames.
        size: to which the box will be resized.
        draw: the random numbers.
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
    of the room. Of upright frames that code takes the middle three times.
    """
    side = min(width, height)
    step_x, step_y = (width - side) // 4, (height - side) // 4
    return [(place * step_x, place * step_y, side, side) for place in (0, 4, 2)]
