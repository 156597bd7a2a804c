"""Trained image and video models, and the images or clips on which to look at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fairseq_cgc.core import UserError
from fairseq_cgc.video.data.dataset import FrameVideos, Video, Views
from fairseq_cgc.video.data.sampling import create_sampling
from fairseq_cgc.video.data.sources import Source, open_evaluation
from fairseq_cgc.video.settings import VideoSettings
from fairseq_cgc.vision.data.dataset import Dataset
from fairseq_cgc.vision.data.folder import STATISTICS, read_image
from fairseq_cgc.vision.data.loader import Normalize, evaluation_batches, load_batches
from fairseq_cgc.vision.data.memory import MemoryImages
from fairseq_cgc.vision.data.transforms import evaluation_view
from fairseq_cgc.vision.data.tree import SUFFIXES, entries, is_file, is_folder
from fairseq_cgc.vision.training.checkpoints import load_checkpoint
from fairseq_cgc.vision.training.distributed import Processes, progress_bar
from fairseq_cgc.vision.training.settings import Settings, TrainingSettings
from fairseq_cgc.vision.training.trained_model import TrainedModel, evaluation_images

_MAX_SHOWN = {"images": 10, "videos": 2}  # of a data set, unless the user names others
_MAX_NAMED = 30  # more would fit neither on a page nor, in one batch, into memory


@dataclass(frozen=True)
class Subject:
    """A model to look into.

    Attributes:
        name: in figures.
        path: of the checkpoint.
        trained: the model.
        settings: of its training.
    """

    name: str
    path: Path
    trained: TrainedModel
    settings: TrainingSettings

    def record(self) -> dict[str, Any]:
        """What names the model, for JSON."""
        return {"model": self.trained.name, "checkpoint": self.path.name}

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the model's outputs."""
        return self.trained.classes or ()

    def samples(self, data: str, split: str, list_: Path | None) -> Dataset:
        """The samples of ``--data``; ``list_`` is the file of videos, if it is not the usual one.

        Raises:
            UserError: if they cannot be read, or do not fit the model.
        """
        if isinstance(self.settings, VideoSettings):
            lists: dict[str, Any] = {split: list_}
            source = Source(data, **lists)
            found = open_evaluation(source, split, self.settings, self.classes, Views())
            self.trained.check_data(found, data)
            return found
        if list_ is not None:
            raise UserError("--list is for video models, but the model is one of images")
        return evaluation_images(self.trained, data, split=split)[0]

    def files(self, paths: Sequence[Path]) -> tuple[Dataset, list[str]]:
        """Image files, or the folders of frames of videos; and their names.

        Raises:
            UserError: if they are too many, cannot be read, or do not fit the model.
        """
        if isinstance(self.settings, VideoSettings):
            _check_number(paths, "videos")
            return frames_as_data(self.trained, self.settings, paths), [p.name for p in paths]
        files = image_files(paths)
        _check_number(files, "images")
        return files_as_data(self.trained, files), [path.name for path in files]


def load_subjects(checkpoints: Sequence[Path], names: Sequence[str] | None) -> list[Subject]:
    """Load models, all of images or all of videos.

    Args:
        checkpoints: of ``train-image`` or ``train-video``.
        names: of the models; by default their own, with the folders' where these are equal.

    Raises:
        UserError: if one cannot be read, kinds or classes differ, or the number of names is wrong.
    """
    if names is not None and len(names) != len(checkpoints):
        raise UserError(
            f"--names has {len(names)} names, but there are {len(checkpoints)} checkpoints"
        )
    loaded = [load_checkpoint(path, Settings, VideoSettings) for path in checkpoints]
    models = [checkpoint.settings.model for checkpoint in loaded]
    if names is None:
        unique = len(set(models)) == len(models)
        folders = [path.absolute().parent.name for path in checkpoints]
        names = [m if unique else f"{m}, {f}" for m, f in zip(models, folders, strict=True)]
    for path, checkpoint in zip(checkpoints[1:], loaded[1:], strict=True):
        for what, ours, theirs in (
            ("command", checkpoint.settings.command, loaded[0].settings.command),
            ("classes", checkpoint.classes, loaded[0].classes),
            ("channels", checkpoint.channels, loaded[0].channels),
        ):
            if ours != theirs:
                raise UserError(
                    f"{path} and {checkpoints[0]} differ in their {what}: they have no samples in "
                    "common"
                )
    return [
        Subject(name, path, TrainedModel.of(checkpoint), checkpoint.settings)
        for name, path, checkpoint in zip(names, checkpoints, loaded, strict=True)
    ]


def normalized_batches(
    images: Dataset, processes: Processes, *, batch_size: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every sample once, normalized, with its label; draw a progress bar.

    Raises:
        UserError: for a sample that cannot be read.
    """
    normalize = Normalize(images, processes.device, channels_last=False)
    batches = evaluation_batches(len(images), batch_size, processes)
    loader = load_batches(images, batches, seed=None, workers=workers, device=processes.device)
    with progress_bar(images.noun, len(images), processes) as bar:
        for pixels, labels in loader:
            yield normalize(pixels), labels
            bar.update(len(labels))


def chosen_numbers(images: Dataset, words: Sequence[str]) -> list[int]:
    """Parse positions in a data set; without any, take the first sample of some classes.

    Raises:
        UserError: for a word that is not a position, or too many of them.
    """
    if not words:
        first = [int((images.labels == c).nonzero()[0]) for c in images.labels.unique()]
        return first[: _MAX_SHOWN[images.noun]]
    _check_number(words, images.noun)
    for word in words:
        if not word.isdecimal() or int(word) >= len(images):
            raise UserError(
                f"with --data, {images.noun} are numbers from 0 to {len(images) - 1}, but one is "
                f"{word!r}"
            )
    return [int(word) for word in words]


def _check_number(samples: Sequence[Any], noun: str) -> None:
    if len(samples) > _MAX_NAMED:
        raise UserError(
            f"a figure shows at most {_MAX_NAMED} {noun}, but there are {len(samples)}: name some "
            "of them"
        )


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The files, and the images directly inside the folders, of ``paths``.

    Raises:
        UserError: if a path is missing or cannot be read, or there is no image.
    """
    files: list[Path] = []
    for path in paths:
        if is_folder(path):
            found = [
                Path(entry)
                for entry in entries(path)
                if entry.name.lower().endswith(SUFFIXES) and is_file(entry.path)
            ]
            if not found:
                raise UserError(f"{path} holds no images ({' '.join(SUFFIXES)})")
            files += found
        elif is_file(path):
            files.append(path)
        else:
            raise UserError(f"{path}: there is no such image; numbers of images need --data")
    if not files:
        raise UserError("give image files or folders, or --data")
    return files


def files_as_data(trained: TrainedModel, files: Sequence[Path]) -> MemoryImages:
    """Read image files as those of an image folder are read; all labels are 0.

    Raises:
        UserError: if a file cannot be read, or the model does not take colour images.
    """
    _demand_colour(trained)
    views = [evaluation_view(read_image(str(path)), trained.crops) for path in files]
    labels = torch.zeros(len(views), dtype=torch.long)
    return MemoryImages(torch.stack(views), ["?"], labels, STATISTICS, trained.crops)


def frames_as_data(
    trained: TrainedModel, settings: VideoSettings, folders: Sequence[Path]
) -> FrameVideos:
    """Videos as folders of frames, sampled as in an evaluation; all labels are 0.

    Raises:
        UserError: if a folder is missing or has no frames named as ``settings.template``, or the
            model does not take colour images.
    """
    _demand_colour(trained)
    if not folders:
        raise UserError("give folders of frames, or --data")
    videos = []
    for folder in folders:
        if not is_folder(folder):
            raise UserError(f"{folder}: there is no such folder; numbers of videos need --data")
        number = 0
        while is_file(folder / settings.template.format(number + 1)):
            number += 1
        if not number:
            raise UserError(f"{folder} holds no {settings.template.format(1)}, the first frame")
        videos.append(Video(str(folder.absolute()), number, 0, str(folder)))
    sampling = create_sampling(settings.sampling, settings.num_frames)
    return FrameVideos(
        *(Path(), videos, ["?"]),
        template=settings.template, sampling=sampling, crops=trained.crops,
    )  # fmt: skip


def _demand_colour(trained: TrainedModel) -> None:
    if trained.channels != 3:
        raise UserError(
            f"the model takes images of {trained.channels} channel, but files are read in "
            "colour: use --data"
        )
