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
from fairseq_cgc.vision.data.dataset import Dataset
from fairseq_cgc.vision.data.loader import Normalize, evaluation_batches, load_batches
from fairseq_cgc.vision.training.distributed import Processes, progress_bar

logger = logging.getLogger(__name__)

AVERAGES = ("logits", "softmax")

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Scores:
    """Accuracies in percent and the mean cross-entropy in nats, over ``samples`` samples."""

    top1: float
    top5: float
    loss: float | None
    samples: int


class MappedAccuracy(Metric):
    """Share of images that have an accepted output among their ``top_k`` highest.

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
    """The context for a model's forward pass; ``float32`` changes nothing."""
    return torch.autocast(device.type, _DTYPES.get(precision), enabled=precision in _DTYPES)


def evaluate(
    model: nn.Module,
    dataset: Dataset,
    processes: Processes,
    *,
    batch_size: int,
    workers: int,
    precision: str = "float32",
    channels_last: bool = False,
    accepted: Tensor | None = None,
    average: str = "logits",
) -> Scores:
    """Top-1 and top-5 accuracy over all views of every sample; all processes must call it.

    With fewer than five classes, top-5 is 100%.

    Args:
        model: on ``processes.device``; it is left in evaluation mode.
        dataset: to evaluate on. Samples that it skips are logged and not counted.
        processes: which share the samples.
        batch_size: views at a time in each process.
        workers: processes that read files.
        precision, channels_last: as in :class:`TrainingSettings`.
        accepted: bool, labels x outputs: the right outputs, if a label is not an output's number;
            ``loss`` is then ``None``.
        average: what is averaged over views, one of ``AVERAGES``.

    Raises:
        UserError: for a sample that cannot be read, or outputs that are not finite.
    """
    device = processes.device
    model.eval()
    outputs = len(dataset.classes) if accepted is None else accepted.shape[1]
    top1, top5 = (_accuracy(outputs, min(k, outputs), accepted).to(device) for k in (1, 5))
    loss = MeanMetric().to(device)
    normalize = Normalize(dataset, device, channels_last=channels_last)
    batches = evaluation_batches(len(dataset), max(1, batch_size // dataset.views), processes)
    broken: list[str] = []
    loader = load_batches(
        dataset, batches, seed=None, workers=workers, device=device, broken=broken
    )
    bar = progress_bar("evaluation", len(dataset), processes, noun=dataset.noun)
    with torch.inference_mode(), bar:
        for pixels, labels in loader:
            if not len(labels):
                continue
            with autocast(device, precision):
                parts = [model(normalize(part)) for part in pixels.split(batch_size)]
            logits = torch.cat(parts).float()
            if not logits.isfinite().all():
                raise UserError("the model's outputs are not finite: it has not been trained well")
            if dataset.views > 1:
                logits = _average_views(logits.unflatten(0, (-1, dataset.views)), average)
            top1.update(logits, labels)
            top5.update(logits, labels)
            if accepted is None:
                loss.update(F.cross_entropy(logits, labels), len(labels))
            bar.update(len(labels) * processes.size)
    left_out = int(processes.total(torch.tensor(len(broken), device=device)))
    if left_out == len(dataset):
        raise UserError(f"none of the {left_out} {dataset.noun} can be read")
    if left_out and processes.is_main:
        logger.warning("%d of %d %s left out: broken", left_out, len(dataset), dataset.noun)
    return Scores(
        top1=100 * top1.compute().item(),
        top5=100 * top5.compute().item(),
        loss=loss.compute().item() if accepted is None else None,
        samples=len(dataset) - left_out,
    )


def _average_views(logits: Tensor, average: str) -> Tensor:
    """B x views x outputs to B x outputs."""
    if average == "softmax":  # the logarithm of the mean probability, but for a constant
        return logits.log_softmax(2).logsumexp(1)
    return logits.mean(1)


def _accuracy(outputs: int, top_k: int, accepted: Tensor | None) -> Metric:
    if accepted is not None:
        return MappedAccuracy(accepted, top_k)
    return MulticlassAccuracy(outputs, top_k, average="micro", validate_args=False)
