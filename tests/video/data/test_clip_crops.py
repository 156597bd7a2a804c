from __future__ import annotations

import random

import pytest

from fairseq_cgc.video.data.sampling import multi_scale_box, three_boxes


def boxes(width: int, height: int, size: int) -> set[tuple[int, int, int, int]]:
    draw = random.Random(1)
    return {multi_scale_box(width, height, size, draw) for _ in range(6000)}


def test_sides_and_places_of_tsm():
    found = boxes(340, 256, 224)
    # 256 times 1, 0.875, 0.75, 0.66 (168.96); neighbours on that ladder may be combined.
    ladder = [256, 224, 192, 168]
    neighbours = {(a, b) for i, a in enumerate(ladder) for b in ladder[max(0, i - 1) : i + 2]}
    assert {box[2:] for box in found} == neighbours and len(neighbours) == 10
    # A square of 192 has 148 x 64 pixels of room, in steps of 37 x 16.
    places = {box[:2] for box in found if box[2:] == (192, 192)}
    corners = {(0, 0), (148, 0), (0, 64), (148, 64)}
    sides = {(74, 0), (74, 64), (0, 32), (148, 32)}
    between = {(37, 16), (111, 16), (37, 48), (111, 48)}
    assert places == corners | sides | between | {(74, 32)}
    assert all(x + w <= 340 and y + h <= 256 for x, y, w, h in found)


@pytest.mark.parametrize(
    ("shorter", "largest"),
    [(226, 224), (227, 227), (224, 224), (223, 223)],  # nearer than 3 pixels, but never outside
)
def test_a_side_near_the_output_is_made_equal(shorter, largest):
    assert max(box[3] for box in boxes(300, shorter, 224)) == largest


def test_three_boxes_lie_along_the_longer_side():
    # 84 pixels of room in steps of 21; 86 leave a rest of 2 at the end.
    assert three_boxes(340, 256) == [(0, 0, 256, 256), (84, 0, 256, 256), (42, 0, 256, 256)]
    assert three_boxes(256, 342) == [(0, 0, 256, 256), (0, 84, 256, 256), (0, 42, 256, 256)]
    assert three_boxes(9, 9) == [(0, 0, 9, 9)] * 3
