from __future__ import annotations

import pytest
import torch

from fairseq_cgc.analysis import class_distances as module
from fairseq_cgc.analysis.class_distances import (
    ClassDistances,
    class_distances,
    mean_kernels,
)
from fairseq_cgc.analysis.distances_figure import draw_distances
from fairseq_cgc.analysis.kernels import ModulatedKernels
from fairseq_cgc.core import UserError


def some_kernels(samples: int = 11) -> tuple[ModulatedKernels, torch.Tensor]:
    kernels = ModulatedKernels(
        torch.randn(6, 4, 9), torch.randn(samples, 4, 9), torch.randn(samples, 6, 9), 1, "sum",
        (3, 3),
    )  # fmt: skip
    return kernels, torch.arange(samples) % 3


def by_hand(values: list[float]) -> ModulatedKernels:
    """Kernels of one weight with these values, each between 0 and 10."""
    logits = torch.logit(torch.tensor(values, dtype=torch.float64) / 10)
    return ModulatedKernels(
        torch.tensor([[[10.0]]], dtype=torch.float64), logits.view(-1, 1, 1), None, 1, "sum", (1,)
    )


@pytest.mark.parametrize("workspace", [1, 2000, 2**27])
def test_equals_a_plain_loop_in_pieces_of_any_size(monkeypatch, workspace):
    monkeypatch.setattr(module, "WORKSPACE", workspace)
    kernels, labels = some_kernels()
    found = class_distances(kernels, labels, ["a", "b", "c"])
    of_class: dict[int, list] = {0: [], 1: [], 2: []}
    for sample, label in enumerate(labels.tolist()):
        gate = 1 / (1 + torch.exp(-kernels.g1[sample][None] - kernels.g2[sample][:, None]))
        of_class[label].append((kernels.weight * gate).double())
    centers = [sum(group) / len(group) for group in of_class.values()]
    for i in range(3):
        for j in range(3):
            want = (centers[i] - centers[j]).square().sum().sqrt()
            torch.testing.assert_close(found.inter[i, j], want, rtol=1e-5, atol=1e-5)
        away = [(kernel - centers[i]).norm() for kernel in of_class[i]]
        torch.testing.assert_close(found.intra[i], sum(away) / len(away), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.center_norm[i], centers[i].norm(), rtol=1e-5, atol=0)
        strength = centers[i].abs().mean((0, 1)).view(3, 3)
        torch.testing.assert_close(found.tap_strength[i], strength, rtol=1e-5, atol=1e-7)
    assert found.samples == (4, 4, 3)
    mean = mean_kernels(kernels, labels, labels.bincount(), slice(2, 5))
    torch.testing.assert_close(mean, torch.stack(centers)[:, 2:5], rtol=1e-5, atol=1e-6)


def test_distances_of_kernels_made_by_hand():
    # Centers 2, 4 and 9; mean distances to them 1, 3 and 0.
    found = class_distances(
        by_hand([1, 3, 1, 7, 9, 9]), torch.tensor([0, 0, 1, 1, 4, 4]), list("abcde")
    )
    assert found.classes == ("a", "b", "e")
    want = torch.tensor([[0, 2, 7], [2, 0, 5], [7, 5, 0]], dtype=torch.float64)
    torch.testing.assert_close(found.inter, want, atol=1e-6, rtol=0)
    intra = torch.tensor([1, 3, 0], dtype=torch.float64)
    torch.testing.assert_close(found.intra, intra, atol=1e-6, rtol=0)
    # The distance exceeds the one within the row's class in every pair but (b, a).
    assert (found.difference[1, 0] < 0) and (found.difference[0, 1] > 0)
    assert found.percentage == pytest.approx(100 * 5 / 6)


def test_the_diagonal_is_no_pair():
    zeros = torch.zeros(2)
    found = ClassDistances(("a", "b"), (1, 1), 1 - torch.eye(2), zeros, zeros, zeros)
    assert found.percentage == 100


def test_one_class_has_no_distances():
    kernels, _ = some_kernels(2)
    with pytest.raises(UserError, match="at least 2 classes, but there are 1"):
        class_distances(kernels, torch.tensor([1, 1]), ["a", "b"])


pytest.importorskip("matplotlib")


@pytest.mark.parametrize(
    ("number", "kernel"), [(2, (3, 3)), (17, (3, 3)), (30, (3, 3)), (10, (5,))]
)
def test_draws_few_and_many_classes(tmp_path, number, kernel):
    names = tuple(f"class number {i}" for i in range(number))
    inter = torch.rand(number, number, dtype=torch.float64)
    strength = torch.rand(number, *kernel)
    found = ClassDistances(
        names, (4,) * number, inter, torch.rand(number), torch.rand(number), strength
    )
    output = tmp_path / "d.png"
    draw_distances([("model", found)], output)
    assert output.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [output]
    assert not found.difference.isnan().any()  # the picture blanks the diagonal of a copy
