from __future__ import annotations

import pytest
import torch

from fairseq_cgc.analysis.class_distances import ClassDistances, draw_distances

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
    draw_distances(found, "title", output)
    assert output.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [output]
    assert not found.difference.isnan().any()  # the picture blanks the diagonal of a copy
