import torch
from tools import gradients
from torch import nn

from fairseq_cgc.vision.attention import GlobalContext


def test_starts_as_identity():
    x = torch.randn(2, 32, 5, 3)
    assert torch.equal(GlobalContext(32)(x), x)


def test_equals_the_formula():
    block = GlobalContext(8, reduction=2).double()
    nn.init.normal_(block.fc2.weight)
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64, requires_grad=True)
    wk, bk = block.key.weight.reshape(8), block.key.bias
    want = []
    for image in x.reshape(2, 8, 12):
        positions = image.unbind(1)  # x_j, 12 vectors
        scores = torch.stack([torch.exp(wk @ position + bk[0]) for position in positions])
        weights = scores / scores.sum()
        context = sum(w * position for w, position in zip(weights, positions, strict=True))
        added = block.fc2(torch.relu(block.norm(block.fc1(context))))
        want.append(torch.stack([position + added for position in positions], 1))
    want = torch.stack(want).reshape(2, 8, 3, 4)
    inputs = [x, *block.parameters()]
    got = block(x)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))
