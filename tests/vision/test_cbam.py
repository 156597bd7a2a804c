import torch
from tools import gradients
from torch import nn

from fairseq_cgc.vision.attention import CBAM


def test_equals_the_formula():
    block = CBAM(8, reduction=4).double().eval()
    nn.init.normal_(block.bn.weight)
    block.bn.running_mean.normal_()
    x = torch.randn(2, 8, 9, 6, dtype=torch.float64, requires_grad=True)

    def mlp(values):
        return block.fc2(torch.relu(block.fc1(values)))

    flat = x.reshape(2, 8, 54)
    gate = torch.sigmoid(mlp(flat.mean(-1)) + mlp(flat.max(-1).values))
    refined = x * gate.reshape(2, 8, 1, 1)
    mean, largest = refined.mean(1, keepdim=True), refined.max(1, keepdim=True).values
    kernel = block.conv.weight
    logits = nn.functional.conv2d(mean, kernel[:, :1], padding=3)
    logits = logits + nn.functional.conv2d(largest, kernel[:, 1:], padding=3)
    want = refined * torch.sigmoid(block.bn(logits))
    got, inputs = block(x), [x, *block.parameters()]
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))
