"""Principal components, and the share of variance that groups explain.

Shape letters: N points, D their coordinates, k components.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fairseq_cgc.core import UserError


@dataclass(frozen=True)
class Projection:
    """Points along their principal components.

    Attributes:
        points: N x k. Each component's sign makes its largest coordinate positive.
        shares: k, of the total variance.
    """

    points: Tensor
    shares: Tensor


def project(points: Tensor, components: int = 2) -> Projection:
    """Principal component analysis by a singular value decomposition.

    Args:
        points: N x D.
        components: k.

    Raises:
        UserError: if there are too few points or coordinates, or all points are the same.
    """
    if min(points.shape[0] - 1, points.shape[1]) < components:
        raise UserError(
            f"{components} principal components need more than {components} points and at least "
            f"{components} coordinates, but there are {points.shape[0]} and {points.shape[1]}"
        )
    centred = points.double() - points.double().mean(0)
    left, values, right = torch.linalg.svd(centred, full_matrices=False)
    total = values.square().sum()
    if total == 0:
        raise UserError("all points are the same: they have no principal components")
    # The sign of a singular vector is arbitrary; a picture must not depend on the library.
    largest = right.abs().argmax(1, keepdim=True)
    sign = right.gather(1, largest).sign().squeeze(1)
    scores = (left * values * sign)[:, :components]
    return Projection(scores, (values.square() / total)[:components])


def explained(points: Tensor, groups: Tensor) -> float:
    """Share of the variance that G groups explain: R^2, adjusted for their number.

    ``1 - (W / (N - G)) / (T / (N - 1))``, where W sums the squared distances to the mean of the
    group and T those to the mean of all points. It is about 0 (possibly a little less) for random
    groups, and 1 for groups that determine the points.

    Args:
        points: N x D.
        groups: N, the group of each point.

    Raises:
        UserError: if there are fewer than two groups, as many groups as points, or all points are
            the same.
    """
    _, label = groups.unique(return_inverse=True)
    counts = label.bincount()
    number, total = len(counts), len(points)
    if number < 2 or total <= number:
        raise UserError(
            f"explaining variance needs at least 2 groups and more points than groups, but there "
            f"are {number} and {total}"
        )
    points = points.double()
    means = _means(points, label, counts)
    within = (points - means[label]).square().sum()
    around = (points - points.mean(0)).square().sum()
    if around == 0:
        raise UserError("all points are the same: there is no variance to explain")
    return (1 - (within / (total - number)) / (around / (total - 1))).item()


def without(points: Tensor, groups: Tensor) -> Tensor:
    """The points minus the mean of their group, N x D in float64."""
    _, label = groups.unique(return_inverse=True)
    points = points.double()
    return points - _means(points, label, label.bincount())[label]


def equal_bins(values: Tensor, number: int) -> Tensor:
    """The bin of each value, for at most ``number`` bins of about equal size.

    Equal values share a bin.
    """
    inner = torch.linspace(0, 1, number + 1, dtype=torch.float64)[1:-1]
    return torch.bucketize(values.double(), values.double().quantile(inner).unique())


def _means(points: Tensor, label: Tensor, counts: Tensor) -> Tensor:
    sums = torch.zeros(len(counts), points.shape[1], dtype=points.dtype)
    return sums.index_add_(0, label, points) / counts.unsqueeze(1)
