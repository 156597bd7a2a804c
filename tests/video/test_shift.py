import pytest
import torch
from tools import gradients

from fairseq_cgc.video.layers import TemporalShift


def written_out(x, frames):
    """Frame by frame and channel by channel, an eighth of them each way."""
    part = x.shape[1] // 8
    out = torch.zeros_like(x)
    for n in range(len(x)):
        at = n % frames
        for channel in range(x.shape[1]):
            step = 1 if channel < part else -1 if channel < 2 * part else 0
            if 0 <= at + step < frames:
                out[n, channel] = x[n + step, channel]
    return out


@pytest.mark.parametrize("frames", [1, 2, 3, 6])
@pytest.mark.parametrize("channels", [8, 16, 21])
def test_equals_the_definition(frames, channels):
    x = torch.randn(6, channels, 2, 3, dtype=torch.float64, requires_grad=True)
    got, want = TemporalShift(frames)(x), written_out(x, frames)
    assert torch.equal(got, want)
    torch.testing.assert_close(gradients(got, [x]), gradients(want, [x]))


def test_the_ends_are_zero_and_clips_apart():
    x = torch.ones(6, 16, 1, 1)
    first, middle, last = TemporalShift(3)(x)[3:].flatten(1)  # of the second clip
    assert first.tolist() == [1, 1, 0, 0] + [1] * 12
    assert middle.tolist() == [1] * 16
    assert last.tolist() == [0, 0, 1, 1] + [1] * 12
