import logging

import pytest
import torch

from fairseq_cgc.core import UserError
from fairseq_cgc.vision import create_model, load_weights


def torchvision_resnet(depths: tuple[int, ...], expansion: int = 4) -> dict[str, torch.Size]:
    """Names and shapes of torchvision's bottleneck ResNets, from their documented structure."""
    shapes = {}

    def conv(name, out_channels, in_channels, kernel):
        shapes[f"{name}.weight"] = (out_channels, in_channels, kernel, kernel)

    def norm(name, channels):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (channels,)
        shapes[f"{name}.num_batches_tracked"] = ()

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    channels = 64
    for stage, blocks in enumerate(depths):
        width = 64 * 2**stage
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            conv(f"{name}.conv1", width, channels, 1)
            norm(f"{name}.bn1", width)
            conv(f"{name}.conv2", width, width, 3)
            norm(f"{name}.bn2", width)
            conv(f"{name}.conv3", width * expansion, width, 1)
            norm(f"{name}.bn3", width * expansion)
            if block == 0:
                conv(f"{name}.downsample.0", width * expansion, channels, 1)
                norm(f"{name}.downsample.1", width * expansion)
            channels = width * expansion
    shapes["fc.weight"], shapes["fc.bias"] = (1000, channels), (1000,)
    return {name: torch.Size(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("name", "depths"), [("resnet50", (3, 4, 6, 3)), ("resnet101", (3, 4, 23, 3))]
)
def test_names_and_shapes_are_torchvisions(name, depths):
    with torch.device("meta"):
        state = create_model(name).state_dict()
    assert {key: tensor.shape for key, tensor in state.items()} == torchvision_resnet(depths)


@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
def test_equals_torchvision(name):
    models = pytest.importorskip("torchvision.models", exc_type=(ImportError, RuntimeError))
    theirs = getattr(models, name)().eval()
    ours = create_model(name).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 65, 70)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-4)


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "plain.pt"
    torch.save(create_model("resnet8_cifar").state_dict(), path)
    return path


def test_plain_checkpoint_into_a_gated_model(plain, caplog):
    model = create_model("resnet8_cifar_cgc")
    gates = {name: t.clone() for name, t in model.state_dict().items() if ".gate." in name}
    load_weights(model, plain)
    assert caplog.messages == [f"{plain} holds no gates: they keep their initial values"]
    state, loaded = model.state_dict(), torch.load(plain)
    assert set(state) == set(gates) | set(loaded)
    for name, tensor in {**gates, **loaded}.items():
        assert torch.equal(state[name], tensor), name


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_whole_checkpoints(tmp_path, caplog, key):
    saved = create_model("resnet8_cifar_cgc")
    torch.save({key: saved.state_dict(), "epoch": 3}, tmp_path / "c.pt")
    model = create_model("resnet8_cifar", cgc={}, weights=tmp_path / "c.pt").eval()
    x = torch.randn(1, 3, 9, 9)
    assert torch.equal(model(x), saved.eval()(x))
    assert caplog.messages == []


def test_another_number_of_classes_leaves_the_classifier(plain, caplog):
    torch.manual_seed(5)
    fresh = create_model("resnet8_cifar_cgc", 7)
    torch.manual_seed(5)
    model = create_model("resnet8_cifar_cgc", 7, weights=plain)
    assert caplog.messages == [
        f"{plain} holds no {what}: they keep their initial values"
        for what in ("outputs for 7 classes", "gates")
    ]
    assert torch.equal(model.fc.weight, fresh.fc.weight)
    assert torch.equal(model.fc.bias, fresh.fc.bias)
    assert torch.equal(model.conv1.weight, torch.load(plain)["conv1.weight"])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("key", [None, "state_dict"])
def test_names_that_wrappers_made(plain, prefix, key):
    state = torch.load(plain)
    wrapped = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    torch.save(wrapped if key is None else {key: wrapped}, plain)
    model = create_model("resnet8_cifar", weights=plain)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())
    wrapped["fc.bias"] = wrapped.pop(f"{prefix}fc.bias")  # no wrapper names only some
    torch.save(wrapped, plain)
    with pytest.raises(UserError, match=f"plain.pt holds {prefix}conv1.weight, "):
        load_weights(model, plain)


def test_batch_counters_may_be_missing(plain):
    state = torch.load(plain)
    old = {name: t for name, t in state.items() if "num_batches_tracked" not in name}
    torch.save(old, plain)
    model = create_model("resnet8_cifar", weights=plain)
    assert torch.equal(model.layer3[0].conv1.weight, old["layer3.0.conv1.weight"])


def change(state, name, tensor):
    state[name] = tensor


@pytest.mark.parametrize(
    ("model", "damage", "message"),
    [
        (
            "resnet8_cifar",
            lambda s: change(s, "fc.weight", torch.zeros(1000, 64)),
            "fc.weight is 1000 x 64 in .*plain.pt, but 10 x 64 in the model",
        ),
        ("resnet8_cifar", lambda s: s.pop("bn1.weight"), "plain.pt lacks bn1.weight$"),
        ("resnet14_cifar", lambda s: None, r"lacks layer1.1.conv1.weight, .* and \d+ more"),
        (
            "resnet8_cifar",
            lambda s: change(s, "conv1.gate.encoder", torch.zeros(5, 9)),
            "plain.pt holds conv1.gate.encoder, which the model lacks",
        ),
        (
            "resnet8_cifar_cgc",
            lambda s: change(s, "conv1.gate.encoder", torch.zeros(5, 9)),
            "plain.pt lacks conv1.gate.",
        ),
        ("resnet8_cifar", lambda s: change(s, "epoch", 3), "not a dictionary of tensors"),
        ("resnet8_cifar", lambda s: change(s, 0, torch.zeros(1)), "not a dictionary of tensors"),
    ],
    ids=["shape", "missing", "deeper", "gates", "few gates", "other", "number as name"],
)
def test_what_does_not_fit_is_told_and_changes_nothing(plain, model, damage, message):
    state = torch.load(plain)
    damage(state)
    torch.save(state, plain)
    model = create_model(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError, match=message):
        load_weights(model, plain)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


class Evil:
    def __reduce__(self):
        return logging.warning, ("ran",)


def test_files_that_are_no_checkpoints(tmp_path, plain, caplog):
    model = create_model("resnet8_cifar")
    cut, text, evil = tmp_path / "cut.pt", tmp_path / "text.pt", tmp_path / "evil.pt"
    cut.write_bytes(plain.read_bytes()[:5000])
    text.write_text("no checkpoint")
    torch.save(Evil(), evil)
    for path, message in [
        (cut, "is damaged, or not a checkpoint"),
        (text, "is damaged, or not a checkpoint"),
        (evil, "asks to run or build logging.warning"),
        (tmp_path, r"cannot be read \(Is a directory"),
        (tmp_path / "none.pt", r"cannot be read \(No such file"),
    ]:
        with pytest.raises(UserError, match=message):
            load_weights(model, path)
    assert caplog.messages == []
