from __future__ import annotations

import pytest
import torch

from fairseq_cgc.video import create_model
from fairseq_cgc.video.data.motion import CLASSES, MemoryVideos, open_motion
from fairseq_cgc.vision.data.transforms import Crops

CROPS = Crops(padding=2, flip=False)


@pytest.fixture(scope="module")
def splits():
    return open_motion(8, CROPS)


def sorted_frames(clip: torch.Tensor) -> list[bytes]:
    return sorted(frame.numpy().tobytes() for frame in clip)


def test_every_clip_has_its_reversal_with_the_opposite_label(splits):
    opposite = {"left": "right", "right": "left", "opening": "closing", "closing": "opening"}
    for split in splits:
        labels = {
            clip.numpy().tobytes(): CLASSES[label]
            for clip, label in zip(split.images, split.labels, strict=True)
        }
        assert len(labels) == len(split)  # no clip twice
        for clip, label in zip(split.images, split.labels, strict=True):
            assert labels[clip.flip(0).numpy().tobytes()] == opposite[CLASSES[label]]


def test_the_frames_of_opposite_classes_are_the_same(splits):
    for split in splits:
        of_class = [
            sorted(map(sorted_frames, split.images[split.labels == label])) for label in range(4)
        ]
        assert of_class[0] == of_class[1] and of_class[2] == of_class[3]
        assert of_class[0] != of_class[2]


def test_shapes_move_as_their_class_says(splits):
    columns = torch.arange(24.0)
    for split in splits:
        clips = split.images[:, :, 0].float()
        bright = (clips > 128).float()
        mass = bright.sum((2, 3))
        centre = (bright.sum(2) * columns).sum(2) / mass.clamp(min=1)
        for label, (moved, grown) in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1))):
            of_class = split.labels == label
            way = (centre[of_class, -1] - centre[of_class, 0]).sign()
            growth = mass[of_class, -1] / mass[of_class, 0].clamp(min=1)
            if moved:
                assert (way == moved).all() and growth.log().abs().max() < 1
            else:
                assert (growth.log().sign() == grown).all()


def test_the_split_is_fixed_and_balanced(splits):
    train, val = splits
    assert (len(train), len(val), train.channels, train.classes) == (960, 240, 1, CLASSES)
    assert train.labels.bincount().tolist() == [240] * 4
    assert val.labels.bincount().tolist() == [60] * 4
    again = open_motion(8, CROPS)
    assert [s.fingerprint() for s in again] == [s.fingerprint() for s in splits]
    ours, theirs = ({clip.numpy().tobytes() for clip in split.images} for split in splits)
    assert not ours & theirs
    assert open_motion(16, CROPS)[1].images.shape == (240, 16, 1, 24, 24)


def test_statistics_are_those_of_the_pixels(splits):
    pixels = splits[0].images.float() / 255
    assert splits[0].statistics.mean[0] == pytest.approx(pixels.mean().item(), abs=2e-3)
    assert splits[0].statistics.std[0] == pytest.approx(pixels.std().item(), abs=2e-3)


def test_augmentation_shifts_all_frames_of_a_clip_alike(splits):
    columns = torch.arange(24, dtype=torch.uint8).expand(8, 8, 1, 24, 24)
    train = splits[0]
    clips = MemoryVideos(columns, CLASSES, train.labels[:8], train.statistics, CROPS)
    shifted = clips.batch(range(8), seed=1)
    assert shifted.shape == columns.shape
    assert torch.equal(shifted, shifted[:, :1].expand_as(shifted))
    assert len({clip.numpy().tobytes() for clip in shifted}) > 4


def test_a_mean_over_frames_cannot_tell_a_clip_from_its_reversal(splits):
    clips = splits[1].images[:16].float() / 255
    for name, differs in (("tsn", False), ("tsm", True), ("p3d", True)):
        torch.manual_seed(1)
        model = create_model(name, 4, in_channels=1, backbone="resnet8_cifar").eval()
        with torch.inference_mode():
            logits = model(clips)
            reversed_ = model(clips.flip(1))
        assert torch.allclose(logits, reversed_, atol=1e-5) != differs, name
