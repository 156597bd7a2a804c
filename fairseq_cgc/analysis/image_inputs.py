"""The images that an image model is looked into with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.folder import STATISTICS, read_image
from fairseq_cgc.vision.data.images import Images, MemoryImages
from fairseq_cgc.vision.data.loader import Standardise, evaluation_batches, load_batches
from fairseq_cgc.vision.data.transforms import test_view
from fairseq_cgc.vision.data.tree import SUFFIXES, entries, is_file, is_folder
from fairseq_cgc.vision.training.distributed import Processes, progress_bar
from fairseq_cgc.vision.training.trained_model import Subject

_SHOWN = 10  # images of a data set, if no others are asked for


def standardised_batches(
    images: Images, processes: Processes, *, batch_size: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Every image once, B x C x H x W as a model takes them, and the labels, with a bar.

    Raises:
        UserError: for an image that cannot be read.
    """
    standardise = Standardise(images, processes.device, channels_last=False)
    batches = evaluation_batches(len(images), batch_size, processes)
    loader = load_batches(images, batches, seed=None, workers=workers, device=processes.device)
    with progress_bar("images", len(images), processes) as bar:
        for pixels, labels in loader:
            yield standardise(pixels), labels
            bar.update(len(labels))


def chosen_numbers(images: Images, words: Sequence[str]) -> list[int]:
    """Positions in a data set; the first image of each class, of ten classes at most, for none.

    Raises:
        UserError: for a word that is no position.
    """
    if not words:
        first = [int((images.labels == c).nonzero()[0]) for c in images.labels.unique()]
        return first[:_SHOWN]
    for word in words:
        if not word.isdecimal() or int(word) >= len(images):
            raise UserError(
                f"with --data, images are numbers from 0 to {len(images) - 1}, but one is {word!r}"
            )
    return [int(word) for word in words]


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The files, and the images in folders among them, which are not searched deeper.

    Raises:
        UserError: if one is missing or cannot be read, or there are none.
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


def files_as_data(subject: Subject, files: Sequence[Path]) -> MemoryImages:
    """Files cut and standardised as those of image folders are; all labels are 0.

    Raises:
        UserError: if one cannot be read, or the model does not take colour images.
    """
    if subject.channels != 3:
        raise UserError(
            f"the model takes images of {subject.channels} channel, but files are read in "
            "colour: use --data"
        )
    views = [test_view(read_image(str(path)), subject.crops) for path in files]
    labels = torch.zeros(len(views), dtype=torch.long)
    return MemoryImages(torch.stack(views), ["?"], labels, STATISTICS, subject.crops)
