import pytest
import torch
from torch import nn

from fairseq_cgc import vision
from fairseq_cgc.core import CGConv2d, UserError
from fairseq_cgc.video import create_model, list_models
from fairseq_cgc.video.layers import ClipGatedConv2d, NonLocal, TemporalConv, TemporalShift

PER_FRAME_GATES = [name for name in list_models() if name[:3] != "p3d" and name.endswith("_cgc")]


def small_model(name, classes=5, **options):
    options = {"num_frames": 4, "backbone": "resnet8_cifar", **options}
    return create_model(name, classes, **options)


def names_of(model, kind):
    return [name for name, module in model.named_modules() if isinstance(module, kind)]


def on_meta(name, **options):
    with torch.device("meta"):
        return create_model(name, **options)


def test_list_models_names_every_model():
    assert list_models() == [
        "tsn",
        "tsn_cgc",
        "tsn_nonlocal",
        "tsn_nonlocal_cgc",
        "tsm",
        "tsm_cgc",
        "tsm_nonlocal",
        "tsm_nonlocal_cgc",
        "p3d",
        "p3d_cgc1d",
        "p3d_cgc3d",
        "p3d_cgc1d3d",
        "p3d_nonlocal",
        "p3d_nonlocal_cgc1d",
        "p3d_nonlocal_cgc3d",
        "p3d_nonlocal_cgc1d3d",
        "trn",
        "trn_cgc",
        "eco",
        "eco_cgc",
    ]


@pytest.mark.parametrize("name", list_models())
def test_forward_and_backward(name):
    model = small_model(name)
    logits = model(torch.randn(2, 4, 3, 9, 8))
    assert logits.shape == (2, 5)
    nn.functional.cross_entropy(logits, torch.tensor([1, 4])).backward()
    bad = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert bad == []


@pytest.mark.parametrize("name", list_models())
def test_the_resnet_inside_is_torchvisions(name):
    """Its names and shapes are those of the image model, which tests/vision compares."""
    model = on_meta(name)
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items()}
    image = {key: t.shape for key, t in on_meta("tsn").state_dict().items()}
    if name.startswith(("trn", "eco")):  # which have classifiers of their own
        image = {key: shape for key, shape in image.items() if not key.startswith("fc.")}
    assert image.items() <= shapes.items()
    others = {part for key in shapes.keys() - image.keys() for part in key.split(".")}
    assert bool(others & {"temporal"}) == name.startswith("p3d")
    assert bool(others & {"gate"}) == ("cgc" in name)
    assert bool(others & {"after"}) == ("nonlocal" in name)
    assert bool(others & {"volume"}) == name.startswith("eco")
    assert bool(others & {"scales"}) == name.startswith("trn")


@pytest.mark.parametrize(
    "name", ["tsn_cgc", "tsm_nonlocal_cgc", "p3d_cgc3d", "p3d_cgc1d3d", "trn_cgc", "eco_cgc"]
)
def test_every_spatial_convolution_is_gated(name):
    model = on_meta(name)
    spatial = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size in ((3, 3), (7, 7))
    ]
    assert names_of(model, ClipGatedConv2d) == spatial
    assert len(spatial) == 17
    assert model.conv1.gate.interaction.shape == (64, 3)
    per_frame = {model.get_submodule(name).gate.kernel_size[0] for name in spatial}
    assert per_frame == ({8} if name in PER_FRAME_GATES else {1})


def test_temporal_convolutions_of_p3d():
    model = on_meta("p3d_cgc1d", num_frames=32)
    assert names_of(model, TemporalConv) == [
        "temporal.0",
        "layer1.1.temporal",
        "layer2.1.temporal",
        "layer2.3.temporal",
        "layer3.1.temporal",
        "layer3.3.temporal",
        "layer3.5.temporal",
        "layer4.1.temporal",
    ]
    stem = model.temporal[0]
    assert (stem.conv.kernel_size, stem.conv.stride, stem.frames) == ((5, 1), (2, 1), 32)
    assert model.temporal[1].frames == 16
    assert {model.get_submodule(n).frames for n in names_of(model, TemporalConv)[1:]} == {8}
    gated = names_of(model, CGConv2d)  # "in every P3D-A block": not the stem's
    assert gated == [f"{name}.conv" for name in names_of(model, TemporalConv)[1:]]
    assert names_of(on_meta("p3d"), CGConv2d) == []


def test_small_backbones_have_a_temporal_convolution_in_every_block():
    model = small_model("p3d_nonlocal_cgc1d3d", backbone="resnet14_cifar", num_frames=7)
    blocks = [f"layer{i}.{j}.temporal" for i in (1, 2, 3) for j in (0, 1)]
    assert names_of(model, TemporalConv) == ["temporal", *blocks]
    assert {model.get_submodule(name).frames for name in blocks} == {4}
    assert [name.rpartition(".")[0] for name in names_of(model, NonLocal)] == [
        "layer2.0",
        "layer3.0",
    ]


def test_shifts_are_tsms():
    assert [bool(names_of(on_meta(name), TemporalShift)) for name in ("tsn", "tsm", "p3d")] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("backbone", "every", "shifted"),
    [
        ("resnet50", None, [3, 4, 6, 3]),
        ("resnet101", None, [2, 2, 12, 2]),  # every second one, as TSM's release
        ("resnet101", 1, [3, 4, 23, 3]),
        ("resnet50", 3, [1, 2, 2, 1]),
        ("resnet134_cifar", None, [22, 22, 22]),
        ("resnet140_cifar", None, [12, 12, 12]),
    ],
)
@pytest.mark.parametrize("name", ["tsm", "tsm_nonlocal_cgc"])
def test_which_blocks_are_shifted(name, backbone, every, shifted):
    with torch.device("meta"):
        model = create_model(name, 5, backbone=backbone, shift_every=every)
    stages = [model.get_submodule(stage) for stage in model.stages]
    has_shift = [[block.shift is not None for block in stage] for stage in stages]
    assert [sum(stage) for stage in has_shift] == shifted
    assert all(stage[0] for stage in has_shift)
    assert not any(isinstance(b.shift, TemporalShift) for b in on_meta("tsn").layer1)


@pytest.mark.parametrize("name", list_models())
def test_frames_change_parameters_of_gates_for_each_frame_only(name):
    def shapes(frames):
        with torch.device("meta"):
            state = small_model(name, num_frames=frames).state_dict()
        return {key: tensor.shape for key, tensor in state.items()}

    assert (shapes(4) != shapes(5)) == (name in PER_FRAME_GATES or name.startswith("trn"))


@pytest.mark.parametrize("name", ["tsm_nonlocal_cgc", "p3d_nonlocal_cgc1d3d"])
@pytest.mark.parametrize("frames", [1, 3])
def test_few_frames_of_one_channel(name, frames):
    model = small_model(name, num_frames=frames, in_channels=1, backbone="resnet14_cifar")
    assert model(torch.randn(2, frames, 1, 8, 8)).shape == (2, 5)


@pytest.mark.parametrize(
    "name", ["tsn_cgc", "tsm_nonlocal", "p3d_nonlocal_cgc1d3d", "trn_cgc", "eco_cgc"]
)
def test_autocast(name):
    model = small_model(name, dropout=0)
    clips = torch.randn(2, 4, 3, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(clips)
    logits.float().sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    if not name.startswith("trn"):  # which relates other frames in each forward pass
        torch.testing.assert_close(logits.float(), model(clips), atol=0.1, rtol=0.1)


@pytest.mark.parametrize("name", ["tsm_nonlocal_cgc", "p3d_cgc1d3d", "trn", "eco"])
def test_compiles_as_one_graph(name):
    model = small_model(name).eval()
    clips = torch.randn(2, 4, 3, 8, 8)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(clips), model(clips))


@pytest.mark.parametrize("name", ["", "tsn_cgc3d", "tsm_cgc_nonlocal", "i3d"])
def test_unknown_names_are_told(name):
    with pytest.raises(UserError, match=f"there is no model '{name}'; allowed are tsn, tsn_cgc, "):
        create_model(name, 5)


@pytest.mark.parametrize(
    "backbone", ["resnet18", "resnet50_cgc", "se_resnet50", "resnet9_cifar", "resnet20"]
)
def test_unknown_backbones_are_told(backbone):
    with pytest.raises(UserError, match=f"backbone is '{backbone}', but must be resnet50, "):
        create_model("tsn", 5, backbone=backbone)


@pytest.mark.parametrize("name", ["tsn_cgc", "trn_cgc", "eco_cgc"])
def test_bn_inception_inside(name):
    with torch.device("meta"):
        model = create_model(name, 5, num_frames=4, in_channels=1, backbone="bn_inception")
        image = vision.create_model("bn_inception", 5, in_channels=1).state_dict()
        logits = model(torch.zeros(2, 4, 1, 64, 48))
    assert logits.shape == (2, 5)
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items()}
    kept = [key for key in image if name == "tsn_cgc" or not key.startswith("fc.")]
    assert all(shapes[key] == image[key].shape for key in kept)


@pytest.mark.parametrize("name", ["tsm", "tsm_cgc", "p3d_cgc1d", "tsn_nonlocal"])
def test_what_is_inside_blocks_needs_a_resnet(name):
    message = f"backbone is 'bn_inception', but must be resnet50, .*_cifar with {name}$"
    with pytest.raises(UserError, match=message) as error:
        create_model(name, 5, backbone="bn_inception")
    assert "bn_inception" not in str(error.value).partition("but")[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes is 0, but must be at least 1"),
        ({"num_frames": 0}, "num_frames is 0, but must be at least 1"),
        ({"shift_every": 0}, "shift_every is 0, but must be at least 1"),
        ({"in_channels": -1}, "in_channels is -1, but must be at least 1"),
        ({"dropout": 1}, "dropout is 1, but must be at least 0 and below 1"),
        ({"dropout": float("nan")}, "dropout is nan"),
    ],
    ids=str,
)
def test_wrong_numbers_are_told(options, message):
    with pytest.raises(UserError, match=message):
        create_model("tsn", **{"num_classes": 5, **options})
