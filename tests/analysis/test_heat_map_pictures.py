from __future__ import annotations

import pytest
import torch

from fairseq_cgc.analysis.cam import HeatMaps, draw_heat_maps

pytest.importorskip("matplotlib")


@pytest.mark.parametrize(("number", "channels"), [(1, 3), (3, 1)])
def test_draws_a_row_for_each_image(tmp_path, number, channels):
    maps = {"before": torch.rand(number, 2, 3), "after": torch.zeros(number, 2, 2)}
    heat = HeatMaps("conv", torch.zeros(number), torch.zeros(number, 2), maps)
    images = torch.randint(0, 256, (number, channels, 8, 6), dtype=torch.uint8)
    output = tmp_path / "cam.png"
    draw_heat_maps(images, heat, ["a"] * number, "title", output)
    assert output.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [output]
