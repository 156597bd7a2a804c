"""Several views of a sample in :func:`fairseq_cgc.vision.training.evaluation.evaluate`."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.dataset import Batch, Dataset, Statistics
from fairseq_cgc.vision.data.transforms import Crops
from fairseq_cgc.vision.training.distributed import Processes
from fairseq_cgc.vision.training.evaluation import Scores, evaluate

ALONE = Processes(torch.device("cpu"))


class Numbered(Dataset):
    """Videos of one pixel, its view's number; those in ``missing`` cannot be read."""

    noun = "videos"
    in_memory = True

    def __init__(self, labels: Sequence[int], views: int, missing: Sequence[int] = ()) -> None:
        super().__init__("abc", torch.tensor(labels), Statistics((0.0,), (1.0,)), Crops())
        self.views, self.missing = views, missing

    def fingerprint(self) -> str:
        return ""

    def load(self, indices: Sequence[int], *, seed: int | None) -> Batch:
        found = [i for i in indices if i not in self.missing]
        lost = tuple(f"video {i} is broken" for i in indices if i in self.missing)
        return Batch(self._views(found, None), self.labels[found], lost)

    def _views(self, indices: Sequence[int], draws: Sequence[random.Random] | None) -> Tensor:
        numbers = [i * self.views + view for i in indices for view in range(self.views)]
        return torch.tensor(numbers, dtype=torch.uint8).view(-1, 1, 1, 1, 1)


class Table(nn.Module):
    """The outputs for every view."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return self.logits[(x.flatten() * 255).round().long()]


def run(model: Table, videos: Numbered, batch_size: int = 4, **options: str) -> Scores:
    return evaluate(model, videos, ALONE, batch_size=batch_size, workers=0, **options)


# Two views of a video: the mean of the logits prefers class 1 (10, 10.5, 6), that of the
# probabilities class 0, as the second view is a little unsure: 0.5 and 0.49994.
LOGITS = [[20.0, 0.0, 0.0], [0.0, 21.0, 12.0]]


@pytest.mark.parametrize(("average", "right"), [("logits", 1), ("softmax", 0)])
def test_what_is_averaged(average, right):
    means = {
        "logits": [math.exp(mean) for mean in (10, 10.5, 6)],
        "softmax": [
            sum(torch.tensor(row).softmax(0)[c].item() for row in LOGITS) for c in range(3)
        ],
    }[average]
    for label in (0, 1):
        scores = run(Table(LOGITS), Numbered([label], 2), average=average)
        assert scores.top1 == 100 * (label == right)
        assert scores.loss == pytest.approx(-math.log(means[label] / sum(means)), rel=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 7, 100])
def test_batches_have_no_influence(batch_size):
    draw = torch.Generator().manual_seed(3)
    logits = torch.randn(7 * 5, 3, generator=draw)
    labels = [0, 1, 2, 0, 1, 2, 0]
    model = Table(logits.tolist())
    scores = run(model, Numbered(labels, 5), batch_size)
    means = logits.unflatten(0, (7, 5)).mean(1)
    hits = (means.argmax(1) == torch.tensor(labels)).float().mean().item()
    assert scores.top1 == pytest.approx(100 * hits)
    expected = nn.functional.cross_entropy(means, torch.tensor(labels)).item()
    assert scores.loss == pytest.approx(expected, rel=1e-5)
    assert max(model.sizes) <= batch_size and sum(model.sizes) == 35


def test_videos_that_are_left_out_do_not_count(caplog):
    logits = [[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0], [9.0, 0.0, 0.0]]
    scores = run(Table(logits), Numbered([0, 0, 2, 1], 1, missing=[1, 3]), batch_size=1)
    assert (scores.top1, scores.samples) == (100, 2)
    assert "video 1 is broken" in caplog.text and "2 of 4 videos left out" in caplog.text
    with pytest.raises(UserError, match="none of the 2 videos can be read"):
        run(Table(logits), Numbered([0, 0], 1, missing=[0, 1]))
