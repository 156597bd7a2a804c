"""Parameter counts against the paper's tables 4 and 5, and against sums by hand."""

import pytest
import torch

from fairseq_cgc.video import create_model
from fairseq_cgc.video.costs import MODELS

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))


def count(name, **options):
    with torch.device("meta"):
        model = create_model(name, **options)
    return sum(p.numel() for p in model.parameters())


def gate(channels, outputs, positions, latent, pooled):
    """E; two Ds; two normalisations of c and one of o; I, shared by the groups of 16 channels."""
    width = min(channels, 16)
    maps = latent * pooled + 2 * positions * latent
    return maps + 4 * channels + 2 * outputs + width * outputs // (channels // width)


def clip_gates(frames):
    total = gate(3, 64, frames * 49, 172, 343)
    for blocks, width in STAGES:
        total += blocks * gate(width, width, frames * 9, 14, 27)
    return total


ROWS = pytest.mark.parametrize("row", MODELS, ids=lambda row: f"{row.model}-{row.frames}")


@ROWS
def test_parameters_of_tables_4_and_5(row):
    got = count(row.model, num_frames=row.frames)
    if row.model.endswith(("_cgc", "_cgc3d", "_cgc1d3d")):  # by the text, not the printed sum
        frames = 1 if row.model.startswith("p3d") else row.frames
        plain = row.model.partition("_cgc")[0]
        temporal = sum(b // 2 * gate(w, w, 3, 2, 3) for b, w in STAGES)
        want = count(plain) + clip_gates(frames) + ("1d3d" in row.model) * temporal
        assert got == want
        assert got / 1e6 == pytest.approx(row.parameters, rel=0.01)
    else:
        assert round(got / 1e6, 2) == row.parameters


def test_the_numbers_are_the_papers():
    assert [(row.frames, row.parameters) for row in MODELS] == [
        (8, 23.86),
        (8, 31.22),
        (8, 24.07),
        (32, 25.38),
        (32, 32.73),
        (32, 25.39),
        (32, 25.61),
        (32, 25.62),
        (8, 23.86),
        (8, 31.22),
        (8, 24.07),
        (8, 31.43),
        (16, 23.86),
        (16, 24.09),
    ]


def test_the_numbers_of_the_explanation():
    """fairseq_cgc.video.costs tells these."""
    assert round(clip_gates(8) / 1e6, 2) == 0.26
    assert round(gate(3, 64, 8 * 49, 172, 343) / 1e6, 2) == 0.19
    assert round((clip_gates(16) - clip_gates(8)) / 1e6, 2) == 0.17
    assert round(clip_gates(1) / 1e6, 2) == 0.11
