"""Videos as folders of frames, listed in a file and read as they are needed."""

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
from fairseq_cgc.video.data.sampling import Sampling, multi_scale_box, three_boxes
from fairseq_cgc.vision.data.dataset import Dataset
from fairseq_cgc.vision.data.folder import STATISTICS, read_image
from fairseq_cgc.vision.data.transforms import Crops, cut_box, evaluation_view, resize_shorter_side
from fairseq_cgc.vision.data.tree import demand_file, read_text

CROPS = (1, 3)


@dataclass(frozen=True)
class Video:
    """A line of a list file.

    Attributes:
        path: of the folder of frames.
        frames: their number.
        label: of the class, counted from 0.
        where: list file and line, for messages.
    """

    path: str
    frames: int
    label: int
    where: str


def read_list(path: Path, classes: int | None = None) -> list[Video]:
    """Read the lists of TSN's and TSM's tools, lines of ``path num_frames label``.

    A path may contain spaces.

    Args:
        path: of the list file.
        classes: their number; ``None`` allows any label.

    Raises:
        UserError: if the file cannot be read or is empty, or a line is of another form, naming
            the line.
    """
    videos = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        words = line.rsplit(maxsplit=2)
        if len(words) != 3 or not all(map(_is_number, words[1:])):
            raise UserError(f"{where} is {line[:80]!r}, but must be: path num_frames label")
        video = Video(words[0].strip(), int(words[1]), int(words[2]), where)
        if video.frames < 1:
            raise UserError(f"{where}: {video.path} has no frames; leave it out")
        if classes is not None and video.label >= classes:
            raise UserError(
                f"{where}: the label is {video.label}, but there are {classes} classes, "
                "counted from 0"
            )
        videos.append(video)
    if not videos:
        raise UserError(f"{path} lists no videos")
    return videos


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= 9


def read_classes(path: Path) -> tuple[str, ...]:
    """The names of the classes, one a line, in the order of the labels.

    Raises:
        UserError: if the file cannot be read, has an empty line, or names no class.
    """
    names = [line.strip() for line in _lines(path)]
    if not names:
        raise UserError(f"{path} names no classes")
    if "" in names:
        raise UserError(f"{path}, line {names.index('') + 1} is empty, but must name a class")
    return tuple(names)


def _lines(path: Path) -> list[str]:
    # Not splitlines(), which would also split at characters that a name may contain.
    lines = read_text(path).split("\n")
    return lines if lines[-1] else lines[:-1]


@dataclass(frozen=True)
class Views:
    """What an evaluation sees of each video.

    Attributes:
        clips: spread evenly from the video's beginning to its end; a single one is in the middle.
        crops: of each clip: 1, the central square of ``image_size`` pixels, or 3, squares of
            ``resize`` pixels along the longer side.
    """

    clips: int = 1
    crops: int = 1


class FrameVideos(Dataset):
    """Videos whose frames are image files; a batch is uint8, B x T x C x H x W.

    Args:
        root: to which the videos' paths are relative.
        videos: from a list file.
        classes: their names.
        template: name of a frame's file, formatted with its number, counted from 1.
        sampling: which frames to take.
        crops: how they are cut; ``padding`` is not used.
        views: of an evaluation.
        skip_broken: as for :class:`Dataset`.
    """

    noun = "videos"

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
        """Views x T x C x size x size; the crops of a clip come one after the other."""
        clips = self.sampling.evaluation_clips(video.frames, self.seen.clips)
        frames = self._read(video, [number for clip in clips for number in clip])
        cut = {number: self._cut(frame) for number, frame in frames.items()}
        return torch.cat([torch.stack([cut[number] for number in clip], dim=1) for clip in clips])

    def _cut(self, frame: Image.Image) -> Tensor:
        """Crops x C x size x size."""
        if self.seen.crops == 1:
            return evaluation_view(frame, self.crops)[None]
        side = self.crops.resize
        resized = resize_shorter_side(frame, side)
        boxes = three_boxes(*resized.size)
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
