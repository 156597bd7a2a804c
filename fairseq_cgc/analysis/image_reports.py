"""Figures 4 and 5 for a checkpoint of scripts/train_image.py: a picture, and its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fairseq_cgc.analysis.cam import heat_maps
from fairseq_cgc.analysis.class_distances import class_distances
from fairseq_cgc.analysis.distance_pictures import draw_distances
from fairseq_cgc.analysis.heat_map_pictures import draw_heat_maps
from fairseq_cgc.analysis.image_inputs import (
    chosen_numbers,
    files_as_data,
    image_files,
    standardised_batches,
)
from fairseq_cgc.analysis.kernels import record_kernels
from fairseq_cgc.analysis.layers import GATED, find_layer
from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.images import Images
from fairseq_cgc.vision.data.loader import Standardise
from fairseq_cgc.vision.training.distributed import join_processes
from fairseq_cgc.vision.training.trained_model import load_trained, test_images


def report_heat_maps(
    checkpoint: Path,
    words: Sequence[str],
    output: Path,
    *,
    data: str | None,
    split: str,
    layer: str | None,
    target: str | None,
    device: str,
) -> dict[str, Any]:
    """Grad-CAM++ before and after a layer, and of its context (Fig. 4).

    Args:
        checkpoint: of a training.
        words: files and folders of images; with ``data``, numbers in its split.
        output: PNG file to write.
        data: as for training; ``None`` for files.
        split: of the data.
        layer: a 2-D convolution; by default that of :func:`find_layer`.
        target: the class to explain; by default the true one, for files the predicted one.
        device: as in :func:`join_processes`.

    Returns:
        What was found, with all maps.

    Raises:
        UserError: if anything cannot be read, or there is no such layer, image or class.
    """
    subject = load_trained(checkpoint)
    classes = subject.classes or ()
    images: Images
    if data is None:
        files = image_files([Path(word) for word in words])
        images, numbers = files_as_data(subject, files), list(range(len(files)))
        names, true = [path.name for path in files], None
    else:
        images, _ = test_images(subject, data, split=split, objectnet=None)
        numbers = chosen_numbers(images, words)
        names, true = [f"{split} {number}" for number in numbers], images.labels[numbers]
    explained = true
    if target is not None:
        if target not in classes:
            more = f" and {len(classes) - 10} more" if len(classes) > 10 else ""
            raise UserError(
                f"--class is {target!r}, but must be one of {', '.join(classes[:10])}{more}"
            )
        explained = torch.full((len(numbers),), classes.index(target))
    pixels = images.batch(numbers, seed=None)
    with join_processes(device) as processes:
        standardise = Standardise(images, processes.device, channels_last=False)
        inputs = standardise(pixels.to(processes.device))
        found = heat_maps(subject.model.to(processes.device), layer, inputs, explained)
    probabilities = found.logits.softmax(1)
    rows, labels = [], []
    for row, name in enumerate(names):
        best, shown = int(found.logits[row].argmax()), int(found.classes[row])
        values = {
            "image": name,
            "true": None if true is None else classes[int(true[row])],
            "predicted": classes[best],
            "probability": probabilities[row, best].item(),
            "explained": classes[shown],
            "probability of the explained": probabilities[row, shown].item(),
        }
        rows.append({**values, **{key: maps[row].tolist() for key, maps in found.maps.items()}})
        lines = [name, f"predicted {classes[best]} ({100 * probabilities[row, best]:.0f}%)"]
        if true is not None:
            lines.insert(1, f"true {values['true']}")
        if target is not None:
            lines.append(f"maps for {target}")
        labels.append("\n".join(lines))
    draw_heat_maps(pixels, found, labels, f"{subject.name}, layer {found.layer}", output)
    return {"model": subject.name, "layer": found.layer, "images": rows}


def report_kernels(
    checkpoint: Path,
    output: Path,
    *,
    data: str,
    split: str,
    layer: str | None,
    device: str,
    batch_size: int,
    workers: int,
) -> dict[str, Any]:
    """Distances between the mean modulated kernels of classes (Fig. 5 and appendix A.2).

    Args:
        checkpoint, output, data, split, device: as above.
        layer: a gated convolution; the last one by default.
        batch_size: images at a time.
        workers: processes that read files.

    Returns:
        What was found; ``shuffled`` is the percentage for labels dealt out by chance.

    Raises:
        UserError: if anything cannot be read, or the layer or enough classes are missing.
    """
    if batch_size < 1:
        raise UserError(f"--batch-size is {batch_size}, but must be at least 1")
    subject = load_trained(checkpoint)
    layer, _ = find_layer(subject.model, layer, GATED)
    images, _ = test_images(subject, data, split=split, objectnet=None)
    with join_processes(device) as processes:
        batches = standardised_batches(images, processes, batch_size=batch_size, workers=workers)
        kernels, labels = record_kernels(subject.model.to(processes.device), layer, batches)
    found = class_distances(kernels, labels, images.classes, progress=True)
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    control = class_distances(kernels, shuffled, images.classes, progress=True)
    title = f"{subject.name}, layer {layer}: modulated kernels of {len(labels)} images"
    draw_distances(found, title, output)
    return {
        "model": subject.name,
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
