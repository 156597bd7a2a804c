import torch
from torch import nn

from fairseq_cgc.vision.attention import BAM


def test_equals_the_formula():
    """Mc and Ms computed from the parts that the paper names, in its order."""
    block = BAM(32, reduction=16).double().eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 32, 9, 11, dtype=torch.float64)
    w0, bn0, _, w1, bn1 = block.channel
    mean = x.mean((2, 3), keepdim=True)
    channel = bn1(w1(torch.relu(bn0(w0(mean)))))
    assert channel.shape == (2, 32, 1, 1)
    f0, n0, _, f1, n1, _, f2, n2, _, f3, n3 = block.spatial
    spatial = torch.relu(n0(f0(x)))
    spatial = torch.relu(n1(f1(spatial)))
    spatial = torch.relu(n2(f2(spatial)))
    spatial = n3(f3(spatial))
    assert spatial.shape == (2, 1, 9, 11)
    assert [f.dilation[0] for f in (f0, f1, f2, f3)] == [1, 4, 4, 1]
    torch.testing.assert_close(block(x), x + x * torch.sigmoid(channel + spatial))


def test_sees_the_distance_that_dilation_gives():
    block = BAM(16).eval()
    x = torch.zeros(1, 16, 25, 25)
    x[:, :, 12, 12] = 1
    f0, _, _, f1, _, _, f2, _, _, _, _ = block.spatial
    for f in (f0, f1, f2):
        nn.init.ones_(f.weight)
        nn.init.zeros_(f.bias)
    reached = (f2(f1(f0(x))) != 0).any(1)[0].nonzero()
    assert reached.amin(0).tolist() == [4, 4] and reached.amax(0).tolist() == [20, 20]
