import pytest
import torch

from fairseq_cgc import vision
from fairseq_cgc.core import UserError
from fairseq_cgc.video import create_model, list_models


def small_model(name, classes=10, *, frames=4, **options):
    return create_model(name, classes, num_frames=frames, backbone="resnet8_cifar", **options)


@pytest.fixture(scope="module")
def image_model():
    model = vision.create_model("resnet8_cifar")
    with torch.no_grad():
        model.train()(torch.rand(8, 3, 12, 12))  # statistics of its own
    return model.eval()


@pytest.fixture(scope="module")
def image_weights(image_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "image.pt"
    torch.save(image_model.state_dict(), path)
    return path


@pytest.mark.parametrize("name", list_models())
def test_image_weights_fit_and_the_log_tells_what_they_lack(name, image_weights, caplog):
    model = small_model(name, weights=image_weights)
    state, image = model.state_dict(), torch.load(image_weights)
    own_classifier = name.startswith(("trn", "eco"))
    for key, tensor in image.items():
        if not (own_classifier and key.startswith("fc.")):
            assert torch.equal(state[key], tensor), key
    lacking = {
        "classifier weights of this kind": own_classifier,
        "gates": "cgc" in name,
        "temporal convolutions": name.startswith("p3d"),
        "blocks between residual blocks": "nonlocal" in name,
        "3-D layers": name.startswith("eco"),
    }
    assert caplog.messages == [
        f"{image_weights} holds no {what}: they keep their initial values"
        for what, is_lacking in lacking.items()
        if is_lacking
    ]


def test_weights_of_a_wrapped_model(image_weights, tmp_path):
    state = torch.load(image_weights)
    torch.save({f"module.{name}": t for name, t in state.items()}, tmp_path / "ddp.pt")
    model = small_model("tsm", weights=tmp_path / "ddp.pt")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())


def test_another_number_of_classes_leaves_the_classifier(image_weights, caplog):
    torch.manual_seed(5)
    fresh = small_model("tsn", 7)
    torch.manual_seed(5)
    model = small_model("tsn", 7, weights=image_weights)
    assert caplog.messages == [
        f"{image_weights} holds no outputs for 7 classes: they keep their initial values"
    ]
    assert torch.equal(model.fc.weight, fresh.fc.weight)
    assert torch.equal(model.fc.bias, fresh.fc.bias)
    assert torch.equal(model.conv1.weight, torch.load(image_weights)["conv1.weight"])


@pytest.mark.parametrize("name", ["tsn", "tsn_nonlocal", "p3d", "p3d_nonlocal"])
def test_a_still_clip_begins_as_its_image(name, image_model, image_weights):
    """Temporal convolutions start as the identity, up to their normalisation's epsilon."""
    images = torch.rand(2, 3, 12, 10)
    model = small_model(name, weights=image_weights).eval()
    clips = images.unsqueeze(1).expand(-1, 4, -1, -1, -1)
    torch.testing.assert_close(model(clips), image_model(images), rtol=1e-3, atol=1e-4)


def test_without_weights_temporal_convolutions_start_at_random():
    weight = small_model("p3d").layer3[0].temporal.conv.weight
    assert weight.std().item() == pytest.approx((2 / (3 * 64)) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    "name", ["tsn_nonlocal_cgc", "tsm_cgc", "p3d_nonlocal_cgc1d3d", "trn_cgc", "eco_cgc"]
)
def test_a_models_own_weights_come_back(name, tmp_path, caplog):
    saved = small_model(name).eval()
    torch.save({"model": saved.state_dict(), "epoch": 3}, tmp_path / "c.pt")
    model = small_model(name, weights=tmp_path / "c.pt").eval()
    clips = torch.randn(2, 4, 3, 8, 8)
    assert torch.equal(model(clips), saved(clips))
    assert caplog.messages == []
    other = small_model(name)
    other.load_state_dict(saved.state_dict())
    assert torch.equal(other.eval()(clips), saved(clips))


@pytest.mark.parametrize(
    ("plain", "gated"),
    [("tsm", "tsm_cgc"), ("p3d", "p3d_cgc1d3d"), ("trn", "trn_cgc"), ("eco", "eco_cgc")],
)
def test_a_plain_video_model_fits_a_gated_one(plain, gated, tmp_path, caplog):
    saved = small_model(plain)
    torch.save(saved.state_dict(), tmp_path / "c.pt")
    state = small_model(gated, weights=tmp_path / "c.pt").state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in saved.state_dict().items())
    assert [m.partition(" holds no ")[2] for m in caplog.messages] == [
        "gates: they keep their initial values"
    ]


def test_gates_for_another_number_of_frames_are_told(tmp_path):
    torch.save(small_model("tsn_cgc", frames=5).state_dict(), tmp_path / "c.pt")
    with pytest.raises(UserError, match=r"conv1.gate.in_decoder is 45 x 14 in .*, but 36 x 14 in"):
        small_model("tsn_cgc", weights=tmp_path / "c.pt")


def test_another_backbone_is_told(image_weights):
    with pytest.raises(UserError, match=r"conv1.weight is 16 x 3 x 3 x 3 in .*, but 64 x 3 x 7 x"):
        create_model("tsn", weights=image_weights)


@pytest.mark.parametrize("name", ["trn", "eco"])
def test_another_number_of_classes_leaves_the_whole_classifier(name, tmp_path, caplog):
    saved = small_model(name, 3)
    torch.save(saved.state_dict(), tmp_path / "c.pt")
    torch.manual_seed(5)
    fresh = small_model(name, 7)
    torch.manual_seed(5)
    model = small_model(name, 7, weights=tmp_path / "c.pt")
    for key, tensor in model.state_dict().items():
        source = fresh if key.startswith("fc.") else saved
        assert torch.equal(tensor, source.state_dict()[key]), key
    assert [m.partition(" holds no ")[2] for m in caplog.messages] == [
        "outputs for 7 classes: they keep their initial values"
    ]


def test_weights_of_bn_inception(tmp_path):
    image = vision.create_model("bn_inception", 10).state_dict()
    torch.save(image, tmp_path / "c.pt")
    options = {"num_frames": 4, "backbone": "bn_inception", "weights": tmp_path / "c.pt"}
    state = create_model("trn_cgc", 10, **options).state_dict()
    same = [key for key in image if not key.startswith("fc.")]
    assert all(torch.equal(state[key], image[key]) for key in same)


@pytest.mark.parametrize("name", ["tsm_nonlocal_cgc", "p3d_nonlocal_cgc1d3d", "trn"])
def test_resnet50_of_1000_classes(name, tmp_path, caplog):
    image = vision.create_model("resnet50").state_dict()
    torch.save(image, tmp_path / "resnet50.pt")
    state = create_model(name, weights=tmp_path / "resnet50.pt").state_dict()
    for key, tensor in image.items():
        if not key.startswith("fc."):
            assert torch.equal(state[key], tensor), key
    if name != "trn":
        assert state["fc.weight"].shape == (174, 2048)
    assert "holds no outputs for 174 classes" in caplog.messages[0]
