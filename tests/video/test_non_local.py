import pytest
import torch
from tools import gradients
from torch import nn

from fairseq_cgc.video.layers import NonLocal, non_local_blocks


def block_of(channels, frames):
    block = NonLocal(channels, frames).double().eval()
    nn.init.normal_(block.bn.weight)
    return block


def written_out(block, x):
    """Position by position: softmax over the clip's quarter of positions, windows of 2 x 2."""
    height, width = x.shape[2:]
    out = []
    for clip in x.unflatten(0, (-1, block.frames)):
        theta, phi, g = block.theta(clip), block.phi(clip), block.g(clip)
        windows = [
            (t, slice(i, i + 2), slice(j, j + 2))
            for t in range(block.frames)
            for i in range(0, height, 2)
            for j in range(0, width, 2)
        ]
        keys = torch.stack([phi[t, :, i, j].amax((1, 2)) for t, i, j in windows])
        values = torch.stack([g[t, :, i, j].amax((1, 2)) for t, i, j in windows])
        for t in range(block.frames):
            rows = []
            for i in range(height):
                attention = [
                    torch.softmax(keys @ theta[t, :, i, j], 0) @ values for j in range(width)
                ]
                rows.append(torch.stack(attention, 1))
            gathered = torch.stack(rows, 1)  # C/2 x H x W
            out.append(clip[t] + block.bn(block.W(gathered.unsqueeze(0)))[0])
    return torch.stack(out)


@pytest.mark.parametrize(("frames", "size"), [(1, (2, 4)), (3, (4, 2)), (2, (3, 5)), (2, (1, 1))])
def test_equals_the_definition(frames, size):
    block = block_of(6, frames)
    x = torch.randn(2 * frames, 6, *size, dtype=torch.float64, requires_grad=True)
    got, want = block(x), written_out(block, x)
    inputs = [x, *block.parameters()]
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))


def test_starts_as_identity():
    x = torch.randn(4, 8, 5, 3)
    assert torch.equal(NonLocal(8, 2)(x), x)


def test_a_frame_sees_its_clip_and_no_other():
    block = block_of(4, 2)
    x = torch.randn(4, 4, 2, 2, dtype=torch.float64)
    other = x.clone()
    other[0] += 1
    changed = (block(other) - block(x)).abs().amax((1, 2, 3)) > 1e-9
    assert changed.tolist() == [True, True, False, False]


def test_five_blocks_in_res2_and_res3():
    make = non_local_blocks(3)
    places = [
        (stage, index)
        for stage, blocks in (("res1", 3), ("res2", 4), ("res3", 6), ("res4", 3))
        for index in range(blocks)
        if make(stage, index, blocks, 8) is not None
    ]
    assert places == [("res2", 0), ("res2", 2), ("res3", 0), ("res3", 2), ("res3", 4)]
    assert make("res2", 0, 4, 8).frames == 3
