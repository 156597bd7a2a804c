from __future__ import annotations

import pytest
import torch

from fairseq_cgc.analysis.projection import equal_bins, explained, project, without
from fairseq_cgc.core import UserError


def test_finds_the_axes_of_a_known_cloud():
    """An ellipse of half axes 3 and 1, turned by 30 degrees in a plane of five dimensions."""
    angle = torch.linspace(0, 2 * torch.pi, 41, dtype=torch.float64)[:-1]
    flat = torch.stack([3 * angle.cos(), angle.sin()], 1)
    cos, sin = torch.cos(torch.tensor(torch.pi / 6)).item(), 0.5
    axes = torch.zeros(2, 5, dtype=torch.float64)
    axes[0, [1, 3]] = torch.tensor([cos, sin], dtype=torch.float64)
    axes[1, [1, 3]] = torch.tensor([-sin, cos], dtype=torch.float64)
    found = project(flat @ axes + 7)
    torch.testing.assert_close(found.points, flat)  # signs: largest coordinates are positive
    torch.testing.assert_close(found.shares, torch.tensor([0.9, 0.1], dtype=torch.float64))


def test_the_sign_does_not_depend_on_the_order_of_points():
    points = torch.randn(9, 4)
    order = torch.randperm(9)
    torch.testing.assert_close(project(points[order]).points, project(points).points[order])


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (torch.randn(2, 5), "more than 2 points"),
        (torch.randn(5, 1), "at least 2 coordinates"),
        (torch.ones(5, 3), "all points are the same"),
    ],
)
def test_a_cloud_that_is_too_small_is_reported(points, message):
    with pytest.raises(UserError, match=message):
        project(points)


def test_explained_by_hand():
    points = torch.tensor([[0.0], [2.0], [10.0], [12.0]])
    # Within: 4 over 2 degrees of freedom; around the mean 6: 36 + 16 + 16 + 36 over 3.
    found = explained(points, torch.tensor([5, 5, 8, 8]))
    assert found == pytest.approx(1 - (4 / 2) / (104 / 3))


def test_explained_is_one_for_groups_that_decide_and_zero_by_chance():
    points = torch.randn(400, 30)
    groups = torch.arange(400) % 40
    assert abs(explained(points, groups)) < 0.02  # unadjusted, it would be 0.1
    assert explained(groups[:, None].float(), groups) == pytest.approx(1)


def test_a_groups_mean_is_taken_away():
    points = torch.tensor([[1.0, 0.0], [3.0, 0.0], [7.0, 5.0]])
    assert without(points, torch.tensor([4, 4, 9])).tolist() == [[-1, 0], [1, 0], [0, 0]]


def test_bins_of_equal_size():
    assert equal_bins(torch.arange(12), 4).bincount().tolist() == [3, 3, 3, 3]
    bins = equal_bins(torch.tensor([1, 1, 1, 1, 1, 1, 5, 9]), 4)
    assert len(bins[:6].unique()) == 1  # equal values stay together
    assert bins[7] > bins[0]


@pytest.mark.parametrize(
    ("points", "groups", "message"),
    [
        (torch.randn(4, 2), torch.zeros(4), "at least 2 groups .* there are 1 and 4"),
        (torch.randn(3, 2), torch.arange(3), "more points than groups"),
        (torch.ones(4, 2), torch.tensor([0, 0, 1, 1]), "no variance"),
    ],
)
def test_what_cannot_be_explained_is_reported(points, groups, message):
    with pytest.raises(UserError, match=message):
        explained(points, groups)
