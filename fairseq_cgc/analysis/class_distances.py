"""How well the modulated kernels of a layer separate classes (Fig. 5 and appendix A.2).

The paper calculates "the average modulated kernel [...] for images of each class", then
"inter-class L2 distances between every two average modulated kernels, i.e., class centers, and the
intra-class L2 distance (mean distance to the class center) for each class", and counts how often
"the inter-class distance is larger than the corresponding intra-class distance" (93.99% on
ImageNet). We read "corresponding" as that of the first class of an ordered pair, so there are
C (C - 1) cases.

Shape letters: C classes, N samples, o output channels, c input channels, K = prod(kernel).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from fairseq_cgc.analysis.kernels import ModulatedKernels
from fairseq_cgc.core import UserError
from fairseq_cgc.support.figures import as_written, new_figure, save_figure

#: Bytes that class centers and kernels of samples may each take at a time.
WORKSPACE = 128 * 2**20


@dataclass(frozen=True)
class ClassDistances:
    """Distances between the kernels of C classes.

    Attributes:
        classes: names of the classes that have samples.
        samples: number of samples of each class.
        inter: C x C, distances between class centers.
        intra: C, mean distance of a class's samples to its center.
        center_norm: C, norm of the centers, with which the distances can be compared.
        tap_strength: C x kernel, mean absolute weight of the center at each position.
    """

    classes: tuple[str, ...]
    samples: tuple[int, ...]
    inter: Tensor
    intra: Tensor
    center_norm: Tensor
    tap_strength: Tensor

    @property
    def difference(self) -> Tensor:
        """C x C, the inter-class distance minus the intra-class distance of the row's class."""
        return self.inter - self.intra.unsqueeze(1)

    @property
    def percentage(self) -> float:
        """The percentage of ordered pairs of classes whose difference is positive."""
        others = ~torch.eye(len(self.classes), dtype=torch.bool)
        return 100 * (self.difference[others] > 0).double().mean().item()


def class_distances(
    kernels: ModulatedKernels, labels: Tensor, classes: Sequence[str], *, progress: bool = False
) -> ClassDistances:
    """Measure all distances; classes without samples are left out.

    Args:
        kernels: of N samples.
        labels: N, positions in ``classes``.
        classes: names of the classes.
        progress: whether to draw a progress bar.

    Raises:
        UserError: if fewer than two classes have samples.
    """
    present, label = labels.unique(return_inverse=True)
    if len(present) < 2:
        raise UserError(
            f"distances between classes need samples of at least 2 classes, but there are "
            f"{len(present)}"
        )
    counts = label.bincount()
    outputs, inputs, taps = kernels.weight.shape
    number = len(counts)
    gram = torch.zeros(number, number, dtype=torch.float64)
    squares = torch.zeros(len(label), dtype=torch.float64)
    norms = torch.zeros(number, dtype=torch.float64)
    strength = torch.zeros(number, taps, dtype=torch.float64)
    step = max(1, WORKSPACE // (8 * number * inputs * taps))
    starts = range(0, outputs, step)
    for start in tqdm(starts, "output channels", leave=False, disable=not progress, delay=5):
        part = slice(start, min(start + step, outputs))
        centers = mean_kernels(kernels, label, counts, part)  # C x s x c x K
        for samples in _chunks(kernels, part):
            away = kernels.of(samples, part).double() - centers[label[samples]]
            squares[samples] += away.square().flatten(1).sum(1)
        norms += centers.square().flatten(1).sum(1)
        strength += centers.abs().sum((1, 2)) / (outputs * inputs)
        # Relative to the mean of the centers: products of small numbers keep their digits.
        flat = (centers - centers.mean(0)).flatten(1)
        gram += flat @ flat.T
    length = gram.diagonal()
    inter = (length.unsqueeze(1) + length - 2 * gram).clamp(min=0).sqrt().fill_diagonal_(0)
    intra = torch.zeros(number, dtype=torch.float64).index_add_(0, label, squares.sqrt()) / counts
    return ClassDistances(
        tuple(classes[int(i)] for i in present),
        tuple(counts.tolist()),
        inter,
        intra,
        norms.sqrt(),
        strength.unflatten(1, kernels.kernel_size),
    )


def mean_kernels(
    kernels: ModulatedKernels, label: Tensor, counts: Tensor, outputs: slice
) -> Tensor:
    """The centers of all classes for some output channels, C x s x c/G x K in float64.

    Args:
        kernels: of N samples.
        label: N, from 0 to C - 1.
        counts: C, number of samples of each class.
        outputs: the output channels.
    """
    shape = kernels.weight[outputs].shape
    sums = torch.zeros(len(counts), *shape, dtype=torch.float64)
    for samples in _chunks(kernels, outputs):
        sums.index_add_(0, label[samples], kernels.of(samples, outputs).double())
    return sums / counts.view(-1, 1, 1, 1)


def _chunks(kernels: ModulatedKernels, outputs: slice) -> list[slice]:
    step = max(1, WORKSPACE // (8 * kernels.weight[outputs].numel()))
    return [slice(start, start + step) for start in range(0, len(kernels), step)]


_MAX_NAMED = 20  # With more classes, names and kernels of single classes would be illegible.
_MAX_WRITTEN = 12  # likewise for the numbers in the matrix


def draw_distances(distances: ClassDistances, title: str, output: Path) -> None:
    """Draw the differences of distances and, for 2-D kernels of few classes, the mean kernels."""
    number = len(distances.classes)
    with_kernels = number <= _MAX_NAMED and distances.tap_strength.dim() == 3
    figure = new_figure(11.5 if with_kernels else 6.5, 5.8)
    figure.suptitle(title, fontsize=10)
    if with_kernels:
        left, right = figure.subfigures(1, 2, width_ratios=(7, 4))
        _kernels(right, distances)
    else:
        left = figure
    _matrix(left, distances)
    save_figure(figure, output)


def _matrix(figure: Any, distances: ClassDistances) -> None:
    number = len(distances.classes)
    values = distances.difference.clone().fill_diagonal_(torch.nan)  # not a pair
    largest = values.nan_to_num().abs().max().item() or 1.0
    axis = figure.subplots()
    axis.set_facecolor("0.75")
    image = axis.imshow(values.numpy(), cmap="RdBu", vmin=-largest, vmax=largest)
    axis.set_title(
        f"distance of two classes' mean kernels minus\nmean distance within the row's class: "
        f"positive in {distances.percentage:.2f}% of pairs",
        fontsize=9,
    )
    axis.set_xlabel("class")
    axis.set_ylabel("class whose own distance is subtracted")
    if number <= _MAX_NAMED:
        names = [_short(name) for name in distances.classes]
        long = max(map(len, distances.classes)) > 2
        axis.set_xticks(range(number), names, rotation=45 if long else 0, fontsize=8)
        axis.set_yticks(range(number), names, fontsize=8)
    if number <= _MAX_WRITTEN:
        for row, column in permutations(range(number), 2):
            value = values[row, column].item()
            axis.text(
                column, row, f"{value:.2g}", ha="center", va="center", fontsize=6,
                color="white" if abs(value) > 0.6 * largest else "black",
            )  # fmt: skip
    figure.colorbar(image, ax=axis, label="L2 distance (units of the weights)", shrink=0.8)


def _kernels(figure: Any, distances: ClassDistances) -> None:
    strength = distances.tap_strength
    change = 100 * (strength / strength.mean(0) - 1)
    largest = change.abs().max().item() or 1.0
    columns = ceil(len(strength) ** 0.5)
    rows = ceil(len(strength) / columns)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, name, values in zip(axes.flat, distances.classes, change, strict=False):
        image = axis.imshow(values.numpy(), cmap="PuOr_r", vmin=-largest, vmax=largest)
        axis.set_title(_short(name), fontsize=8)
    figure.suptitle(
        "mean kernel of each class: mean absolute weight\nat each position of the kernel",
        fontsize=9,
    )
    figure.colorbar(
        image,
        ax=axes,
        label="difference from the mean over the classes (%)",
        orientation="horizontal",
        shrink=0.8,
        aspect=40,
    )


def _short(name: str) -> str:
    return as_written(name if len(name) <= 14 else f"{name[:13]}…")
