from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fairseq_cgc.analysis.kernels import record_kernels
from fairseq_cgc.core import CGConv1d, CGConv2d, UserError
from fairseq_cgc.video.layers import ClipGatedConv2d


def randomise_statistics(model: nn.Module) -> None:
    """As training leaves them: not zero and one."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)


def batches(x: Tensor, *sizes: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(sizes), torch.arange(len(x)).split(sizes), strict=True))


@pytest.mark.parametrize(
    "conv",
    [
        CGConv2d(4, 6, 3),
        CGConv2d(4, 6, (2, 3), branches="in"),
        CGConv2d(4, 6, 3, branches="out"),
        CGConv2d(4, 6, 3, combine="product", channels_per_group=2),
        CGConv2d(4, 6, 3, groups=2),
        CGConv2d(4, 4, 3, groups=4),
    ],
    ids=["both", "in", "out", "product", "groups", "depthwise"],
)
def test_equals_the_kernels_the_convolution_uses(conv):
    randomise_statistics(conv)
    x = torch.randn(5, 4, 7, 6)
    kernels, labels = record_kernels(conv, None, batches(x, 3, 2))
    assert len(kernels) == 5 and labels.tolist() == [0, 1, 2, 3, 4]
    assert not conv.training
    want = conv.sample_kernels(x).detach().flatten(3)
    torch.testing.assert_close(kernels.of(slice(None), slice(None)), want)
    some = kernels.of(torch.tensor([4, 1]), slice(1, 4))
    torch.testing.assert_close(some, want[[4, 1], 1:4])


@pytest.mark.parametrize(
    ("per_frame", "shape"), [(True, (4, 3, 3)), (False, (1, 3, 3))], ids=["TSM", "P3D"]
)
def test_a_clip_has_a_kernel_for_each_frame_that_has_its_own(per_frame, shape):
    conv = ClipGatedConv2d(3, 5, 3, frames=4, per_frame=per_frame).eval()
    randomise_statistics(conv)
    x = torch.randn(2 * 4, 3, 6, 6)  # two clips

    class OfClips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv

        def forward(self, clips: Tensor) -> Tensor:
            return self.conv(clips.flatten(0, 1))

    clips = x.unflatten(0, (2, 4))
    kernels, _ = record_kernels(OfClips(), None, [(clips, torch.tensor([0, 1]))])
    assert kernels.kernel_size == shape and len(kernels) == 2
    found = kernels.of(slice(None), slice(None)).unflatten(3, shape)  # 2 x o x c x t x 3 x 3
    want = conv.sample_kernels(x).detach().unflatten(0, (2, 4))  # 2 x T x o x c x 3 x 3
    for frame in range(4):
        torch.testing.assert_close(found[:, :, :, frame if per_frame else 0], want[:, frame])


def test_records_a_layer_inside_a_model():
    first, second = CGConv1d(3, 4, 3), CGConv1d(4, 5, 3)
    model = nn.Sequential(first, nn.ReLU(), second)
    x = torch.randn(4, 3, 9)
    kernels, _ = record_kernels(model, "2", batches(x, 4))
    want = second.sample_kernels(first(x).relu()).flatten(3)
    torch.testing.assert_close(kernels.of(slice(None), slice(None)), want.detach())
    assert kernels.kernel_size == (3,)
    model(x)  # nothing is recorded any more
    assert not second._forward_pre_hooks


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = CGConv1d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x))


class Never(Twice):
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(("model", "ran"), [(Twice(), r"\[2, 2\]"), (Never(), r"\[\]")])
def test_a_layer_must_run_once(model, ran):
    with pytest.raises(UserError, match=f"conv must run once on each batch of 2 .* on {ran}"):
        record_kernels(model, None, batches(torch.randn(2, 3, 5), 2))
    assert not model.conv._forward_pre_hooks


def test_no_samples_are_reported():
    with pytest.raises(UserError, match="there are no samples"):
        record_kernels(Twice(), None, [])
