import torch
from tools import gradients
from torch import nn

from fairseq_cgc.vision.attention import GloRe


def test_starts_as_identity():
    x = torch.randn(2, 16, 5, 3)
    assert torch.equal(GloRe(16)(x), x)


def test_equals_the_formula():
    unit = GloRe(8).double().eval()
    nn.init.normal_(unit.norm.weight)
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64, requires_grad=True)
    adjacency, bias = unit.adjacency.weight, unit.adjacency.bias
    want = []
    for image in x:
        state = unit.reduce(image).reshape(4, 12)  # S x L
        b = unit.project(image).reshape(2, 12)  # N x L
        v = b @ state.T / 12
        z = (torch.eye(2, dtype=torch.float64) - adjacency) @ v - bias[:, None]
        z = torch.relu(z) @ unit.update.weight.T  # N x S
        handed = (b.T @ z).T.reshape(1, 4, 3, 4)
        want.append(image + unit.norm(unit.extend(handed))[0])
    inputs = [x, *unit.parameters()]
    got, want = unit(x), torch.stack(want)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))
