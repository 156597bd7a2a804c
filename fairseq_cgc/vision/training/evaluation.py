"""Accuracy of a model on a data set."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


def hits(logits: Tensor, labels: Tensor, top_k: int, accepted: Tensor | None = None) -> Tensor:
    """Whether a right output is among the ``top_k`` highest ones of each sample: B, bool.

    Args:
        logits: B x outputs.
        labels: B.
        top_k: how many outputs count; all if there are fewer.
        accepted: bool, labels x outputs: the right outputs, if a label is not an output's number.
    """
    highest = logits.topk(min(top_k, logits.shape[1])).indices
    if accepted is None:
        return (highest == labels[:, None]).any(1)
    return accepted[labels].gather(1, highest).any(1)


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
        model: on ``processes.device``; it is left in evaluation mode and in that memory layout.
        dataset: to evaluate on. Samples that it skips are logged and not counted.
        processes: which share the samples.
        batch_size: views at a time in each process.
        workers: processes that read files.
        precision, channels_last: as in :class:`TrainingSettings`.
        accepted: as for :func:`hits`; with it, ``loss`` is ``None``.
        average: what is averaged over views, one of ``AVERAGES``.

    Raises:
        UserError: for a sample that cannot be read, or outputs that are not finite.
    """
    device = processes.device
    model.eval()
    if channels_last:
        nn.utils.convert_conv2d_weight_memory_format(model, torch.channels_last)
    # Of samples: hits among one and five outputs, losses, and their number.
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    accepted = None if accepted is None else accepted.to(device)
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
            sums[0] += hits(logits, labels, 1, accepted).sum()
            sums[1] += hits(logits, labels, 5, accepted).sum()
            if accepted is None:
                sums[2] += F.cross_entropy(logits, labels, reduction="sum")
            sums[3] += len(labels)
            bar.update(len(labels) * processes.size)
    left_out = int(processes.total(torch.tensor(len(broken), device=device)))
    if left_out == len(dataset):
        raise UserError(f"none of the {left_out} {dataset.noun} can be read")
    if left_out and processes.is_main:
        logger.warning("%d of %d %s left out: broken", left_out, len(dataset), dataset.noun)
    sums = processes.total(sums)
    # In float32, as earlier checkpoints have them: the best of a resumed training stays the best.
    top1, top5 = (100 * share for share in (sums[:2].float() / sums[3].float()).tolist())
    loss = None if accepted is not None else (sums[2] / sums[3]).item()
    return Scores(top1, top5, loss, samples=len(dataset) - left_out)


def _average_views(logits: Tensor, average: str) -> Tensor:
    """B x views x outputs to B x outputs."""
    if average == "softmax":  # the logarithm of the mean probability, but for a constant
        return logits.log_softmax(2).logsumexp(1)
    return logits.mean(1)
