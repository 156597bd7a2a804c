"""Reports on image and video models (Fig. 4 and 5): a picture and its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fairseq_cgc.analysis.cam import HeatMaps, heat_maps
from fairseq_cgc.analysis.cam_figure import Shown, draw_heat_maps
from fairseq_cgc.analysis.class_distances import class_distances
from fairseq_cgc.analysis.distances_figure import draw_distances
from fairseq_cgc.analysis.kernels import record_kernels
from fairseq_cgc.analysis.layers import GATED, find_layer
from fairseq_cgc.analysis.samples import Subject, chosen_numbers, load_subjects, normalized_batches
from fairseq_cgc.core import UserError
from fairseq_cgc.support.errors import some_names
from fairseq_cgc.support.figures import as_written
from fairseq_cgc.vision.data.dataset import Dataset
from fairseq_cgc.vision.data.loader import Normalize
from fairseq_cgc.vision.training.distributed import join_processes


def report_heat_maps(
    checkpoints: Sequence[Path],
    samples: Sequence[str],
    out: Path,
    *,
    names: Sequence[str] | None,
    data: str | None,
    split: str,
    list_: Path | None,
    layer: str | None,
    target: str | None,
    device: str,
) -> dict[str, Any]:
    """Draw Grad-CAM++ before and after a layer, and of its context (Fig. 4).

    The parameters are the options of ``fairseq-cgc analyse cam``.

    Returns:
        What was found for each sample, with all maps, for JSON.

    Raises:
        UserError: if anything cannot be read, the models do not see the same samples, or there is
            no such layer, sample or class.
    """
    subjects = load_subjects(checkpoints, names)
    classes = subjects[0].classes
    if target is not None and target not in classes:
        raise UserError(f"--class is {target!r}, but must be one of {some_names(classes, 10)}")
    shown: list[Shown] = []
    records = []
    pixels = torch.empty(0)
    with join_processes(device) as processes:
        for subject in subjects:
            found, numbers, labels, true = _chosen(subject, samples, data, split, list_)
            own = found.batch(numbers, seed=None)
            if shown and own.shape != pixels.shape:
                raise UserError(
                    f"{subject.name} sees {_size(own)}, but {subjects[0].name} sees {_size(pixels)}"
                )
            pixels = pixels if shown else own
            explained = true
            if target is not None:
                explained = torch.full((len(numbers),), classes.index(target))
            normalize = Normalize(found, processes.device, channels_last=False)
            inputs = normalize(own.to(processes.device))
            model = subject.trained.model.to(processes.device)
            with _told_apart(subject, subjects):
                heat = heat_maps(model, layer, inputs, explained)
            rows = _rows(heat, found.noun, labels, true, classes)
            shown.append(Shown(subject.name, heat, [_note(row) for row in rows]))
            records.append({**subject.record(), "layer": heat.layer, found.noun: rows})
    lines = [
        "\n".join([label, *_words(row, target)]) for label, row in zip(labels, rows, strict=True)
    ]
    draw_heat_maps(pixels, shown, lines, out)
    return records[0] if len(records) == 1 else {"models": records}


def _chosen(
    subject: Subject, samples: Sequence[str], data: str | None, split: str, list_: Path | None
) -> tuple[Dataset, list[int], list[str], Tensor | None]:
    """The data, the positions in them that were asked for, their names, and the true classes."""
    if data is None:
        found, names = subject.files([Path(word) for word in samples])
        return found, list(range(len(names))), names, None
    found = subject.samples(data, split, list_)
    numbers = chosen_numbers(found, samples)
    return found, numbers, [f"{split} {number}" for number in numbers], found.labels[numbers]


@contextmanager
def _told_apart(subject: Subject, subjects: Sequence[Subject]) -> Iterator[None]:
    """Name the model in an error if there are several."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{subject.name}: {error}" if len(subjects) > 1 else error) from error


def _rows(
    heat: HeatMaps, noun: str, labels: Sequence[str], true: Tensor | None, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """What was found for each sample, for JSON."""
    rows = []
    for row, (name, probabilities) in enumerate(zip(labels, heat.logits.softmax(1), strict=True)):
        best, shown = int(probabilities.argmax()), int(heat.classes[row])
        values = {
            noun.removesuffix("s"): name,
            "true": None if true is None else classes[int(true[row])],
            "predicted": classes[best],
            "probability": probabilities[best].item(),
            "explained": classes[shown],
            "probability of the explained": probabilities[shown].item(),
        }
        rows.append({**values, **{key: maps[row].tolist() for key, maps in heat.maps.items()}})
    return rows


def _note(row: dict[str, Any]) -> str:
    """The prediction, as the figure has it below the last map."""
    return f"{100 * row['probability']:.0f}% {as_written(row['predicted'])}"


def _words(row: dict[str, Any], target: str | None) -> list[str]:
    """What the figure says of a sample beside its name."""
    words = [] if row["true"] is None else [f"true: {as_written(row['true'])}"]
    return words + ([] if target is None else [f"explained: {as_written(target)}"])


def _size(pixels: Tensor) -> str:
    return " x ".join(map(str, pixels.shape[1:]))


def report_kernels(
    checkpoints: Sequence[Path],
    out: Path,
    *,
    names: Sequence[str] | None,
    data: str,
    split: str,
    list_: Path | None,
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
    subjects = load_subjects(checkpoints, names)
    layers = []
    for subject in subjects:
        with _told_apart(subject, subjects):
            layers.append(find_layer(subject.trained.model, layer, GATED)[0])
    drawn, records = [], []
    with join_processes(device) as processes:
        for subject, name in zip(subjects, layers, strict=True):
            found = subject.samples(data, split, list_)
            batches = normalized_batches(found, processes, batch_size=batch_size, workers=workers)
            model = subject.trained.model.to(processes.device)
            kernels, labels = record_kernels(model, name, batches)
            distances = class_distances(kernels, labels, found.classes, progress=True)
            shuffled = labels[
                torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
            ]
            control = class_distances(kernels, shuffled, found.classes, progress=True)
            drawn.append((subject.name, distances))
            records.append(
                {
                    **subject.record(),
                    "layer": name,
                    "data": data,
                    "split": split,
                    "percentage": distances.percentage,
                    "shuffled": control.percentage,
                    "classes": list(distances.classes),
                    "samples": list(distances.samples),
                    "length of the mean kernel": distances.center_norm.tolist(),
                    "intra": distances.intra.tolist(),
                    "inter": distances.inter.tolist(),
                    "mean absolute weight": distances.tap_strength.tolist(),
                }
            )
    draw_distances(drawn, out)
    return records[0] if len(records) == 1 else {"models": records}
