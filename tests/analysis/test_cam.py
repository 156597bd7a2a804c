from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fairseq_cgc.analysis.cam import (
    HeatMaps,
    grad_cam_plus_plus,
    heat_maps,
    relative,
)
from fairseq_cgc.analysis.cam_figure import Shown, draw_heat_maps
from fairseq_cgc.core import CGConv2d, CGConv3d, UserError
from fairseq_cgc.core.modulated_kernels import sample_kernels
from fairseq_cgc.support import figures
from fairseq_cgc.video import create_model


def test_equals_the_definition_with_derivatives_of_a_linear_network():
    """Equation 19 of Grad-CAM++ with second and third derivatives of Y = exp(S) by autograd."""
    torch.manual_seed(3)
    maps = torch.rand(2, 3, 2, 4, dtype=torch.float64)
    readout = torch.randn(3, 2, 4, dtype=torch.float64) / 4  # S = sum of readout * A
    gradients = readout.expand(2, -1, -1, -1)
    found = grad_cam_plus_plus(maps, gradients)
    for sample in range(2):
        a = maps[sample].clone().requires_grad_()
        y = (readout * a).sum().exp()
        (first,) = torch.autograd.grad(y, a, create_graph=True)
        heat = torch.zeros(2, 4, dtype=torch.float64)
        for k in range(3):
            weight = torch.zeros((), dtype=torch.float64)
            for i in range(2):
                for j in range(4):
                    (d2,) = torch.autograd.grad(first[k, i, j], a, create_graph=True)
                    (d3,) = torch.autograd.grad(d2[k, i, j], a, retain_graph=True)
                    second, third = d2[k, i, j].detach(), d3[k, i, j]
                    alpha = second / (2 * second + maps[sample, k].sum() * third)
                    weight += alpha * first[k, i, j].detach().clamp(min=0)
            heat += weight * maps[sample, k]
        heat = heat.clamp(min=0) / y.detach()  # exp(S) is left out
        torch.testing.assert_close(found[sample], heat, rtol=1e-10, atol=1e-12)
    assert found.max() > 0


def test_without_a_positive_gradient_the_map_is_zero():
    maps = torch.rand(1, 2, 3, 3)
    assert not grad_cam_plus_plus(maps, -torch.rand(1, 2, 3, 3)).any()
    assert not grad_cam_plus_plus(maps, torch.zeros(1, 2, 3, 3)).any()


def test_signed_maps_stay_finite():
    maps = torch.full((1, 1, 2, 2), -1.0)
    maps[0, 0, 0, 0] = 1.0  # 2 + sum(A) g would be zero
    found = grad_cam_plus_plus(maps, torch.ones(1, 1, 2, 2))
    assert found[0].tolist() == [[2.0, 0.0], [0.0, 0.0]]


def test_relative_to_each_maximum():
    maps = torch.tensor([[[1.0, 4.0]], [[0.0, 0.0]], [[8.0, 2.0]]])
    assert relative(maps).tolist() == [[[0.25, 1.0]], [[0.0, 0.0]], [[1.0, 0.25]]]


class Net(nn.Module):
    """Two convolutions with a ReLU behind each; the one behind the second comes after a norm."""

    def __init__(self, kind: type[nn.Conv2d] = CGConv2d, inplace: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace)
        self.conv = kind(4, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.fc = nn.Linear(5, 3)
        self.unused = nn.Conv2d(1, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        return self.fc(self.relu(self.norm(self.conv(x))).mean((2, 3)))


def by_hand(net: Net, x: Tensor, classes: Tensor) -> dict[str, Tensor]:
    """The three maps with the convolution's two uses of its input written apart."""
    before = net.stem(x).relu().detach().requires_grad_()
    kernels = net.conv.weight.expand(len(x), -1, -1, -1, -1)
    tensors = {"before": before}
    if isinstance(net.conv, CGConv2d):
        grid = nn.functional.adaptive_avg_pool2d(before, 3)
        grid.retain_grad()
        tensors["context"] = grid
        kernels = sample_kernels(net.conv.weight, *net.conv.branch_logits(grid))
    outs = [
        nn.functional.conv2d(a[None], k, net.conv.bias, padding=1)
        for a, k in zip(before, kernels, strict=True)
    ]
    after = net.norm(torch.cat(outs)).relu()
    after.retain_grad()
    tensors["after"] = after
    logits = net.fc(after.mean((2, 3)))
    logits.gather(1, classes[:, None]).sum().backward()
    return {
        key: relative(grad_cam_plus_plus(t.detach(), t.grad)).detach() for key, t in tensors.items()
    }


@pytest.mark.parametrize("kind", [CGConv2d, nn.Conv2d])
@pytest.mark.parametrize("inplace", [False, True])
def test_equals_the_maps_by_hand(kind, inplace):
    net = Net(kind, inplace).eval()
    x, classes = torch.randn(4, 1, 6, 5), torch.tensor([0, 1, 2, 1])
    found = heat_maps(net, "conv", x, classes)
    want = by_hand(net, x, classes)
    assert list(found.maps) == list(want)
    for key, maps in want.items():
        torch.testing.assert_close(found.maps[key], maps, rtol=1e-4, atol=1e-5)
        assert maps.any()
    torch.testing.assert_close(found.logits, net(x).detach())


def test_leaves_the_model_as_it_was():
    net = Net()
    x = torch.randn(2, 1, 6, 6)
    heat_maps(net, None, x)
    assert "branch_logits" not in vars(net.conv)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(p.grad is None for p in net.parameters()) and not x.requires_grad


def test_the_best_class_and_the_gated_layer_are_the_default():
    net = Net()
    found = heat_maps(net, None, torch.randn(3, 1, 6, 6))
    assert found.layer == "conv"
    assert found.classes.tolist() == found.logits.argmax(1).tolist()


def test_the_image_before_a_stem_has_a_map_too():
    found = heat_maps(Net(), "stem", torch.randn(2, 1, 6, 6))
    assert found.maps["before"].shape == (2, 6, 6) and found.maps["before"].isfinite().all()


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("fc", "--layer is 'fc', but must be one of stem, conv, unused"),
        ("unused", "unused does not take part"),
    ],
)
def test_a_wrong_layer_is_reported(layer, message):
    with pytest.raises(UserError, match=message):
        heat_maps(Net(), layer, torch.randn(1, 1, 6, 6))


def test_a_model_without_a_gate_is_looked_into_at_its_last_layer():
    net, x = Net(nn.Conv2d), torch.randn(1, 1, 6, 6)
    with pytest.raises(UserError, match="unused does not take part .*: give another --layer"):
        heat_maps(net, None, x)
    del net.unused
    assert heat_maps(net, None, x).layer == "conv"


FRAMES, CLIPS = 4, 3


def video_model(name: str) -> nn.Module:
    net = create_model(name, 3, num_frames=FRAMES, in_channels=1, backbone="resnet8_cifar").eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):  # as training leaves them
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean, std=0.1)
    return net


@pytest.mark.parametrize("name", ["tsn", "tsm_cgc"])
def test_a_clip_is_explained_as_a_whole(name):
    """The maps of one clip by hand: its channels' weights are sums over positions and frames."""
    net, layer = video_model(name), "layer3.0.conv2"
    clips = torch.randn(CLIPS, FRAMES, 1, 8, 8)
    found = heat_maps(net, None if name == "tsm_cgc" else layer, clips, torch.tensor([2, 0, 1]))
    kept = {}
    conv = net.get_submodule(layer)

    def keep(module, inputs, output):
        kept["before"] = inputs[0]
        kept["before"].retain_grad()

    with conv.register_forward_hook(keep):
        net(clips[1:2].requires_grad_())[0, 0].backward()
    maps, gradient = kept["before"].detach(), kept["before"].grad
    assert maps.shape == (FRAMES, 64, 2, 2)
    total = maps.sum((0, 2, 3))
    heat = torch.zeros(FRAMES, 2, 2)
    for channel in range(64):
        g = gradient[:, channel].clamp(min=0)
        heat += (g / (2 + total[channel] * g)).sum() * maps[:, channel]
    heat = heat.clamp(min=0)
    torch.testing.assert_close(found.maps["before"][1], heat / heat.max(), rtol=1e-4, atol=1e-5)
    assert found.maps["after"].shape == (CLIPS, FRAMES, 2, 2)
    assert found.classes.tolist() == [2, 0, 1]
    assert found.maps["after"].amax((1, 2, 3)).tolist() == [1.0] * CLIPS  # one of all frames


@pytest.mark.parametrize(
    ("name", "layer", "shapes"),
    [
        ("tsm_cgc", "layer3.0.conv2", [(4, 2, 2), (3, 3, 3), (4, 2, 2)]),
        # Two of four frames are left behind the stem, and of the gate's grid three taps.
        ("p3d_cgc1d", "layer3.0.temporal.conv", [(2, 2, 2), (3, 1, 1), (2, 2, 2)]),
        ("p3d_cgc1d3d", "layer3.0.conv2", [(2, 2, 2), (3, 3, 3), (2, 2, 2)]),
        ("p3d", "temporal.conv", [(4, 8, 8), (2, 8, 8)]),
    ],
)
def test_maps_of_clips_have_the_layers_frames(name, layer, shapes):
    net = video_model(name)
    found = heat_maps(net, layer, torch.randn(CLIPS, FRAMES, 1, 8, 8))
    assert [tuple(maps.shape) for maps in found.maps.values()] == [(CLIPS, *s) for s in shapes]
    assert all(maps.isfinite().all() for maps in found.maps.values())


def test_a_convolution_in_three_dimensions():
    class Net3d(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = CGConv3d(1, 4, 3, padding=1)
            self.fc = nn.Linear(4, 3)

        def forward(self, clips: Tensor) -> Tensor:
            return self.fc(self.conv(clips.transpose(1, 2)).relu().mean((2, 3, 4)))

    found = heat_maps(Net3d(), None, torch.randn(2, 4, 1, 5, 6))
    shapes = {key: tuple(maps.shape) for key, maps in found.maps.items()}
    assert shapes == {"before": (2, 4, 5, 6), "context": (2, 3, 3, 3), "after": (2, 4, 5, 6)}


pytest.importorskip("matplotlib")


def test_frames_of_a_clip_stand_in_a_row(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, _: drawn.append(figure))
    clips = torch.arange(10, dtype=torch.uint8).view(1, 10, 1, 1, 1).expand(-1, -1, -1, 4, 4)
    maps = {"after": torch.tensor([0.2, 0.8]).view(1, 2, 1, 1).expand(-1, -1, 2, 2)}
    shown = Shown("m", HeatMaps("conv", torch.zeros(1), torch.zeros(1, 2), maps), ["90% a"])
    draw_heat_maps(clips, [shown], ["clip"], tmp_path / "x.png")
    pictures = [axis for axis in drawn[0].axes if axis.images]
    frames, heats = pictures[:8], pictures[8:]
    assert [axis.get_title("center") for axis in frames][::7] == ["frame 1", "frame 10"]
    values = [round(255 * float(axis.images[0].get_array()[0, 0, 0])) for axis in frames]
    assert values == [0, 1, 3, 4, 5, 6, 8, 9]  # eight of ten, evenly
    shown_heat = [round(float(axis.images[1].get_array()[0, 0]), 1) for axis in heats]
    assert shown_heat == [0.2] * 4 + [0.8] * 4  # a map for five frames each
    assert heats[0].get_ylabel() == "after, 2 × 2 × 2\n90% a"


@pytest.mark.parametrize(("number", "channels"), [(1, 3), (3, 1)])
def test_draws_a_row_for_each_image(tmp_path, number, channels):
    maps = {"before": torch.rand(number, 2, 3), "after": torch.zeros(number, 2, 2)}
    heat = HeatMaps("conv", torch.zeros(number), torch.zeros(number, 2), maps)
    images = torch.randint(0, 256, (number, channels, 8, 6), dtype=torch.uint8)
    output = tmp_path / "cam.png"
    draw_heat_maps(images, [Shown("m", heat, ["b"] * number)], ["a"] * number, output)
    assert output.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [output]
