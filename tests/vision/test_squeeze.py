import torch
from tools import gradients

from fairseq_cgc.vision.attention import SqueezeExcitation


def test_equals_the_formula():
    block = SqueezeExcitation(8, reduction=4).double()
    x = torch.randn(2, 8, 3, 5, dtype=torch.float64, requires_grad=True)
    w1, b1, w2, b2 = block.parameters()
    assert w1.shape == (2, 8)
    want = []
    for image in x:
        mean = torch.stack([channel.sum() / 15 for channel in image])
        gate = 1 / (1 + torch.exp(-(w2 @ torch.clamp(w1 @ mean + b1, min=0) + b2)))
        want.append(torch.stack([g * channel for g, channel in zip(gate, image, strict=True)]))
    inputs = [x, *block.parameters()]
    got, want = block(x), torch.stack(want)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))
