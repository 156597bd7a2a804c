from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fairseq_cgc.analysis.cam import (
    HeatMaps,
    draw_heat_maps,
    grad_cam_plus_plus,
    heat_maps,
    relative,
)
from fairseq_cgc.core import CGConv2d, UserError
from fairseq_cgc.core.gated_convolution import sample_kernels


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
