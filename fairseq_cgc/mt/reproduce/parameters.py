"""The number of parameters of a system, by building it as ``fairseq-train`` would."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import fairseq_cgc.models  # noqa: F401  (repairs fairseq, and registers the architectures)

# isort: split
import torch
from fairseq import options as fairseq_options
from fairseq import tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from fairseq_cgc.support.errors import UserError


def count_parameters(data_dir: Path, train_options: Sequence[str]) -> int:
    """Build a model, without training it, and count its parameters; tied ones count once.

    Args:
        data_dir: folder with the dictionaries; nothing else of it is read.
        train_options: options of ``fairseq-train``, languages and architecture among them.

    Raises:
        UserError: if fairseq does not know an option, or refuses its value.
    """
    parser = fairseq_options.get_training_parser()
    parser.error = _refuse
    words = [str(data_dir), *train_options]
    cfg = convert_namespace_to_omegaconf(
        fairseq_options.parse_args_and_arch(parser, input_args=words)
    )
    with torch.random.fork_rng(devices=[]):
        model = tasks.setup_task(cfg.task).build_model(cfg.model)
    return sum(parameter.numel() for parameter in model.parameters())


def _refuse(message: str) -> NoReturn:
    raise UserError(f"--train-options: {message}")
