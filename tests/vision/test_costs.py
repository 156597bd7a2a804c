"""Parameter counts against the paper's tables 1, 3 and 7."""

import pytest
import torch
from our_commands import call

from fairseq_cgc.core import UserError
from fairseq_cgc.vision import costs, create_model, list_models
from fairseq_cgc.vision.costs import MODELS, TABLE_3A, TABLE_3B, Cost, cost


def test_resnet50_by_hand():
    """Every convolution's output positions times its weights, and the classifier."""
    total = 112 * 112 * 64 * 3 * 49
    channels, side = 64, 56
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for block in range(blocks):
            total += side**2 * channels * width  # before the stride
            if block == 0:
                side = side if stage == 0 else side // 2
                total += side**2 * channels * 4 * width
            total += side**2 * (9 * width**2 + width * 4 * width)
            channels = 4 * width
    counted = cost("resnet50")
    assert counted.multiply_adds == total + 2048 * 1000
    assert counted.gated_weights == 0


def test_gates_by_hand():
    plain, gated = cost("resnet8_cifar"), cost("resnet8_cifar_cgc")
    convolutions = [(3, 16), (16, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64)]
    assert gated.gated_weights == sum(9 * c * o for c, o in convolutions)
    # E: c x 9 x 5; D: (c + o) x 5 x 9; I: width c/g times o, for each of 5 numbers
    gates = sum(45 * (c + c + o) + 5 * min(c, 16) * o for c, o in convolutions)
    assert gated.multiply_adds - plain.multiply_adds == gates


@pytest.mark.parametrize("name", ["resnet8_cifar", "dcnv2_resnet50"])
def test_counting_leaves_the_random_state(name):
    before = torch.get_rng_state()
    cost(name)
    assert torch.equal(before, torch.get_rng_state())


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
    elif row.label == "gc_resnet50, fine-tuned":  # of another count of the same network
        assert (round(got, 2), row.parameters) == (28.11, 28.08)
    elif row.model == "glore_resnet50":
        assert round(got, 1) == row.parameters
    else:
        assert round(got, 2) == row.parameters


def test_the_arithmetic_of_dcnv2():
    """What fairseq_cgc/vision/published.yaml says: 27.4M and 200M fit no layers and groups."""
    layers = {1: (64, 3, 56), 2: (128, 4, 28), 3: (256, 6, 14), 4: (512, 3, 7)}  # widths, sides

    def count(stages, groups):
        maps, chosen = 27 * groups, [layers[stage] for stage in stages]
        parameters = sum(n * maps * (9 * c + 1) for c, n, _ in chosen)
        adds = sum(n * maps * 9 * c * side**2 for c, n, side in chosen)
        return round((25_557_032 + parameters) / 1e6, 2), round(adds / 1e6)

    assert count((2, 3, 4), 1) == (26.43, 189)
    assert count((2, 3, 4), 2) == (27.30, 378)
    assert count((1, 2, 3, 4), 2) == (27.39, 671)
    counted, plain = cost("dcnv2_resnet50"), cost("resnet50")
    assert round((counted.multiply_adds - plain.multiply_adds) / 1e6) == 189


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


@pytest.fixture
def counted(monkeypatch):
    """Replaces the counting: a model has a million multiply-adds for each letter of its name."""
    costs._plain_cost.cache_clear()
    names = []

    def cost(name, *, cgc=None):
        names.append((name, cgc))
        return Cost(25_560_000, 10**6 * len(name), 3_000_000 if "cgc" in name else 0)

    monkeypatch.setattr(costs, "cost", cost)
    yield names
    costs._plain_cost.cache_clear()


def test_all_models_and_variants(counted):
    lines = list(costs.lines())
    labels = [line.split()[0] for line in lines if line]
    for name in list_models():
        assert labels.count(name) == 1
    assert lines.count("") > 4
    assert any(line.startswith("G1 * G2 ") for line in lines)
    assert ("resnet110_cifar_cgc", {"combine": "product"}) in counted
    assert any(line.startswith("dcnv2_resnet50: ") for line in lines)
    assert max(map(len, lines)) <= 100


def test_cells_of_the_table(counted):
    rows = {
        line.split()[0]: line.split()[1:]
        for line in costs.lines(["resnet50", "resnet50_cgc"])
        if line.startswith("resnet")
    }
    assert rows["resnet50"] == ["25.56", "25.56", "8.0", "4000"]
    assert rows["resnet50_cgc"] == ["25.56", "25.59", "12.0", "4.000", "6", "3.00"]


def test_markdown(counted):
    lines = list(costs.lines(["resnet20_cifar_cgc"], markdown=True))
    rows = [line for line in lines if line.startswith("|")]
    assert [row.count("|") for row in rows] == [8, 8, 8]
    assert rows[2] == "| resnet20_cifar_cgc | 25.56 |  | 18.0 | 4.000 |  | 3.00 |"


def test_unknown_names_are_told_before_anything_is_counted(counted):
    with pytest.raises(UserError, match="there is no model 'resnet9'"):
        list(costs.lines(["resnet50", "resnet9"]))
    assert counted == []


def test_table_command_prints_markdown(counted, capsys):
    call("table", "image", "resnet8_cifar", "--markdown")
    assert "| resnet8_cifar | 25.56 |" in capsys.readouterr().out


def test_unknown_names_end_the_command(counted):
    with pytest.raises(UserError, match="^there is no model 'resnet9'; allowed are bam"):
        call("table", "image", "resnet9")
