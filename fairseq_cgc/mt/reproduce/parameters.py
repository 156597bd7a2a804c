"""The number of parameters of a model that options of ``fairseq-train`` describe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

import fairseq_cgc.models  # noqa: F401  (registers the architectures)


def count_parameters(data_dir: Path, train_options: Sequence[str]) -> int:
    """Build the model, without training it, and count its parameters once where tied.

    Args:
        data_dir: folder with the dictionaries; nothing else of it is read.
        train_options: options of ``fairseq-train``, languages and architecture among them.
    """
    parser = options.get_training_parser()
    args = options.parse_args_and_arch(parser, input_args=[str(data_dir), *train_options])
    cfg = convert_namespace_to_omegaconf(args)
    with torch.random.fork_rng(devices=[]):
        model = tasks.setup_task(cfg.task).build_model(cfg.model)
    return sum(parameter.numel() for parameter in model.parameters())
