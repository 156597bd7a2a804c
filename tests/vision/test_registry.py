import pytest
import torch
from torch import nn

from fairseq_cgc import video
from fairseq_cgc.core import CGConv2d, UserError
from fairseq_cgc.vision import create_model, list_models, registry
from fairseq_cgc.vision.registry import Architecture, architecture
from fairseq_cgc.vision.resnet import BasicBlock, Shape

CIFAR = [name for name in list_models() if "cifar" in name]


def small_images(name: str, *, batch: int = 2, channels: int = 3) -> torch.Tensor:
    side = (19, 17) if name in CIFAR else (40, 33)
    return torch.randn(batch, channels, *side)


def test_the_names_of_the_paper():
    assert set(list_models()) >= {
        "resnet50",
        "resnet50_cgc",
        "resnet101",
        "resnet101_cgc",
        "resnet110_cifar",
        "resnet110_cifar_cgc",
        "se_resnet50",
        "cbam_resnet50",
        "cbam_resnet50_cgc",
        "bam_resnet50",
        "gc_resnet50",
        "glore_resnet50",
        "dcnv2_resnet50",
    }


@pytest.mark.parametrize("name", list_models())
def test_forward_and_backward(name):
    model = create_model(name, num_classes=5)
    logits = model(small_images(name))
    assert logits.shape == (2, 5)
    nn.functional.cross_entropy(logits, torch.tensor([1, 4])).backward()
    bad = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert bad == []


@pytest.mark.parametrize(
    "name",
    [
        "resnet20_cifar_cgc",
        "cbam_resnet50_cgc",
        "se_resnet50",
        "bam_resnet50",
        "gc_resnet50",
        "glore_resnet50",
        "dcnv2_resnet50",
    ],
)
def test_an_image_counts_for_itself_in_evaluation(name):
    model = create_model(name, num_classes=5).eval()
    images = small_images(name, batch=3)
    with torch.no_grad():
        together, again = model(images), model(images)
        alone = model(images[1:2])
    assert torch.equal(together, again)
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("size", [(32, 32), (57, 38), (224, 160)], ids=str)
def test_images_of_any_size_are_classified(size):
    model = create_model("resnet50_cgc", num_classes=2).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, *size)).shape == (1, 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_small_resnets_of_any_depth(channels):
    for name, blocks in (("resnet8_cifar", 1), ("resnet32_cifar_cgc", 5)):
        model = create_model(name, in_channels=channels)
        assert [len(stage) for stage in (model.layer1, model.layer2, model.layer3)] == [blocks] * 3
        assert model(torch.randn(2, channels, 8, 8)).shape == (2, 10)


def test_switches_with_a_plain_name_mean_the_suffix():
    plain, suffix = create_model("resnet8_cifar", cgc={}), create_model("resnet8_cifar_cgc")
    assert list(plain.state_dict()) == list(suffix.state_dict())
    assert isinstance(plain.conv1, CGConv2d)
    only_one = create_model("resnet8_cifar_cgc", cgc={"branches": "in"})
    assert only_one.conv1.gate.branches == "in"


def test_defaults():
    assert create_model("resnet50").fc.out_features == 1000
    assert create_model("resnet8_cifar").fc.out_features == 10
    assert architecture("resnet101_cgc").image_size == 224
    assert architecture("resnet26_cifar_cgc").image_size == 32


@pytest.mark.parametrize(
    "name",
    ["resnet51", "resnet21_cifar", "resnet2_cifar", "resnet020_cifar", "dcnv2_resnet50_cgc", ""],
)
def test_unknown_names_are_told(name):
    with pytest.raises(UserError, match=f"there is no model '{name}'; allowed are bam_resnet50,"):
        create_model(name)


def test_wrong_numbers_are_told():
    with pytest.raises(UserError, match="num_classes is 0"):
        create_model("resnet8_cifar", num_classes=0)
    with pytest.raises(UserError, match="in_channels is -1"):
        create_model("resnet8_cifar", in_channels=-1)
    with pytest.raises(UserError, match="cgc is {}, but must be left out: dcnv2_resnet50"):
        create_model("dcnv2_resnet50", cgc={})


def test_where_the_extra_blocks_are():
    def places(name, part):
        model = create_model(name)
        return [n for n, _ in model.named_modules() if n.endswith(part)]

    assert places("bam_resnet50", "after") == ["layer1.2.after", "layer2.3.after", "layer3.5.after"]
    assert places("glore_resnet50", "after") == [f"layer3.{i}.after" for i in (0, 2, 4)]
    assert len(places("se_resnet50", "attention")) == 16
    assert len(places("dcnv2_resnet50", "offset")) == 13


class TwoLayers(nn.Module):
    """A backbone that is no ResNet."""

    def __init__(self, num_classes, in_channels, convolution=lambda stage: nn.Conv2d):
        super().__init__()
        self.conv1 = convolution("stem")(in_channels, 4, 3, padding=1)
        self.conv2 = convolution("body")(4, 6, 3, padding=1)
        self.fc = nn.Linear(6, num_classes)

    def forward(self, x):
        return self.fc(self.conv2(self.conv1(x).relu()).mean((2, 3)))


def test_a_new_backbone_is_one_entry(monkeypatch, tmp_path, caplog):
    monkeypatch.setitem(
        registry._ARCHITECTURES, "two_layers", Architecture(TwoLayers, ("stem", "body"))
    )
    assert {"two_layers", "two_layers_cgc"} <= set(list_models())
    plain = create_model("two_layers", 5)
    torch.save(plain.state_dict(), tmp_path / "plain.pt")
    gated = create_model("two_layers_cgc", 7, weights=tmp_path / "plain.pt")
    assert torch.equal(gated.conv2.weight, plain.conv2.weight)
    assert [m.partition("holds no ")[2][:7] for m in caplog.messages] == ["outputs", "gates: "]
    assert gated(torch.randn(2, 3, 9, 9)).shape == (2, 7)
    body = create_model("two_layers", 5, cgc={"stages": "body"})
    assert [isinstance(c, CGConv2d) for c in (body.conv1, body.conv2)] == [False, True]
    with pytest.raises(UserError, match="stages has 'res1'; allowed are stem, body"):
        create_model("two_layers", cgc={"stages": "res1"})
    with pytest.raises(UserError, match="backbone is 'two_layers'"):
        video.create_model("tsm", 5, backbone="two_layers")


def test_a_new_resnet_carries_video_models(monkeypatch):
    entry = registry._resnet(Shape(BasicBlock, (1, 1), width=8))
    monkeypatch.setitem(registry._ARCHITECTURES, "resnet6", entry)
    assert create_model("resnet6_cgc")(torch.randn(1, 3, 33, 40)).shape == (1, 1000)
    for name in ("p3d_cgc1d3d", "tsm_cgc"):
        model = video.create_model(name, 5, num_frames=4, backbone="resnet6")
        assert model(torch.randn(1, 4, 3, 33, 40)).shape == (1, 5)
    with pytest.raises(UserError, match="must be resnet50, .*, resnet6 or another"):
        video.create_model("tsm", 5, backbone="resnet6_cgc")


@pytest.mark.parametrize("name", ["resnet8_cifar_cgc", "dcnv2_resnet50", "cbam_resnet50_cgc"])
def test_channels_last_changes_nothing(name):
    model = create_model(name, num_classes=4).eval()
    images = small_images(name)
    with torch.no_grad():
        want = model(images)
        model = model.to(memory_format=torch.channels_last)
        got = model(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "name", ["resnet8_cifar_cgc", "cbam_resnet50_cgc", "gc_resnet50", "glore_resnet50"]
)
def test_autocast(name):
    model = create_model(name, num_classes=4)
    images = small_images(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(images)
    logits.float().sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ["resnet8_cifar_cgc", "resnet8_cifar"])
def test_compiles_as_one_graph(name):
    model = create_model(name).eval()
    images = small_images("resnet20_cifar")
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(images), model(images))
