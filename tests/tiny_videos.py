"""Small folders of frames for the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fairseq_cgc.video.data.dataset import FrameVideos, Views, read_list
from fairseq_cgc.video.data.sampling import create_sampling
from fairseq_cgc.vision.data.transforms import Crops

TEMPLATE = "img_{:05d}.png"
NAMES = ("falling", "rising", "still")


def frame(video: int, number: int, size: tuple[int, int] = (24, 20)) -> Image.Image:
    """Red counts columns, green is 20 times the frame's number from 0, blue tells the video."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[:, :, 0] = np.arange(size[0])
    pixels[:, :, 1] = 20 * number
    pixels[:, :, 2] = video
    return Image.fromarray(pixels)


def write_videos(
    root: Path, split: str = "train", lengths: Sequence[int] = (5, 8, 3), template: str = TEMPLATE
) -> Path:
    """Folders of frames and their list, labels in turn; the folders have spaces in their names."""
    lines = []
    for video, length in enumerate(lengths):
        folder = root / split / f"video {video}"
        folder.mkdir(parents=True)
        for number in range(length):
            frame(video, number).save(folder / template.format(number + 1))
        lines.append(f"{split}/video {video} {length} {video % len(NAMES)}\n")
    (root / f"{split}_videofolder.txt").write_text("".join(lines))
    return root


def open_videos(root: Path, *, num_frames: int = 4, **changes: object) -> FrameVideos:
    options: dict = {
        "template": TEMPLATE,
        "sampling": create_sampling("segments", num_frames),
        "crops": Crops(image_size=12, resize=16),
        "views": Views(),
    }
    videos = read_list(root / "train_videofolder.txt")
    return FrameVideos(root, videos, NAMES, **options | changes)
