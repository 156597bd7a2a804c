"""Model, optimiser, learning rate and one training update."""

from __future__ import annotations

import contextlib
import math
import random
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.dataset import Dataset
from fairseq_cgc.vision.data.loader import Normalize
from fairseq_cgc.vision.data.seeds import derive_seed, generator
from fairseq_cgc.vision.data.transforms import mixup
from fairseq_cgc.vision.training.checkpoints import Checkpoint
from fairseq_cgc.vision.training.distributed import Processes
from fairseq_cgc.vision.training.evaluation import autocast
from fairseq_cgc.vision.training.settings import TrainingSettings


def learning_rate(settings: TrainingSettings, update: int, updates_per_epoch: int) -> float:
    """The learning rate of one update.

    The warm-up rises linearly and reaches ``lr`` with its last update. Cosine falls with every
    update after the warm-up, as in He et al. (CVPR 2019), sections 3.1 and 5.1. Step falls at the
    beginning of epochs, those of the warm-up included in the count.

    Args:
        settings: of the training.
        update: counted from 0 over the whole training.
        updates_per_epoch: at least 1.
    """
    warmup = settings.warmup_epochs * updates_per_epoch
    if update < warmup:
        return settings.lr * (update + 1) / warmup
    if settings.schedule == "cosine":
        total = settings.epochs * updates_per_epoch - warmup
        return settings.lr / 2 * (1 + math.cos(math.pi * (update - warmup) / total))
    epoch = update // updates_per_epoch
    return settings.lr * settings.decay ** sum(m <= epoch for m in settings.milestones)


class Learner:
    """A model and its optimiser.

    Args:
        dataset: of the training.
        settings: with the data, all that decides the weights.
        updates: in an epoch.
        processes: those that train together; each makes a ``Learner``.
        weights: a checkpoint to start from.

    Attributes:
        model: on its device.
        rate: the learning rate of the last update.
        sums: this process's sums of losses and of hits since they were last set to zero.

    Raises:
        UserError: if the settings do not fit the data, the processes or the weights.
    """

    def __init__(
        self,
        dataset: Dataset,
        settings: TrainingSettings,
        updates: int,
        processes: Processes,
        weights: Path | None = None,
    ) -> None:
        self.settings, self.updates, self.processes = settings, updates, processes
        self.classes = len(dataset.classes)
        device = processes.device
        if settings.sync_batch_norm and (processes.size == 1 or device.type != "cuda"):
            raise UserError("--sync-batch-norm needs several processes with a GPU each (torchrun)")
        torch.manual_seed(derive_seed(settings.seed, "initial values"))
        model = settings.create_model(self.classes, dataset.channels, weights=weights)
        if settings.sync_batch_norm:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        if settings.channels_last:
            model = nn.utils.convert_conv2d_weight_memory_format(model, torch.channels_last)
        self.model = model.to(device)
        self.optimizer = torch.optim.SGD(
            settings.parameter_groups(self.model),
            settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "float16")
        self.network: nn.Module = self.model
        if processes.size > 1:
            gpu = [device.index] if device.type == "cuda" else None
            self.network = DistributedDataParallel(self.model, device_ids=gpu)
        self.normalize = Normalize(dataset, device, channels_last=settings.channels_last)
        self.rate = 0.0
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)

    def load(self, checkpoint: Checkpoint) -> None:
        """Resume from a checkpoint."""
        self.model.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.scaler.load_state_dict(checkpoint.scaler)
        if self.processes.is_main:  # the saved sums are over all processes
            progress = checkpoint.progress
            self.sums += self.sums.new_tensor([progress.loss, progress.correct])

    def update(self, pixels: Tensor, labels: Tensor, *, epoch: int, update: int) -> None:
        """One step of the optimiser on this process's part of a batch.

        Args:
            pixels, labels: as in :class:`Batch`, on the device.
            epoch, update: both counted from 0, the update within its epoch.
        """
        settings, processes = self.settings, self.processes
        place = (epoch, update, processes.rank)
        # Dropout and other layers that draw draw the same in a resumed training.
        torch.manual_seed(derive_seed(settings.seed, "layers", *place))
        self.rate = learning_rate(settings, epoch * self.updates + update, self.updates)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group.get("lr_factor", 1.0)
        inputs, targets = self.normalize(pixels), labels
        if settings.mixup:
            draw = random.Random(derive_seed(settings.seed, "mixup", *place))
            order = torch.randperm(len(labels), generator=generator(settings.seed, "pair", *place))
            inputs, targets = mixup(
                inputs,
                labels,
                self.classes,
                share=draw.betavariate(settings.mixup, settings.mixup),
                partners=order.to(labels.device, non_blocking=True),
            )
        self.optimizer.zero_grad()
        parts = settings.accumulate
        chunks = zip(inputs.chunk(parts), targets.chunk(parts), strict=True)
        for number, (part, target) in enumerate(chunks, start=1):
            with self._exchange_gradients(number == parts):
                logits = self._logits(part).float()
                loss = F.cross_entropy(logits, target, label_smoothing=settings.label_smoothing)
                self.scaler.scale(loss / parts).backward()
            with torch.no_grad():
                self.sums[0] += loss.double() * len(part)
                self.sums[1] += _hits(logits, target)
        if settings.gradient_limit < math.inf:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), settings.gradient_limit)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _logits(self, part: Tensor) -> Tensor:
        try:
            with autocast(self.processes.device, self.settings.precision):
                return self.network(part)
        except ValueError as error:
            if len(part) > 1 or "more than 1 value per channel" not in str(error):
                raise
            least = 2 * self.settings.accumulate * self.processes.size
            raise UserError(
                f"--batch-size is {self.settings.batch_size}, but must be at least {least} with "
                f"{self.settings.model}, whose normalisations need two samples at a time"
            ) from None

    def _exchange_gradients(self, is_last: bool) -> contextlib.AbstractContextManager[None]:
        """Processes exchange gradients once an update, with its last part."""
        if is_last or not isinstance(self.network, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.network.no_sync()


def _hits(logits: Tensor, target: Tensor) -> Tensor:
    """How many predictions are right; with mixup, the sum of their shares in the targets."""
    highest = logits.argmax(1, keepdim=True)
    if target.dim() == 1:
        return (highest.squeeze(1) == target).sum()
    return target.gather(1, highest).sum()
