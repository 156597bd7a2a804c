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

import torch
from torch import Tensor
from tqdm import tqdm

from fairseq_cgc.analysis.kernels import ModulatedKernels
from fairseq_cgc.core import UserError

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
