"""One training step for every switch of Table 3 on the smallest model of each family."""

import pytest
import torch
from tools import SWITCHES
from torch import nn

from fairseq_cgc import video, vision
from fairseq_cgc.core import CGConv1d, CGConv2d, CGConv3d, CGLightConv

PRECISIONS = pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
INPUTS = pytest.mark.parametrize("needs_gradient", [False, True], ids=["data", "features"])


def step(model, x, autocast, *others):
    """Train on x; every parameter must have moved."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = [p.detach().clone() for p in model.parameters()]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = model(x, *others).float().square().mean()
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    for (name, p), old in zip(model.named_parameters(), before, strict=True):
        assert p.grad is not None and p.grad.isfinite().all() and not torch.equal(p, old), name
    assert x.grad is None or x.grad.any()


@PRECISIONS
@INPUTS
@pytest.mark.parametrize("switches", [*SWITCHES, {"grid_scale": 2}, {"pool": "max"}], ids=str)
def test_a_step_moves_every_parameter_of_an_image_model(switches, needs_gradient, autocast):
    model = vision.create_model("resnet8_cifar_cgc", num_classes=3, cgc=switches)
    step(model, torch.randn(2, 3, 8, 8, requires_grad=needs_gradient), autocast)


@PRECISIONS
@INPUTS
@pytest.mark.parametrize("name", ["tsn_cgc", "p3d_cgc1d3d"])
def test_a_step_moves_every_parameter_of_a_video_model(name, needs_gradient, autocast):
    model = video.create_model(name, num_classes=3, num_frames=2)
    step(model, torch.randn(2, 2, 3, 32, 32, requires_grad=needs_gradient), autocast)


@PRECISIONS
@INPUTS
@pytest.mark.parametrize("gate_target", ["kernel", "logits"])
def test_a_step_moves_every_parameter_of_a_sentence_convolution(
    gate_target, needs_gradient, autocast
):
    model = CGLightConv(8, 5, 2, gate_target=gate_target, weight_dropout=0.1, bias=True)
    x = torch.randn(20, 3, 8, requires_grad=needs_gradient)
    step(model, x, autocast, torch.arange(20) >= torch.tensor([[20], [7], [12]]))


@PRECISIONS
@INPUTS
@pytest.mark.parametrize("frozen", [(), ("weight", "bias"), ("gate",)], ids=str)
@pytest.mark.parametrize("switches", SWITCHES[:4], ids=str)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_frozen_parts(dims, switches, frozen, needs_gradient, autocast):
    conv = [CGConv1d, CGConv2d, CGConv3d][dims - 1](3, 8, 3, padding=1, **switches)
    for name, parameter in conv.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen) if frozen else True)
    x = torch.randn(2, 3, *[6] * dims, requires_grad=needs_gradient)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        conv(x).float().square().mean().backward()
    for parameter in [x, *conv.parameters()]:
        assert (parameter.grad is not None and parameter.grad.any()) == parameter.requires_grad


@pytest.mark.parametrize("branches", ["in", "out"])
def test_one_branch_compiled(branches):
    torch._dynamo.reset()
    conv = CGConv2d(3, 8, 3, padding=1, branches=branches)
    x = torch.randn(2, 3, 6, 6)
    compiled = torch.compile(nn.Sequential(conv), backend="aot_eager", fullgraph=True)
    want = torch.autograd.grad(conv(x).square().mean(), list(conv.parameters()))
    got = torch.autograd.grad(compiled(x).square().mean(), list(conv.parameters()))
    torch.testing.assert_close(got, want)
