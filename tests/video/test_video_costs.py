"""Parameter counts against the paper's tables 4 and 5, and against sums by hand."""

import pytest
import torch
from our_commands import call

from fairseq_cgc.core import UserError
from fairseq_cgc.video import costs, create_model, list_models
from fairseq_cgc.video.costs import MODELS
from fairseq_cgc.vision.costs import Cost, count

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))


def count_parameters(name, **options):
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


def relations(classes, *, shared):
    """TRN's networks of 256 x s inputs and 256 hidden numbers: 7 of them, or one for a subset."""
    networks = [(8, 1), *((size, 1 if shared else 3) for size in range(2, 8))]
    return sum(
        number * (256 * size * 256 + 256 + 256 * classes + classes) for size, number in networks
    )


def volume():
    """ECO's 3 x 3 x 3 convolutions on 96 maps, and their normalisations."""
    pairs = [(96, 128), (128, 128), (128, 128)]  # res3a, res3b
    for c, o in ((128, 256), (256, 512)):  # res4 and res5, a and b; the shortcut of a
        pairs += [(c, o), (o, o), (c, o), (o, o), (o, o)]
    norms = [128, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512]
    return sum(27 * c * o for c, o in pairs) + 2 * sum(norms)


RESNET50, BN_INCEPTION = 25_557_032 - 1000 * 2049, 11_285_224 - 1000 * 1025  # without classifiers
#: BN-Inception's part that makes ECO's maps: weights and normalisations to inception_3c.
BEHIND = 3 * 64 * 49 + 64 * 64 + 64 * 192 * 9 + 2 * (64 + 64 + 192)
BEHIND += 192 * 224 + 9 * (64 * 64 + 64 * 96 + 96 * 96) + 2 * (64 + 2 * 64 + 64 + 96 * 2 + 32)
BEHIND += 256 * 256 + 9 * (64 * 96 + 64 * 96 + 96 * 96) + 2 * (64 + 64 + 96 + 64 + 96 * 2 + 64)
BEHIND += 320 * 64 + 9 * 64 * 96 + 2 * (64 + 96)


def by_hand(row, classes=174):
    """Of a row of TRN or ECO."""
    features = BN_INCEPTION if row.backbone == "bn_inception" else RESNET50
    if row.model == "trn":
        channels = 1024 if row.backbone == "bn_inception" else 2048
        return features + channels * 256 + 256 + relations(classes, shared=True)
    if row.model == "eco":
        return features + volume() + (1024 + 512 + 1) * classes
    return 4 * (BEHIND + volume() + 513 * classes)


OURS = [row for row in MODELS if row.model.startswith(("trn", "eco"))]


@pytest.mark.parametrize("row", OURS, ids=lambda row: row.label or f"{row.model}-{row.frames}")
def test_parameters_of_trn_and_eco(row):
    if row.model == "eco_lite":
        assert 4 * costs.parameters_of_eco_lite() == by_hand(row)
    else:
        options = {"num_frames": row.frames, "backbone": row.backbone}
        assert count_parameters(row.model, **options) == by_hand(row)


def test_the_numbers_of_the_notes():
    """fairseq_cgc/video/published.yaml tells these."""
    small, trn, eco, _, lite = OURS
    assert round(by_hand(trn) / 1e6, 2) == 26.64 and round(by_hand(eco) / 1e6, 2) == 47.14
    shared, own = (relations(classes, shared=s) for classes, s in ((174, True), (400, False)))
    assert (round(shared / 1e6, 2), round(own / 1e6, 2)) == (2.61, 7.79)
    for row, printed in ((small, 18.31), (trn, 31.82)):
        assert round((by_hand(row) - shared + own) / 1e6, 2) == printed
        assert round(printed, 1) == row.parameters
    assert round(volume() / 1e6, 2) == 36.61 and round(BEHIND / 1e6, 2) == 0.68
    assert round(by_hand(eco, 400) / 1e6, 2) == 47.49  # 47.5 as printed
    assert round(by_hand(lite) / 1e6, 2) == 149.53
    assert round(by_hand(lite, 400) / 1e6, 2) == 149.99


OTHERS = [row for row in MODELS if row not in OURS]


@pytest.mark.parametrize("row", OTHERS, ids=lambda row: f"{row.model}-{row.frames}")
def test_parameters_of_the_other_rows(row):
    got = count_parameters(row.model, num_frames=row.frames)
    if row.model.endswith(("_cgc", "_cgc3d", "_cgc1d3d")):  # by the text, not the printed sum
        frames = 1 if row.model.startswith("p3d") else row.frames
        plain = row.model.partition("_cgc")[0]
        temporal = sum(b // 2 * gate(w, w, 3, 2, 3) for b, w in STAGES)
        want = count_parameters(plain) + clip_gates(frames) + ("1d3d" in row.model) * temporal
        assert got == want
        assert got / 1e6 == pytest.approx(row.parameters, rel=0.01)
    else:
        assert round(got / 1e6, 2) == row.parameters


def test_the_numbers_are_the_papers():
    assert [(row.frames, row.parameters) for row in MODELS] == [
        (8, 18.3),
        (8, 31.8),
        (8, 47.5),
        (16, 47.5),
        (92, 150),
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


@pytest.fixture
def counted(monkeypatch):
    """Replaces the counting: a million multiply-adds for each letter of the name and frame."""
    names = []

    def cost(name, frames, backbone):
        names.append((name, frames))
        adds = 10**6 * len(name) * frames
        return Cost(23_860_000, adds, 3_000_000 if "cgc" in name else 0)

    monkeypatch.setattr(costs, "_cost", cost)
    return names


def test_all_models(counted):
    lines = list(costs.lines())
    labels = [line.split()[0] for line in lines if line]
    for name in list_models():
        assert labels.count(name) == (2 if name in ("tsm", "tsm_cgc", "eco") else 1)
    assert ("tsm_cgc", 16) in counted and ("p3d_nonlocal_cgc3d", 32) in counted
    assert max(map(len, lines)) <= 100


def test_cells_of_the_table(counted):
    rows = [line.split() for line in costs.lines(["tsm", "tsm_nonlocal_cgc"])]
    rows = [row[1:] for row in rows if row and row[0].startswith("tsm")]
    assert rows == [
        ["8", "23.86", "23.86", "24.0"],
        ["16", "23.86", "23.86", "48.0"],
        ["8", "23.86", "31.43", "128.0", "104.000", "3.00"],
    ]


def test_unknown_names_are_told_before_anything_is_counted(counted):
    with pytest.raises(UserError, match="there is no model 'c3d'"):
        list(costs.lines(["tsn", "c3d"]))
    assert counted == []


def test_table_command_prints_markdown(counted, capsys):
    call("table", "video", "tsn_nonlocal_cgc", "--markdown")
    line = "| tsn_nonlocal_cgc | 8 | 23.86 |  | 128.0 | 104.000 | 3.00 |"
    assert line in capsys.readouterr().out.splitlines()


def test_unknown_names_end_the_command(counted):
    with pytest.raises(UserError, match="^there is no model 'c3d'; allowed are tsn"):
        call("table", "video", "c3d")


def small_cost(name, frames=8):
    return count(
        lambda: create_model(name, 10, num_frames=frames, backbone="resnet8_cifar"),
        (frames, 3, 32, 32),
    )


CONVOLUTIONS = [(3, 16, 32), (16, 16, 32), (16, 16, 32)]
CONVOLUTIONS += [(16, 32, 16), (32, 32, 16), (32, 64, 8), (64, 64, 8)]


def test_multiply_adds_by_hand():
    """The frames' convolutions; the classifier; attention; temporal convolutions."""
    spatial = [9 * c * o * side**2 for c, o, side in CONVOLUTIONS]
    shortcuts = 16 * 32 * 16**2 + 32 * 64 * 8**2
    plain = small_cost("tsn")
    assert plain.multiply_adds == 8 * (sum(spatial) + shortcuts + 64 * 10)
    assert small_cost("tsm") == plain

    attention = 0
    for c, positions in ((32, 8 * 16**2), (64, 8 * 8**2)):
        attention += 4 * positions * c * (c // 2)  # theta, phi, g, W
        attention += 2 * positions * (positions // 4) * (c // 2)  # products with keys and values
    assert small_cost("tsn_nonlocal").multiply_adds - plain.multiply_adds == attention

    p3d = 8 * spatial[0] + 4 * (sum(spatial[1:]) + shortcuts) + 64 * 10
    p3d += 4 * (5 * 16 * 16 * 32**2)  # half the frames
    p3d += 4 * sum(3 * c * c * side**2 for c, side in ((16, 32), (32, 16), (64, 8)))
    assert small_cost("p3d").multiply_adds == p3d


@pytest.mark.parametrize(("name", "gates"), [("tsn_cgc", 8), ("p3d_cgc3d", 1)])
def test_gates_by_hand(name, gates):
    plain, gated = small_cost(name.partition("_")[0]), small_cost(name)
    assert gated.gated_weights == gates * sum(9 * c * o for c, o, _ in CONVOLUTIONS)
    # E: c x 27 x 14; D: (c + o) x 14 x 9t; I: width c/g times o, for each of 14 numbers
    adds = sum(14 * (27 * c + 9 * gates * (c + o) + min(c, 16) * o) for c, o, _ in CONVOLUTIONS)
    assert gated.multiply_adds - plain.multiply_adds == adds
