from __future__ import annotations

import pytest
import tiny_images
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.dataset import Statistics
from fairseq_cgc.vision.data.memory import MemoryImages
from fairseq_cgc.vision.data.transforms import Crops
from fairseq_cgc.vision.training.evaluation import evaluate, hits


class Table(nn.Module):
    """The outputs for image i, whose pixels are all i."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: Tensor) -> Tensor:
        return self.logits[(x[:, 0, 0, 0] * 255).round().long()]


def numbered(labels: list[int], classes: int) -> MemoryImages:
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    names = [str(number) for number in range(classes)]
    return MemoryImages(
        images, names, torch.tensor(labels), Statistics((0.0,), (1.0,)), Crops(padding=0)
    )


def run(logits: Tensor, labels: list[int], **options: object):
    images = numbered(labels, logits.shape[1])
    return evaluate(Table(logits), images, tiny_images.ALONE, batch_size=3, workers=0, **options)


def test_hand_made_predictions():
    # The order of each row's outputs, the highest first, and the right one.
    orders = [
        [0, 1, 2, 3, 4, 5, 6],
        [6, 5, 4, 3, 2, 1, 0],
        [3, 0, 1, 2, 4, 5, 6],
        [1, 0, 2, 3, 4, 6, 5],
    ]
    labels = [0, 2, 5, 0]  # first, fifth, sixth, second
    logits = torch.zeros(4, 7)
    for row, order in zip(logits, orders, strict=True):
        row[order] = torch.arange(7, 0, -1.0)
    scores = run(logits, labels)
    assert (scores.top1, scores.top5, scores.samples) == (25, 75, 4)
    expected = F.cross_entropy(logits, torch.tensor(labels)).item()
    assert scores.loss == pytest.approx(expected)


def test_random_predictions_agree_with_a_plain_count():
    logits, labels = torch.randn(50, 8), torch.randint(0, 8, (50,))
    scores = run(logits, labels.tolist())
    ranks = (logits > logits.gather(1, labels[:, None])).sum(1)
    assert scores.top1 == pytest.approx(100 * (ranks < 1).float().mean().item())
    assert scores.top5 == pytest.approx(100 * (ranks < 5).float().mean().item())


def test_top_5_of_three_classes_is_everything():
    scores = run(torch.eye(3), [1, 1, 2])
    assert scores.top1 == pytest.approx(200 / 3)
    assert scores.top5 == 100


def test_any_accepted_output_counts():
    accepted = torch.tensor([[True, False, True, False], [False, False, False, True]])
    logits = torch.tensor([[9.0, 1, 0, 0], [0, 1, 9, 0], [9, 1, 0, 3], [9, 8, 1, 0]])
    labels = torch.tensor([0, 0, 1, 1])
    top1, top2 = (hits(logits, labels, k, accepted).float().mean() for k in (1, 2))
    assert (top1, top2) == (0.5, 0.75)


def test_outputs_that_are_not_finite_are_refused():
    with pytest.raises(UserError, match="outputs are not finite"):
        run(torch.full((2, 3), float("nan")), [0, 1])


def test_in_channels_last():
    seen = []
    model = nn.Sequential(
        *(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    )
    model[1].register_forward_hook(lambda *its: seen.append(its[2]))
    images = tiny_images.memory_images(5)
    for channels_last in (False, True):
        evaluate(
            model, images, tiny_images.ALONE, batch_size=5, workers=0, channels_last=channels_last
        )
    is_last = [out.is_contiguous(memory_format=torch.channels_last) for out in seen]
    assert is_last == [False, True]
    assert model[1].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(seen[1], seen[0])
