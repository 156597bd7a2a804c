"""The learning rate as a function of the number of updates made."""

from __future__ import annotations

import math

from fairseq_cgc.vision.training.training_settings import TrainingSettings


def learning_rate(settings: TrainingSettings, update: int, updates_per_epoch: int) -> float:
    """The rate of one update.

    Warm-up rises linearly by update and reaches ``lr`` with its last one. Cosine falls by
    update, over those after the warm-up, as in He et al. (CVPR 2019), section 3.1 and 5.1; step
    falls where an epoch begins, counted with those of the warm-up.

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
