"""Accuracy of a model on a data set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.training.batches import Standardise, evaluation_batches, load_batches
from fairseq_cgc.vision.training.images import Images
from fairseq_cgc.vision.training.processes import Processes, progress_bar

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Scores:
    """Over ``images`` images; accuracies in percent, ``loss`` the mean cross-entropy in nats."""

    top1: float
    top5: float
    loss: float | None
    images: int


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
    images: Images,
    processes: Processes,
    *,
    batch_size: int,
    workers: int,
    precision: str = "float32",
    channels_last: bool = False,
    accepted: Tensor | None = None,
) -> Scores:
    """Top-1 and top-5 of one view of every image; all processes must call it.

    With fewer than five classes, top-5 counts them all.

    Args:
        model: on ``processes.device``; it is left in evaluation mode.
        images: the data set.
        processes: which share the images.
        batch_size: images at a time in each process.
        workers: processes that read files.
        precision: as in :class:`Settings`.
        channels_last: likewise.
        accepted: bool, labels x outputs, where a label is not simply an output's number;
            ``loss`` is ``None`` then.

    Raises:
        UserError: for an image that cannot be read, or outputs that are not finite.
    """
    device = processes.device
    model.eval()
    outputs = len(images.classes) if accepted is None else accepted.shape[1]
    top1, top5 = (_accuracy(outputs, min(k, outputs), accepted).to(device) for k in (1, 5))
    loss = MeanMetric().to(device)
    standardise = Standardise(images, device, channels_last=channels_last)
    batches = evaluation_batches(len(images), batch_size, processes)
    loader = load_batches(images, batches, seed=None, workers=workers, device=device)
    with torch.inference_mode(), progress_bar("evaluation", len(images), processes) as bar:
        for pixels, labels in loader:
            with autocast(device, precision):
                logits = model(standardise(pixels))
            logits = logits.float()
            if not logits.isfinite().all():
                raise UserError("the model's outputs are not finite: it has not been trained well")
            top1.update(logits, labels)
            top5.update(logits, labels)
            if accepted is None:
                loss.update(F.cross_entropy(logits, labels), len(labels))
            bar.update(len(labels) * processes.size)
        return Scores(
            top1=100 * top1.compute().item(),
            top5=100 * top5.compute().item(),
            loss=loss.compute().item() if accepted is None else None,
            images=len(images),
        )


def _accuracy(outputs: int, top_k: int, accepted: Tensor | None) -> Metric:
    if accepted is not None:
        return MappedAccuracy(accepted, top_k)
    return MulticlassAccuracy(outputs, top_k, average="micro", validate_args=False)
