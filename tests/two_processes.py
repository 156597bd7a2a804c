"""Run by torchrun: train in two processes, interrupted and not, for test_train_image.py."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tiny_images import linear, tiny_data, tiny_settings

from fairseq_cgc.vision.training import settings as settings_module
from fairseq_cgc.vision.training.distributed import join_processes
from fairseq_cgc.vision.training.learner import Learner
from fairseq_cgc.vision.training.run_options import RunOptions
from fairseq_cgc.vision.training.trainer import Trainer


def main() -> None:
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    with join_processes("cpu") as processes:

        def trainer(name: str, save_updates: int = 0, **changes: object) -> Trainer:
            (out / name).mkdir(exist_ok=True)
            options = RunOptions(workers=0, save_updates=save_updates)
            return Trainer(tiny_data(), tiny_settings(**changes), out / name, options, processes)

        trainer("whole", model="resnet8_cifar_cgc").run()
        update, made = Learner.update, 0

        def fail(self: Learner, *arguments: torch.Tensor, **place: int) -> None:
            nonlocal made
            made += 1
            if made == 7:
                raise InterruptedError
            update(self, *arguments, **place)

        Learner.update = fail
        try:
            trainer("part", save_updates=2, model="resnet8_cifar_cgc").run()
        except InterruptedError:
            Learner.update = update
        trainer("part", model="resnet8_cifar_cgc").run()
        settings_module.create_model = linear
        trainer("linear", accumulate=2).run()


main()
