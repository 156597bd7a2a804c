"""Reports on an image model (Fig. 4 and 5): a picture and its numbers for a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fairseq_cgc.analysis.cam import draw_heat_maps, heat_maps
from fairseq_cgc.analysis.class_distances import class_distances, draw_distances
from fairseq_cgc.analysis.kernels import record_kernels
from fairseq_cgc.analysis.layers import GATED, find_layer
from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.dataset import Dataset
from fairseq_cgc.vision.data.folder import STATISTICS, read_image
from fairseq_cgc.vision.data.loader import Normalize, evaluation_batches, load_batches
from fairseq_cgc.vision.data.memory import MemoryImages
from fairseq_cgc.vision.data.transforms import evaluation_view
from fairseq_cgc.vision.data.tree import SUFFIXES, entries, is_file, is_folder
from fairseq_cgc.vision.training.distributed import Processes, join_processes, progress_bar
from fairseq_cgc.vision.training.trained_model import TrainedModel, evaluation_images, load_trained

_MAX_SHOWN = 10  # images of a data set, unless the user names others


def normalized_batches(
    images: Dataset, processes: Processes, *, batch_size: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every image once, normalized, B x C x H x W, with its label; draw a progress bar.

    Raises:
        UserError: for an image that cannot be read.
    """
    normalize = Normalize(images, processes.device, channels_last=False)
    batches = evaluation_batches(len(images), batch_size, processes)
    loader = load_batches(images, batches, seed=None, workers=workers, device=processes.device)
    with progress_bar("images", len(images), processes) as bar:
        for pixels, labels in loader:
            yield normalize(pixels), labels
            bar.update(len(labels))


def chosen_numbers(images: Dataset, words: Sequence[str]) -> list[int]:
    """Parse positions in a data set; without any, take the first image of up to ten classes.

    Raises:
        UserError: for a word that is not a position.
    """
    if not words:
        first = [int((images.labels == c).nonzero()[0]) for c in images.labels.unique()]
        return first[:_MAX_SHOWN]
    for word in words:
        if not word.isdecimal() or int(word) >= len(images):
            raise UserError(
                f"with --data, images are numbers from 0 to {len(images) - 1}, but one is {word!r}"
            )
    return [int(word) for word in words]


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
    if trained.channels != 3:
        raise UserError(
            f"the model takes images of {trained.channels} channel, but files are read in "
            "colour: use --data"
        )
    views = [evaluation_view(read_image(str(path)), trained.crops) for path in files]
    labels = torch.zeros(len(views), dtype=torch.long)
    return MemoryImages(torch.stack(views), ["?"], labels, STATISTICS, trained.crops)


def report_heat_maps(
    checkpoint: Path,
    images: Sequence[str],
    out: Path,
    *,
    data: str | None,
    split: str,
    layer: str | None,
    target: str | None,
    device: str,
) -> dict[str, Any]:
    """Draw Grad-CAM++ before and after a layer, and of its context (Fig. 4).

    The parameters are the options of ``fairseq-cgc analyse cam``.

    Returns:
        What was found for each image, with all maps, for JSON.

    Raises:
        UserError: if anything cannot be read, or there is no such layer, image or class.
    """
    trained = load_trained(checkpoint)
    classes = trained.classes or ()
    found: Dataset
    if data is None:
        files = image_files([Path(word) for word in images])
        found, numbers = files_as_data(trained, files), list(range(len(files)))
        names, true = [path.name for path in files], None
    else:
        found, _ = evaluation_images(trained, data, split=split)
        numbers = chosen_numbers(found, images)
        names, true = [f"{split} {number}" for number in numbers], found.labels[numbers]
    explained = true
    if target is not None:
        if target not in classes:
            more = f" and {len(classes) - 10} more" if len(classes) > 10 else ""
            raise UserError(
                f"--class is {target!r}, but must be one of {', '.join(classes[:10])}{more}"
            )
        explained = torch.full((len(numbers),), classes.index(target))
    pixels = found.batch(numbers, seed=None)
    with join_processes(device) as processes:
        normalize = Normalize(found, processes.device, channels_last=False)
        inputs = normalize(pixels.to(processes.device))
        heat = heat_maps(trained.model.to(processes.device), layer, inputs, explained)
    rows, labels = [], []
    for row, (name, probabilities) in enumerate(zip(names, heat.logits.softmax(1), strict=True)):
        best, shown = int(probabilities.argmax()), int(heat.classes[row])
        values = {
            "image": name,
            "true": None if true is None else classes[int(true[row])],
            "predicted": classes[best],
            "probability": probabilities[best].item(),
            "explained": classes[shown],
            "probability of the explained": probabilities[shown].item(),
        }
        rows.append({**values, **{key: maps[row].tolist() for key, maps in heat.maps.items()}})
        lines = [name, f"predicted {classes[best]} ({100 * probabilities[best]:.0f}%)"]
        if true is not None:
            lines.insert(1, f"true {values['true']}")
        if target is not None:
            lines.append(f"maps for {target}")
        labels.append("\n".join(lines))
    draw_heat_maps(pixels, heat, labels, f"{trained.name}, layer {heat.layer}", out)
    return {"model": trained.name, "layer": heat.layer, "images": rows}


def report_kernels(
    checkpoint: Path,
    out: Path,
    *,
    data: str,
    split: str,
    layer: str | None,
    device: str,
    batch_size: int,
    workers: int,
) -> dict[str, Any]:
    """Draw the distances between the mean modulated kernels of classes (Fig. 5, appendix A.2).

    The parameters are the options of ``fairseq-cgc analyse kernels``.

    Returns:
        The distances, for JSON; ``shuffled`` is the percentage for randomly permuted labels.

    Raises:
        UserError: if anything cannot be read, or the layer or enough classes are missing.
    """
    if batch_size < 1:
        raise UserError(f"--batch-size is {batch_size}, but must be at least 1")
    trained = load_trained(checkpoint)
    layer, _ = find_layer(trained.model, layer, GATED)
    images, _ = evaluation_images(trained, data, split=split)
    with join_processes(device) as processes:
        batches = normalized_batches(images, processes, batch_size=batch_size, workers=workers)
        kernels, labels = record_kernels(trained.model.to(processes.device), layer, batches)
    found = class_distances(kernels, labels, images.classes, progress=True)
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    control = class_distances(kernels, shuffled, images.classes, progress=True)
    title = f"{trained.name}, layer {layer}: modulated kernels of {len(labels)} images"
    draw_distances(found, title, out)
    return {
        "model": trained.name,
        "layer": layer,
        "data": data,
        "split": split,
        "percentage": found.percentage,
        "shuffled": control.percentage,
        "classes": list(found.classes),
        "samples": list(found.samples),
        "length of the mean kernel": found.center_norm.tolist(),
        "intra": found.intra.tolist(),
        "inter": found.inter.tolist(),
        "mean absolute weight": found.tap_strength.tolist(),
    }
