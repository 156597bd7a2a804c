"""Train an image model to its end: resumable, never with other settings."""

from __future__ import annotations

import contextlib
import logging
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.registry import create_model
from fairseq_cgc.vision.training.augment import mixup
from fairseq_cgc.vision.training.batches import (
    Standardise,
    batch_sizes,
    load_batches,
    training_batches,
)
from fairseq_cgc.vision.training.checkpoints import (
    BEST,
    LAST,
    Checkpoint,
    Progress,
    load_checkpoint,
)
from fairseq_cgc.vision.training.data import Data
from fairseq_cgc.vision.training.evaluation import Scores, autocast, evaluate
from fairseq_cgc.vision.training.log import Log
from fairseq_cgc.vision.training.processes import Processes, progress_bar
from fairseq_cgc.vision.training.record import keep_record
from fairseq_cgc.vision.training.schedule import learning_rate
from fairseq_cgc.vision.training.seeds import derive_seed, generator
from fairseq_cgc.vision.training.settings import Settings

logger = logging.getLogger(__name__)

_REFRESH = 0.5  # seconds between two looks at the loss; each waits for the GPU


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What has no influence on the weights.

    Attributes:
        workers: processes that read image files, in each process of the training.
        save_updates: updates between two checkpoints within an epoch; 0: none.
        keep_epochs: keep the checkpoint of every so many epochs; 0: of none.
        tensorboard: write curves for TensorBoard.
    """

    workers: int = 4
    save_updates: int = 0
    keep_epochs: int = 0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 0:
                option = name.replace("_", "-")
                raise UserError(f"--{option} is {value}, but must be at least 0")


class Trainer:
    """One training in one folder.

    Args:
        data: what to learn and what to measure it on.
        settings: with the data and the number of processes, all that decides the weights.
        folder: for checkpoints, the log and the record of the settings; it must exist.
        run: everything else.
        processes: those that train together; all make a ``Trainer``.

    Raises:
        UserError: if the folder holds another training, or the settings do not fit the data.
    """

    def __init__(
        self, data: Data, settings: Settings, folder: Path, run: RunOptions, processes: Processes
    ) -> None:
        self.data, self.settings, self.folder = data, settings, folder
        self.run_options, self.processes = run, processes
        self.updates = len(batch_sizes(len(data.train), settings, processes.size))
        device = processes.device
        if settings.sync_batch_norm and (processes.size == 1 or device.type != "cuda"):
            raise UserError("--sync-batch-norm needs several processes with a GPU each (torchrun)")
        torch.manual_seed(derive_seed(settings.seed, "initial values"))
        model: nn.Module = create_model(
            settings.model,
            len(data.train.classes),
            in_channels=data.train.channels,
            cgc=settings.cgc or None,
        )
        if processes.is_main:
            keep_record(folder, self._record())
        processes.wait()
        if settings.sync_batch_norm:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        if settings.channels_last:
            model = nn.utils.convert_conv2d_weight_memory_format(model, torch.channels_last)
        self.model = model.to(device)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "float16")
        self.progress = Progress()
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)  # loss, correct
        self._resume()
        self.network: nn.Module = self.model
        if processes.size > 1:
            gpu = [device.index] if device.type == "cuda" else None
            self.network = DistributedDataParallel(self.model, device_ids=gpu)
        self.standardise = Standardise(data.train, device, channels_last=settings.channels_last)
        self.log = (
            Log(folder, epochs=self.progress.epoch, tensorboard=run.tensorboard)
            if processes.is_main
            else None
        )

    def run(self) -> Progress:
        """Train all epochs that are left.

        Raises:
            UserError: if the loss is no longer finite, or an image cannot be read. The last
                checkpoint is from before.
        """
        settings = self.settings
        if self.processes.is_main:
            self._announce()
        if self.processes.device.type == "cuda":
            torch.backends.cudnn.benchmark = True
        while self.progress.epoch < settings.epochs:
            self._train_epoch()
            self.processes.take_buffers_of_main(self.model)
            scores = evaluate(
                self.model,
                self.data.val,
                self.processes,
                batch_size=max(1, settings.batch_size // self.processes.size),
                workers=self.run_options.workers,
                precision=settings.precision,
                channels_last=settings.channels_last,
            )
            self._finish_epoch(scores)
        if self.log is not None:
            self.log.close()
        return self.progress

    def _announce(self) -> None:
        if self.progress.epoch == self.settings.epochs:
            logger.info("%s: trained before", self.folder)
            return
        logger.info(
            "%s, %s parameters; %d training and %d validation images; %d updates an epoch",
            self.settings.model,
            f"{sum(p.numel() for p in self.model.parameters()):,}",
            *(len(self.data.train), len(self.data.val), self.updates),
        )
        if self.progress != Progress():
            logger.info(
                "%s: going on after epoch %d, update %d of the next",
                *(self.folder, self.progress.epoch, self.progress.update),
            )

    def _record(self) -> dict[str, Any]:
        values = self.settings.as_dict()
        options = {f"--{name.replace('_', '-')}": value for name, value in values.items()}
        return {**options, "processes": self.processes.size, **self.data.record()}

    def _resume(self) -> None:
        path = self.folder / LAST
        if not path.exists():
            return
        checkpoint = load_checkpoint(path)
        self.model.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.scaler.load_state_dict(checkpoint.scaler)
        self.progress = progress = checkpoint.progress
        if self.processes.is_main:  # the sums are of all processes together
            self.sums += self.sums.new_tensor([progress.loss, progress.correct])

    def _train_epoch(self) -> None:
        progress, data = self.progress, self.data.train
        sizes = batch_sizes(len(data), self.settings, self.processes.size)
        batches = training_batches(len(data), self.settings, progress.epoch, self.processes)
        loader = load_batches(
            data,
            batches[progress.update :],
            seed=derive_seed(self.settings.seed, "augmentation", progress.epoch),
            workers=self.run_options.workers,
            device=self.processes.device,
        )
        self.network.train()
        started = looked = time.monotonic()
        earlier = progress.seconds
        name = f"epoch {progress.epoch + 1}/{self.settings.epochs}"
        with progress_bar(name, sum(sizes), self.processes, done=progress.images) as bar:
            for images, labels in loader:
                self._update(images, labels)
                progress.images += sizes[progress.update]
                progress.update += 1
                now = time.monotonic()
                progress.seconds = earlier + now - started
                if now - looked > _REFRESH:
                    loss, correct = (self.sums * self.processes.size / progress.images).tolist()
                    self._check(loss)
                    bar.set_postfix_str(f"loss {loss:.3f}, acc {100 * correct:.1f}%", refresh=False)
                    looked = now
                bar.update(sizes[progress.update - 1])
                every = self.run_options.save_updates
                if every and progress.update % every == 0 and progress.update < self.updates:
                    self._save(LAST)

    def _update(self, images: Tensor, labels: Tensor) -> None:
        """One step of the optimiser on this process's part of a batch."""
        settings, progress, processes = self.settings, self.progress, self.processes
        place = (progress.epoch, progress.update, processes.rank)
        # For layers that draw, dropout for example: resumed, they draw the same.
        torch.manual_seed(derive_seed(settings.seed, "layers", *place))
        update = progress.epoch * self.updates + progress.update
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, update, self.updates)
        inputs, targets = self.standardise(images), labels
        if settings.mixup:
            draw = random.Random(derive_seed(settings.seed, "mixup", *place))
            order = torch.randperm(len(labels), generator=generator(settings.seed, "pair", *place))
            inputs, targets = mixup(
                inputs,
                labels,
                len(self.data.train.classes),
                share=draw.betavariate(settings.mixup, settings.mixup),
                partners=order.to(labels.device),
            )
        self.optimizer.zero_grad()
        parts = settings.accumulate
        chunks = zip(inputs.chunk(parts), targets.chunk(parts), strict=True)
        for number, (part, target) in enumerate(chunks, start=1):
            with self._gradients_synchronised(number == parts):
                with autocast(processes.device, settings.precision):
                    logits = self.network(part)
                logits = logits.float()
                loss = F.cross_entropy(logits, target, label_smoothing=settings.label_smoothing)
                self.scaler.scale(loss / parts).backward()
            with torch.no_grad():
                self.sums[0] += loss.double() * len(part)
                self.sums[1] += _hits(logits, target)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _gradients_synchronised(self, yes: bool) -> contextlib.AbstractContextManager[None]:
        """Processes exchange gradients once an update, whatever the number of parts."""
        if yes or not isinstance(self.network, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.network.no_sync()

    def _finish_epoch(self, scores: Scores) -> None:
        progress = self.progress
        loss, correct = (self.processes.total(self.sums) / progress.images).tolist()
        self._check(loss)
        self.sums.zero_()
        line = {
            "epoch": progress.epoch + 1,
            "updates": (progress.epoch + 1) * self.updates,
            "lr": self.optimizer.param_groups[0]["lr"],
            "train_loss": loss,
            "train_top1": 100 * correct,
            "val_loss": scores.loss,
            "val_top1": scores.top1,
            "val_top5": scores.top5,
            "seconds": round(progress.seconds, 3),
            "images_per_second": round(progress.images / progress.seconds, 1),
        }
        best = progress.best_epoch == 0 or scores.top1 > progress.best_top1
        self.progress = Progress(
            epoch=progress.epoch + 1,
            best_epoch=progress.epoch + 1 if best else progress.best_epoch,
            best_top1=scores.top1 if best else progress.best_top1,
        )
        if self.log is not None:
            logger.info(
                "epoch %d/%d: loss %.4f, train %.2f%%, val %.2f%% (top 5 %.2f%%), %.0f images/s",
                *(self.progress.epoch, self.settings.epochs, loss, 100 * correct),
                *(scores.top1, scores.top5, line["images_per_second"]),
            )
            self.log.write(line)
        # LAST comes last: killed before it, the epoch is trained again, and all are written again.
        every = self.run_options.keep_epochs
        if every and self.progress.epoch % every == 0:
            self._save(f"epoch_{self.progress.epoch:04d}.pt")
        if best:
            self._save(BEST)
        self._save(LAST)

    def _save(self, name: str) -> None:
        """All processes must call it."""
        loss, correct = self.processes.total(self.sums).tolist()
        self._check(loss)
        if not self.processes.is_main:
            return
        state = asdict(self.progress) | {"loss": loss, "correct": correct}
        Checkpoint(
            settings=self.settings,
            classes=self.data.train.classes,
            channels=self.data.train.channels,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
            progress=Progress(**state),
        ).save(self.folder / name)

    def _check(self, loss: float) -> None:
        if not torch.tensor(loss).isfinite():
            settings, progress = self.settings, self.progress
            raise UserError(
                f"the loss is {loss} in epoch {progress.epoch + 1}, at update {progress.update} of "
                f"{self.updates}: try a smaller --lr (now {settings.lr:g}), --warmup-epochs"
                + ("" if settings.precision == "float32" else ", or --precision float32")
                + "; the training that is there stays as it was"
            )


def _hits(logits: Tensor, target: Tensor) -> Tensor:
    """Sum of the shares that the highest outputs have in the targets: 0 or 1 without mixup."""
    highest = logits.argmax(1, keepdim=True)
    if target.dim() == 1:
        return (highest.squeeze(1) == target).sum()
    return target.gather(1, highest).sum()
