"""Videos as folders of frames, read as they are needed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from fairseq_cgc.core import UserError
from fairseq_cgc.video.data.lists import Video
from fairseq_cgc.video.data.sampling import Sampling, multi_scale_box, three_boxes
from fairseq_cgc.vision.data.dataset import MemorySamples, Samples
from fairseq_cgc.vision.data.folder import STATISTICS, read_image
from fairseq_cgc.vision.data.transforms import (
    Crops,
    cut_box,
    resize_shorter_side,
    test_view,
)
from fairseq_cgc.vision.data.tree import demand_file

CROPS = (1, 3)


class Videos(Samples):
    """One split of a data set; a batch is uint8, B x T x C x H x W."""

    noun = "videos"


class MemoryVideos(MemorySamples, Videos):
    """Small clips of one size, N x T x C x H x W, all in memory."""


@dataclass(frozen=True)
class Views:
    """What an evaluation sees of each video.

    Attributes:
        clips: along time, from the video's beginning to its end; one lies in the middle.
        crops: of each clip: 1, the central square of ``image_size`` pixels, or 3, squares of
            ``resize`` pixels along the longer side.
    """

    clips: int = 1
    crops: int = 1


class FrameVideos(Videos):
    """Videos whose frames are image files: a clip of each.

    Args:
        root: to which the videos' paths are relative.
        videos: of a list file.
        classes: their names.
        template: name of a frame's file, from its number, counted from 1.
        sampling: which frames to take.
        crops: how they are cut; ``padding`` is not used.
        views: of an evaluation.
        skip_broken: as for :class:`Samples`.
    """

    in_memory = False

    def __init__(
        self,
        root: Path,
        videos: Sequence[Video],
        classes: Sequence[str],
        *,
        template: str,
        sampling: Sampling,
        crops: Crops,
        views: Views | None = None,
        skip_broken: bool = False,
    ) -> None:
        labels = torch.tensor([video.label for video in videos])
        super().__init__(classes, labels, STATISTICS, crops)
        self.root, self.videos, self.template = root, videos, template
        self.sampling, self.skip_broken = sampling, skip_broken
        self.seen = views or Views()
        self.views = self.seen.clips * self.seen.crops

    def fingerprint(self) -> str:
        """Of the list: reading a million frames would take hours."""
        lines = (f"{video.path} {video.frames} {video.label}\n" for video in self.videos)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def _views(self, indices: Sequence[int], draws: Sequence[random.Random] | None) -> Tensor:
        videos = [self.videos[i] for i in indices]
        if draws is None:
            return torch.cat([self._evaluation_views(video) for video in videos])
        pairs = zip(videos, draws, strict=True)
        return torch.stack([self._training_clip(video, draw) for video, draw in pairs])

    def _training_clip(self, video: Video, draw: random.Random) -> Tensor:
        """T x C x size x size."""
        numbers = self.sampling.training_clip(video.frames, draw)
        frames = self._read(video, numbers)
        size = self.crops.image_size
        box = multi_scale_box(*frames[numbers[0]].size, size, draw)
        mirrored = self.crops.flip and draw.random() < 0.5
        cut = {n: cut_box(frame, box, size, mirrored=mirrored) for n, frame in frames.items()}
        return torch.stack([cut[number] for number in numbers])

    def _evaluation_views(self, video: Video) -> Tensor:
        """Views x T x C x size x size; the crops of a clip stand side by side."""
        clips = self.sampling.evaluation_clips(video.frames, self.seen.clips)
        frames = self._read(video, [number for clip in clips for number in clip])
        cut = {number: self._cut(frame) for number, frame in frames.items()}
        of_clips = [torch.stack([cut[number] for number in clip], dim=1) for clip in clips]
        return torch.cat(of_clips)

    def _cut(self, frame: Image.Image) -> Tensor:
        """Crops x C x size x size."""
        if self.seen.crops == 1:
            return test_view(frame, self.crops)[None]
        resized = resize_shorter_side(frame, self.crops.resize)
        boxes = three_boxes(*resized.size)
        side = self.crops.resize
        return torch.stack([cut_box(resized, box, side, mirrored=False) for box in boxes])

    def _read(self, video: Video, numbers: Sequence[int]) -> dict[int, Image.Image]:
        """Frames by their numbers, each decoded once.

        Raises:
            UserError: naming a file that is missing, damaged or of another size than the first.
        """
        frames: dict[int, Image.Image] = {}
        for number in dict.fromkeys(numbers):
            path = self.root / video.path / self.template.format(number + 1)
            try:
                demand_file(path)
            except UserError as error:
                if not isinstance(error.__cause__, FileNotFoundError) or path.is_symlink():
                    raise
                raise UserError(
                    f"{path}: there is no such frame; {video.where} says that there are "
                    f"{video.frames} (--template is {self.template})"
                ) from None
            frames[number] = frame = read_image(str(path))
            first = frames[numbers[0]]
            if frame.size != first.size:
                raise UserError(
                    f"{path} has {frame.width} x {frame.height} pixels, but other frames of the "
                    f"video have {first.width} x {first.height}"
                )
        return frames
