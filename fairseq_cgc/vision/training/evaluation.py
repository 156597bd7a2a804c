"""Accuracy of a model on a data set."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.dataset import Samples
from fairseq_cgc.vision.data.loader import Standardise, evaluation_batches, load_batches
from fairseq_cgc.vision.training.distributed import Processes, progress_bar

logger = logging.getLogger(__name__)

AVERAGES = ("logits", "softmax")

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Scores:
    """Over ``samples`` samples; accuracies in percent, ``loss`` the mean cross-entropy in nats."""

    top1: float
    top5: float
    loss: float | None
    samples: int


class MappedAccuracy(Metric):
    """Share of images with one of their accepted outputs among the ``top_k`` highest.

    Args:
        accepted: bool, labels x outputs.
        top_k: how many outputs count.
    """

    accepted: Tensor
    hits: Tensor
    images: Tensor

    def __init__(self, accepted: Tensor, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.register_buffer("accepted", accepted)
        self.add_state("hits", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Take B x outputs and B."""
        highest = logits.topk(self.top_k).indices
        self.hits += self.accepted[labels].gather(1, highest).any(1).sum()
        self.images += len(labels)

    def compute(self) -> Tensor:
        return self.hits / self.images


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a model computes; ``float32`` changes nothing."""
    return torch.autocast(device.type, _DTYPES.get(precision), enabled=precision in _DTYPES)


def evaluate(
    model: nn.Module,
    samples: Samples,
    processes: Processes,
    *,
    batch_size: int,
    workers: int,
    precision: str = "float32",
    channels_last: bool = False,
    accepted: Tensor | None = None,
    average: str = "logits",
) -> Scores:
    """Top-1 and top-5 over all views of every sample; all processes must call it.

    With fewer than five classes, top-5 counts them all.

    Args:
        model: on ``processes.device``; it is left in evaluation mode.
        samples: the data set. What it leaves out does not count, but in the log.
        processes: which share the samples.
        batch_size: views at a time in each process.
        workers: processes that read files.
        precision: as in :class:`TrainingSettings`.
        channels_last: likewise.
        accepted: bool, labels x outputs, where a label is not simply an output's number;
            ``loss`` is ``None`` then.
        average: what is averaged over views, one of ``AVERAGES``.

    Raises:
        UserError: for a sample that cannot be read, or outputs that are not finite.
    """
    device = processes.device
    model.eval()
    outputs = len(samples.classes) if accepted is None else accepted.shape[1]
    top1, top5 = (_accuracy(outputs, min(k, outputs), accepted).to(device) for k in (1, 5))
    loss = MeanMetric().to(device)
    standardise = Standardise(samples, device, channels_last=channels_last)
    number = max(1, batch_size // samples.views)
    batches = evaluation_batches(len(samples), number, processes)
    broken: list[str] = []
    loader = load_batches(
        samples, batches, seed=None, workers=workers, device=device, broken=broken
    )
    bar = progress_bar("evaluation", len(samples), processes, noun=samples.noun)
    with torch.inference_mode(), bar:
        for pixels, labels in loader:
            if not len(labels):
                continue
            with autocast(device, precision):
                parts = [model(standardise(part)) for part in pixels.split(batch_size)]
            logits = torch.cat(parts).float()
            if not logits.isfinite().all():
                raise UserError("the model's outputs are not finite: it has not been trained well")
            logits = _averaged(logits, samples.views, average)
            top1.update(logits, labels)
            top5.update(logits, labels)
            if accepted is None:
                loss.update(F.cross_entropy(logits, labels), len(labels))
            bar.update(len(labels) * processes.size)
    left_out = int(processes.total(torch.tensor(len(broken), device=device)))
    if left_out == len(samples):
        raise UserError(f"none of the {left_out} {samples.noun} can be read")
    if left_out and processes.is_main:
        logger.warning("%d of %d %s left out: broken", left_out, len(samples), samples.noun)
    return Scores(
        top1=100 * top1.compute().item(),
        top5=100 * top5.compute().item(),
        loss=loss.compute().item() if accepted is None else None,
        samples=len(samples) - left_out,
    )


def _averaged(logits: Tensor, views: int, average: str) -> Tensor:
    """Logits of each view, B * views x outputs, to B x outputs."""
    if views == 1:
        return logits
    of_samples = logits.unflatten(0, (-1, views))
    if average == "softmax":  # the logarithm of the mean, but for a constant
        return of_samples.log_softmax(2).logsumexp(1)
    return of_samples.mean(1)


def _accuracy(outputs: int, top_k: int, accepted: Tensor | None) -> Metric:
    if accepted is not None:
        return MappedAccuracy(accepted, top_k)
    return MulticlassAccuracy(outputs, top_k, average="micro", validate_args=False)
