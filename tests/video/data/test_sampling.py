from __future__ import annotations

import random

import pytest

from fairseq_cgc.core import UserError
from fairseq_cgc.video.data.sampling import create_sampling


def seen_at(name: str, num_frames: int, length: int) -> list[set[int]]:
    """What training takes at each place of a clip, over many draws."""
    sampling, draw = create_sampling(name, num_frames), random.Random(1)
    clips = [sampling.training_clip(length, draw) for _ in range(400)]
    return [set(frames) for frames in zip(*clips, strict=True)]


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1, [{0}, {0}, {0}, {0}]),
        (3, [{0}, {0}, {0}, {0}]),  # fewer frames than segments
        (4, [{0}, {1}, {2}, {3}]),
        (7, [{0}, {1}, {2}, {3}]),  # a segment is 7 // 4 = 1 frame
        (8, [{0, 1}, {2, 3}, {4, 5}, {6, 7}]),
        (15, [{0, 1, 2}, {3, 4, 5}, {6, 7, 8}, {9, 10, 11}]),
    ],
)
def test_segments_in_training(length, expected):
    assert seen_at("segments", 4, length) == expected


@pytest.mark.parametrize(
    ("length", "clips", "expected"),
    [
        (1, 1, [[0] * 8]),
        # ticks of 3 / 8 = 0.375 frames, middles 0.1875, 0.5625, 0.9375, 1.3125, ...
        (3, 1, [[0, 0, 0, 1, 1, 2, 2, 2]]),
        (8, 1, [[0, 1, 2, 3, 4, 5, 6, 7]]),
        # ticks of 2.5, middles 1.25, 3.75, 6.25, ...
        (20, 1, [[1, 3, 6, 8, 11, 13, 16, 18]]),
        (20, 2, [[0, 2, 5, 7, 10, 12, 15, 17], [1, 3, 6, 8, 11, 13, 16, 18]]),
        # fifths of a tick of 5: 0, 1, 2, 3, 4
        (40, 5, [[j + 5 * i for i in range(8)] for j in range(5)]),
    ],
)
def test_segments_in_evaluation(length, clips, expected):
    assert create_sampling("segments", 8).evaluation_clips(length, clips) == expected


@pytest.mark.parametrize(
    ("length", "starts"),
    [(64, {0}), (65, {0}), (66, {0, 1}), (68, {0, 1, 2, 3})],  # the last one is never drawn
)
def test_dense_in_training(length, starts):
    expected = [{start + 8 * i for start in starts} for i in range(8)]
    assert seen_at("dense", 8, length) == expected


def test_dense_starts_again_in_short_videos():
    expected = [0, 8, 16, 4, 12, 0, 8, 16]  # 8 i mod 20
    sampling = create_sampling("dense", 8)
    assert sampling.training_clip(20, random.Random(0)) == expected
    assert sampling.evaluation_clips(20, 2) == [expected, expected]


@pytest.mark.parametrize(
    ("length", "clips", "starts"),
    [
        (100, 1, [18]),
        (100, 10, [0, 4, 8, 12, 16, 20, 24, 28, 32, 36]),
        (74, 4, [0, 3, 6, 10]),  # thirds of 10, cut off
        (64, 3, [0, 0, 0]),
    ],
)
def test_dense_in_evaluation(length, clips, starts):
    expected = [[start + 16 * i for i in range(4)] for start in starts]
    assert create_sampling("dense", 4).evaluation_clips(length, clips) == expected


def test_consecutive():
    assert seen_at("consecutive", 4, 6) == [{0, 1, 2}, {1, 2, 3}, {2, 3, 4}, {3, 4, 5}]
    sampling = create_sampling("consecutive", 4)
    assert sampling.training_clip(3, random.Random(0)) == [0, 1, 2, 0]
    assert sampling.evaluation_clips(9, 1) == [[2, 3, 4, 5]]
    assert sampling.evaluation_clips(8, 3) == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]


def test_a_window_must_hold_the_frames():
    with pytest.raises(UserError, match="--num-frames is 65, but --sampling dense takes them from"):
        create_sampling("dense", 65)
