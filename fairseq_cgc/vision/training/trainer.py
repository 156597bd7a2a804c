"""Train a model to its end: resumable, never with other settings."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fairseq_cgc.core import UserError
from fairseq_cgc.support.options import AT_LEAST_0, check_values, option_of, setting
from fairseq_cgc.vision.data.dataset import Samples
from fairseq_cgc.vision.data.loader import batch_sizes, load_batches, training_batches
from fairseq_cgc.vision.data.seeds import derive_seed
from fairseq_cgc.vision.data.sources import Data
from fairseq_cgc.vision.training.checkpoints import (
    BEST,
    LAST,
    Checkpoint,
    Progress,
    load_checkpoint,
)
from fairseq_cgc.vision.training.distributed import Processes, progress_bar
from fairseq_cgc.vision.training.evaluation import Scores, evaluate
from fairseq_cgc.vision.training.learner import Learner
from fairseq_cgc.vision.training.record import keep_record
from fairseq_cgc.vision.training.settings import TrainingSettings
from fairseq_cgc.vision.training_log import Log

logger = logging.getLogger(__name__)

_REFRESH = 0.5  # seconds between two looks at the loss; each waits for the GPU


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What has no influence on the weights."""

    workers: int = setting(4, "processes that read image files, for each GPU", range_=AT_LEAST_0)
    save_updates: int = setting(
        0, "write last.pt every N updates within an epoch too; 0: only after it", range_=AT_LEAST_0
    )
    keep_epochs: int = setting(
        0, "keep a checkpoint of every N-th epoch; 0: of none", range_=AT_LEAST_0
    )
    tensorboard: bool = setting(False, "write curves to OUT/tensorboard")

    def __post_init__(self) -> None:
        check_values(self)


class Trainer:
    """One training in one folder.

    Args:
        data: what to learn and what to measure it on.
        settings: with the data and the number of processes, all that decides the weights.
        folder: for checkpoints, the log and the record of the settings; it must exist.
        run: everything else.
        processes: those that train together; all make a ``Trainer``.
        weights: a checkpoint to start from.

    Raises:
        UserError: if the folder holds another training, or the settings do not fit the data.
    """

    def __init__(
        self,
        data: Data[Samples],
        settings: TrainingSettings,
        folder: Path,
        run: RunOptions,
        processes: Processes,
        weights: Path | None = None,
    ) -> None:
        self.data, self.settings, self.folder = data, settings, folder
        self.run_options, self.processes = run, processes
        self.updates = len(batch_sizes(len(data.train), settings, processes.size))
        self.learner = Learner(data.train, settings, self.updates, processes, weights)
        if processes.is_main:
            earlier = {option_of(name): value for name, value in settings.earlier.items()}
            keep_record(folder, self._record(weights), earlier)
        processes.wait()
        self.progress = Progress()
        if (folder / LAST).exists():
            checkpoint = load_checkpoint(folder / LAST, type(settings))
            self.learner.load(checkpoint)
            self.progress = checkpoint.progress
        self.broken: list[str] = []  # what this process has replaced
        self.log = (
            Log(folder, epochs=self.progress.epoch, tensorboard=run.tensorboard)
            if processes.is_main
            else None
        )

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
                "%d times another of the %s was taken for a broken one", replaced, settings.noun
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
            *(len(self.data.train), len(self.data.val), self.data.train.noun, self.updates),
        )
        if self.progress != Progress():
            logger.info(
                "%s: going on after epoch %d, update %d of the next",
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
        sizes = batch_sizes(len(data), self.settings, self.processes.size)
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
        name = f"epoch {progress.epoch + 1}/{self.settings.epochs}"
        with progress_bar(
            name, sum(sizes), self.processes, noun=data.noun, done=progress.samples
        ) as bar:
            for pixels, labels in loader:
                self.learner.update(pixels, labels, epoch=progress.epoch, update=progress.update)
                progress.samples += sizes[progress.update]
                progress.update += 1
                now = time.monotonic()
                progress.seconds = earlier + now - started
                if now - looked > _REFRESH:
                    sums = self.learner.sums * self.processes.size / progress.samples
                    loss, correct = sums.tolist()
                    self._check(loss)
                    bar.set_postfix_str(f"loss {loss:.3f}, acc {100 * correct:.1f}%", refresh=False)
                    looked = now
                bar.update(sizes[progress.update - 1])
                every = self.run_options.save_updates
                if every and progress.update % every == 0 and progress.update < self.updates:
                    self._save(LAST)

    def _finish_epoch(self, scores: Scores) -> None:
        progress, noun = self.progress, self.data.train.noun
        loss, correct = (self.processes.total(self.learner.sums) / progress.samples).tolist()
        self._check(loss)
        self.learner.sums.zero_()
        speed = round(progress.samples / progress.seconds, 1)
        line = {
            "epoch": progress.epoch + 1,
            "updates": (progress.epoch + 1) * self.updates,
            "lr": self.learner.rate,
            "train_loss": loss,
            "train_top1": 100 * correct,
            "val_loss": scores.loss,
            "val_top1": scores.top1,
            "val_top5": scores.top5,
            "seconds": round(progress.seconds, 3),
            f"{noun}_per_second": speed,
        }
        best = progress.best_epoch == 0 or scores.top1 > progress.best_top1
        self.progress = Progress(
            epoch=progress.epoch + 1,
            best_epoch=progress.epoch + 1 if best else progress.best_epoch,
            best_top1=scores.top1 if best else progress.best_top1,
        )
        if self.log is not None:
            logger.info(
                "epoch %d/%d: loss %.4f, train %.2f%%, val %.2f%% (top 5 %.2f%%), %.0f %s/s",
                *(self.progress.epoch, self.settings.epochs, loss, 100 * correct),
                *(scores.top1, scores.top5, speed, noun),
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
        loss, correct = self.processes.total(self.learner.sums).tolist()
        self._check(loss)
        if not self.processes.is_main:
            return
        state = asdict(self.progress) | {"loss": loss, "correct": correct}
        Checkpoint(
            settings=self.settings,
            classes=self.data.train.classes,
            channels=self.data.train.channels,
            model=self.learner.model.state_dict(),
            optimizer=self.learner.optimizer.state_dict(),
            scaler=self.learner.scaler.state_dict(),
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
