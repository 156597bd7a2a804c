"""Train a model to the end, resumably, and never with changed settings."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fairseq_cgc.core import UserError
from fairseq_cgc.support.options import option_of
from fairseq_cgc.vision.data.dataset import Data
from fairseq_cgc.vision.data.loader import batch_sizes, load_batches, training_batches
from fairseq_cgc.vision.data.seeds import derive_seed
from fairseq_cgc.vision.training.checkpoints import (
    BEST,
    LAST,
    RECORD,
    Checkpoint,
    Progress,
    keep_record,
    load_checkpoint,
)
from fairseq_cgc.vision.training.distributed import Processes, progress_bar
from fairseq_cgc.vision.training.evaluation import Scores, evaluate
from fairseq_cgc.vision.training.learner import Learner
from fairseq_cgc.vision.training.run_options import RunOptions
from fairseq_cgc.vision.training.settings import TrainingSettings
from fairseq_cgc.vision.training_log import Log

logger = logging.getLogger(__name__)

_REFRESH = 0.5  # seconds between two looks at the loss, each of which waits for the GPU


class Trainer:
    """One training in one folder.

    Args:
        data: to train and to validate on.
        settings: with the data and the number of processes, all that decides the weights.
        folder: for checkpoints, the log and the record of the settings; it must exist.
        run: options without influence on the weights.
        processes: those that train together; each makes a ``Trainer``.
        weights: a checkpoint to start from.

    Raises:
        UserError: if the folder holds another training, or the settings do not fit the data.
    """

    def __init__(
        self,
        data: Data,
        settings: TrainingSettings,
        folder: Path,
        run: RunOptions,
        processes: Processes,
        weights: Path | None = None,
    ) -> None:
        self.data, self.settings, self.folder = data, settings, folder
        self.run_options, self.processes = run, processes
        self.sizes = batch_sizes(len(data.train), settings, processes.size)
        self.learner = Learner(data.train, settings, len(self.sizes), processes, weights)
        if processes.is_main:
            earlier = {option_of(name): value for name, value in settings.earlier.items()}
            keep_record(folder, self._record(weights), earlier)
        processes.wait()
        self.progress = Progress()
        if (folder / LAST).exists():
            checkpoint = load_checkpoint(folder / LAST, type(settings))
            own = (settings.effective(), data.train.classes)
            if (checkpoint.settings.effective(), checkpoint.classes) != own:
                raise UserError(
                    f"{folder / LAST} is of another training than {RECORD} beside it: give another "
                    "--out, or remove the checkpoint"
                )
            self.learner.load(checkpoint)
            self.progress = checkpoint.progress
        place = torch.tensor([self.progress.epoch, self.progress.update], device=processes.device)
        if not torch.equal(processes.total(place), place * processes.size):
            raise UserError(
                f"--out is {folder}, but must be a folder that all machines of the training share: "
                f"some have another {LAST} there, or none"
            )
        self.broken: list[str] = []  # the samples that this process has replaced
        self.log: Log | None = None
        if processes.is_main:
            self.log = Log(folder, epochs=self.progress.epoch, tensorboard=run.tensorboard)

    def run(self) -> Progress:
        """Train all epochs that are left.

        Raises:
            UserError: if the loss is no longer finite, or a sample cannot be read. The last
                checkpoint is from before.
        """
        settings = self.settings
        if self.processes.is_main:
            self._announce()
        if self.processes.device.type == "cuda":
            torch.backends.cudnn.benchmark = True
        while self.progress.epoch < settings.epochs:
            self._train_epoch()
            self.processes.take_buffers_of_main(self.learner.model)
            scores = evaluate(
                self.learner.model,
                self.data.val,
                self.processes,
                batch_size=max(1, settings.batch_size // self.processes.size),
                workers=self.run_options.workers,
                precision=settings.precision,
                channels_last=settings.channels_last,
            )
            self._finish_epoch(scores)
        replaced = self.processes.total(self.learner.sums.new_tensor(len(self.broken)))
        if replaced and self.processes.is_main:
            logger.warning(
                "replaced %d unreadable %s by the next readable ones", replaced, settings.noun
            )
        if self.log is not None:
            self.log.close()
        return self.progress

    def _announce(self) -> None:
        if self.progress.epoch == self.settings.epochs:
            logger.info("%s: trained before", self.folder)
            return
        for problem in self.settings.warnings():
            logger.warning("%s", problem)
        logger.info(
            "%s, %s parameters; %d training and %d validation %s; %d updates an epoch",
            self.settings.model,
            f"{sum(p.numel() for p in self.learner.model.parameters()):,}",
            *(len(self.data.train), len(self.data.val), self.data.train.noun, len(self.sizes)),
        )
        if self.progress != Progress():
            logger.info(
                "%s: resuming after epoch %d and %d updates of the next",
                *(self.folder, self.progress.epoch, self.progress.update),
            )

    def _record(self, weights: Path | None) -> dict[str, Any]:
        options = {option_of(name): value for name, value in self.settings.effective().items()}
        record = {**options, "processes": self.processes.size, **self.data.record()}
        if weights is not None:
            record["weights (SHA-256)"] = hashlib.sha256(weights.read_bytes()).hexdigest()
        return record

    def _train_epoch(self) -> None:
        progress, data = self.progress, self.data.train
        batches = training_batches(len(data), self.settings, progress.epoch, self.processes)
        loader = load_batches(
            data,
            batches[progress.update :],
            seed=derive_seed(self.settings.seed, "augmentation", progress.epoch),
            workers=self.run_options.workers,
            device=self.processes.device,
            broken=self.broken,
        )
        self.learner.network.train()
        started = looked = time.monotonic()
        earlier = progress.seconds
        bar = progress_bar(
            f"epoch {progress.epoch + 1}/{self.settings.epochs}",
            sum(self.sizes),
            self.processes,
            noun=data.noun,
            done=progress.samples,
        )
        with bar:
            for pixels, labels in loader:
                self.learner.update(pixels, labels, epoch=progress.epoch, update=progress.update)
                size = self.sizes[progress.update]
                progress.samples += size
                progress.update += 1
                now = time.monotonic()
                progress.seconds = earlier + now - started
                if now - looked > _REFRESH:
                    sums = self.learner.sums * self.processes.size / progress.samples
                    loss, correct = sums.tolist()
                    self._check(loss)
                    bar.set_postfix_str(f"loss {loss:.3f}, acc {100 * correct:.1f}%", refresh=False)
                    looked = now
                bar.update(size)
                every = self.run_options.save_updates
                if every and progress.update % every == 0 and progress.update < len(self.sizes):
                    self._save(LAST)

    def _finish_epoch(self, scores: Scores) -> None:
        progress, noun = self.progress, self.data.train.noun
        epoch = progress.epoch + 1
        loss, correct = (self.processes.total(self.learner.sums) / progress.samples).tolist()
        self._check(loss)
        self.learner.sums.zero_()
        speed = round(progress.samples / progress.seconds, 1)
        is_best = progress.best_epoch == 0 or scores.top1 > progress.best_top1
        self.progress = Progress(
            epoch=epoch,
            best_epoch=epoch if is_best else progress.best_epoch,
            best_top1=scores.top1 if is_best else progress.best_top1,
        )
        if self.log is not None:
            logger.info(
                "epoch %d/%d: loss %.4f, train %.2f%%, val %.2f%% (top 5 %.2f%%), %.0f %s/s",
                *(epoch, self.settings.epochs, loss, 100 * correct),
                *(scores.top1, scores.top5, speed, noun),
            )
            self.log.write(
                {
                    "epoch": epoch,
                    "updates": epoch * len(self.sizes),
                    "lr": self.learner.rate,
                    "train_loss": loss,
                    "train_top1": 100 * correct,
                    "val_loss": scores.loss,
                    "val_top1": scores.top1,
                    "val_top5": scores.top5,
                    "seconds": round(progress.seconds, 3),
                    f"{noun}_per_second": speed,
                }
            )
        # LAST comes last: a training killed before it trains the epoch again and writes all again.
        every = self.run_options.keep_epochs
        if every and epoch % every == 0:
            self._save(f"epoch_{epoch:04d}.pt")
        if is_best:
            self._save(BEST)
        self._save(LAST)

    def _save(self, name: str) -> None:
        """Write a checkpoint; all processes must call it."""
        loss, correct = self.processes.total(self.learner.sums).tolist()
        self._check(loss)
        if not self.processes.is_main:
            return
        Checkpoint(
            settings=self.settings,
            classes=self.data.train.classes,
            channels=self.data.train.channels,
            model=self.learner.model.state_dict(),
            optimizer=self.learner.optimizer.state_dict(),
            scaler=self.learner.scaler.state_dict(),
            progress=replace(self.progress, loss=loss, correct=correct),
        ).save(self.folder / name)

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            settings, progress = self.settings, self.progress
            raise UserError(
                f"the loss is {loss} in epoch {progress.epoch + 1}, at update {progress.update} of "
                f"{len(self.sizes)}: try a smaller --lr (now {settings.lr:g}), --warmup-epochs"
                + ("" if settings.precision == "float32" else ", or --precision float32")
                + "; the last checkpoint is unchanged"
            )
