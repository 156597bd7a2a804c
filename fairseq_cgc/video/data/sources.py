"""Data sets of videos by what ``--data`` says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fairseq_cgc.core import UserError
from fairseq_cgc.video.data.dataset import FrameVideos, Views, read_classes, read_list
from fairseq_cgc.video.data.motion import MOTION, open_motion
from fairseq_cgc.video.data.sampling import create_sampling
from fairseq_cgc.video.settings import VideoSettings
from fairseq_cgc.vision.data.dataset import SPLITS, Data, Dataset
from fairseq_cgc.vision.data.tree import is_folder

_LARGEST_LABEL = 99_999  # a slip in a list must not make a model that fills the memory


@dataclass(frozen=True)
class Source:
    """Where videos are.

    Attributes:
        data: ``motion``, or the folder to which the lists' paths are relative.
        train, val: list files; ``None`` for ``{split}_videofolder.txt`` in that folder.
        classes: file of class names; ``None`` for ``category.txt`` in that folder, if it is there.
        skip_broken: as for :class:`Dataset`.
    """

    data: str
    train: Path | None = None
    val: Path | None = None
    classes: Path | None = None
    skip_broken: bool = False

    def list_of(self, split: str) -> Path:
        """The list file of ``train`` or ``val``."""
        return getattr(self, split) or Path(self.data) / f"{split}_videofolder.txt"

    def class_names(self) -> tuple[str, ...] | None:
        """The names in the file of classes, if there is one."""
        usual = Path(self.data) / "category.txt"
        if self.classes is None and not os.path.lexists(usual):
            return None
        return read_classes(self.classes or usual)

    def open(
        self, split: str, classes: tuple[str, ...], settings: VideoSettings, views: Views
    ) -> FrameVideos:
        """The videos of a list."""
        return FrameVideos(
            Path(self.data),
            read_list(self.list_of(split), len(classes)),
            classes,
            template=settings.template,
            sampling=create_sampling(settings.sampling, settings.num_frames),
            crops=settings.crops,
            views=views,
            skip_broken=self.skip_broken,
        )


def preset_for(source: str) -> str:
    """The name of the preset that fits ``--data SOURCE``.

    Raises:
        UserError: for frames, whose file names and directions cannot be guessed.
    """
    if source == MOTION:
        return "motion"
    others = [name for name in VideoSettings.presets() if name != "motion"]
    raise UserError(f"--data {source} needs --preset, one of {', '.join(others)}")


def open_training(source: Source, settings: VideoSettings) -> Data:
    """Training and validation videos, the latter with one view each.

    Without a file of names, classes are named by their numbers, up to the largest label in the
    training list.

    Raises:
        UserError: if the folder, a list or the names are missing or wrong.
    """
    if source.data == MOTION:
        _demand_no_files(source)
        return open_motion(settings.num_frames, settings.crops)
    _demand_folder(source)
    names = source.class_names()
    if names is None:
        largest = max(read_list(source.list_of("train")), key=lambda video: video.label)
        if largest.label > _LARGEST_LABEL:
            raise UserError(
                f"{largest.where}: the label is {largest.label}, but must be from 0 to "
                f"{_LARGEST_LABEL} where --classes names no classes"
            )
        names = tuple(map(str, range(largest.label + 1)))
    return Data(*(source.open(split, names, settings, Views()) for split in SPLITS))


def open_evaluation(
    source: Source, split: str, settings: VideoSettings, classes: tuple[str, ...], views: Views
) -> Dataset:
    """The videos of ``train`` or ``val`` on which to evaluate a model.

    Args:
        source, split: which videos.
        settings, classes: of the model; its classes count where there is no file of names.
        views: of each video.

    Raises:
        UserError: if the folder, a list or the names are missing or wrong.
    """
    if source.data == MOTION:
        _demand_no_files(source)
        if views != Views():
            raise UserError("--data motion has clips, not videos: they have one view each")
        return open_motion(settings.num_frames, settings.crops).split(split)
    _demand_folder(source)
    return source.open(split, source.class_names() or classes, settings, views)


def _demand_no_files(source: Source) -> None:
    for name in ("train", "val", "classes"):
        if (path := getattr(source, name)) is not None:
            raise UserError(f"{path} is a file of {name}, but --data {MOTION} has its own")


def _demand_folder(source: Source) -> None:
    if not is_folder(source.data):
        raise UserError(f"--data is {source.data}, which is neither a folder nor {MOTION!r}")
