"""Parameter counts against the paper's tables 1, 3 and 7."""

import pytest
import torch

from fairseq_cgc.vision import create_model
from fairseq_cgc.vision.costs import MODELS, TABLE_3A, TABLE_3B


def millions(row) -> float:
    with torch.device("meta" if "cifar" not in row.model else "cpu"):
        model = create_model(row.model, cgc=row.cgc or None)
    return sum(p.numel() for p in model.parameters()) / 1e6


@pytest.mark.parametrize("row", MODELS, ids=lambda row: row.model)
def test_parameters_of_tables_1_and_7(row):
    got = millions(row)
    if row.model == "dcnv2_resnet50":
        assert got == pytest.approx(row.parameters, rel=0.04)
        assert "0.87M" in row.note  # which tells why
        assert got - 25.557 == pytest.approx(0.87, abs=0.005)
    elif row.model == "glore_resnet50":
        assert round(got, 1) == row.parameters
    else:
        assert round(got, 2) == row.parameters


@pytest.mark.parametrize("row", TABLE_3A, ids=lambda row: row.label)
def test_parameters_of_table_3a(row):
    assert round(millions(row), 2) == row.parameters


def test_table_3a_is_the_papers():
    want = [1.80, 1.75, 1.78, 1.80, 1.96, 1.81, 1.79, 1.80, 1.79, 1.81, 1.80, 1.80, 1.78, 1.76]
    assert [row.parameters for row in TABLE_3A] == want


def test_switches_of_table_3b():
    shared_norm, shared_decoder, grid = (millions(row) for row in TABLE_3B[1:])
    default = millions(TABLE_3B[0])
    # One scale and shift for each input channel of 17 convolutions; one D_o of each: 16 of
    # 9 x 5 and the stem's of 49 x 25; E grows by three kernels' sizes.
    channels = 3 + 3 * 64 + 4 * 128 + 6 * 256 + 3 * 512
    assert (default - shared_norm) * 1e6 == pytest.approx(2 * channels)
    assert (default - shared_decoder) * 1e6 == pytest.approx(16 * 45 + 49 * 25)
    assert (grid - default) * 1e6 == pytest.approx(3 * (16 * 45 + 49 * 25))
