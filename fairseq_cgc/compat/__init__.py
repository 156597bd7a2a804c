"""What makes fairseq 0.12.3.1 run on today's Python, torch, numpy and hydra.

The only room that works around versions. Each entry of :data:`FIXES` names what it mends and
when it is needed; :func:`apply` makes those changes once per process. What cannot be mended
from inside a plugin is listed, with the way around it, in ``docs/repairs.md``.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fairseq_cgc.compat.checkpoints import read_checkpoints_safely, save_checkpoints_whole
from fairseq_cgc.compat.commands import (
    is_fairseq_command,
    make_folder_of_log,
    repair_options,
    repair_user_dir,
    show_user_errors_in_one_line,
    use_utf8_in_commands,
)
from fairseq_cgc.compat.convolution import normalize_whole_dynamic_kernels
from fairseq_cgc.compat.expressions import replace_eval
from fairseq_cgc.compat.imports import (
    import_without_debug_logging,
    restore_log_level,
    restore_numpy_calls,
    silence_missing_layers,
    silence_warnings,
)
from fairseq_cgc.compat.mistakes import check_search
from fairseq_cgc.compat.processes import join_processes
from fairseq_cgc.compat.search import (
    forbid_repeated_ngrams,
    generate_shards,
    keep_diverse_groups_apart,
)
from fairseq_cgc.compat.starting import check_start_of_training
from fairseq_cgc.compat.terminating import save_on_sigterm
from fairseq_cgc.compat.training import (
    keep_early_stopping,
    keep_master_weights,
    keep_the_last_batch,
    repair_trainer,
)
from fairseq_cgc.support.checkpoints import allow_checkpoint_classes, safe_load

__all__ = ["FIXES", "Fix", "apply", "safe_load"]


@dataclass(frozen=True)
class Fix:
    """One repair: what it mends, when it is needed, and how it is made."""

    name: str
    mends: str
    needed: Callable[[], bool]
    make: Callable[[], None]


_applied: dict[str, bool] = {}


def apply() -> dict[str, bool]:
    """Make every repair that this process needs, once.

    Returns:
        The name of each repair and whether it was needed.
    """
    for fix in FIXES:
        if fix.name not in _applied:
            _applied[fix.name] = fix.needed()
            if _applied[fix.name]:
                fix.make()
    return dict(_applied)


def _always() -> bool:
    return True


def _is_command_with_debug_logging() -> bool:
    # hydra sets the level by itself, and on request to this one.
    by_hydra = sys.argv and "hydra" in sys.argv[0]
    return is_fairseq_command() and not by_hydra and logging.getLogger().level == logging.DEBUG


FIXES = (
    Fix(
        "one-line errors",
        "fairseq's commands end in a traceback for mistakes in options",
        is_fairseq_command,
        show_user_errors_in_one_line,
    ),
    Fix(
        "UTF-8",
        "in a locale that is not UTF-8, letters are <unk>, and other files are read wrongly",
        is_fairseq_command,
        use_utf8_in_commands,
    ),
    Fix(
        "logging",
        "importing fairseq turns on debug messages of every library",
        lambda: "fairseq.models" not in sys.modules,
        import_without_debug_logging,
    ),
    Fix(
        "log level",
        "fairseq-preprocess, -generate, -interactive and -validate print debug messages",
        _is_command_with_debug_logging,
        restore_log_level,
    ),
    Fix("warnings", "deprecation warnings at every start", _always, silence_warnings),
    Fix(
        "missing layers",
        "on a GPU, every convolution that is built prints that lightconv_cuda is missing",
        _always,
        silence_missing_layers,
    ),
    Fix(
        "numpy calls",
        "np.int, np.float, np.compat and np.percentile(interpolation=), all gone from numpy: "
        "--num-batch-buckets, span masks and some language models end in a traceback",
        lambda: not hasattr(np, "int"),
        restore_numpy_calls,
    ),
    Fix(
        "safe checkpoints",
        "torch.load refuses fairseq's own checkpoints; a short list of harmless classes is "
        "allowed, everything else stays refused",
        _always,
        allow_checkpoint_classes,
    ),
    Fix(
        "checkpoint errors",
        "flipped bits in a checkpoint go unnoticed; damaged, hostile and foreign ones end in a "
        "traceback",
        _always,
        read_checkpoints_safely,
    ),
    Fix(
        "checkpoint files",
        "a run killed while it saves leaves a broken checkpoint_last.pt, a full disk a traceback",
        _always,
        save_checkpoints_whole,
    ),
    Fix(
        "start of training",
        "a missing --restore-file trains from scratch; a checkpoint needs the embeddings it was "
        "started with; --write-checkpoints-asynchronously leaves unreadable files",
        _always,
        check_start_of_training,
    ),
    Fix(
        "expressions",
        "options are evaluated as Python, those that a checkpoint brings along too",
        _always,
        replace_eval,
    ),
    Fix(
        "last batch",
        "the last batch, of the longest sentences, is dropped from training, validation and "
        "generation where its size is no multiple of --required-batch-size-multiple (8)",
        _always,
        keep_the_last_batch,
    ),
    Fix(
        "dynamic convolution",
        "training a dynamic decoder on fewer positions than its kernel has cuts the kernel before "
        "its softmax; generation does not",
        _always,
        normalize_whole_dynamic_kernels,
    ),
    Fix(
        "options",
        "--bf16 sets --tpu; fairseq-validate has no default --task; the languages are the data's "
        "where they are not named, whatever the model's are",
        _always,
        repair_options,
    ),
    Fix(
        "log file",
        "--log-file in a folder that does not exist yet, as --save-dir of a new training, ends in "
        "a traceback",
        _always,
        make_folder_of_log,
    ),
    Fix(
        "trainer",
        "resuming sees other batches; --cpu --fp16 and --cpu with several processes fail; two "
        "trainings write into one folder",
        _always,
        repair_trainer,
    ),
    Fix(
        "master weights",
        "--bf16 and --fp16 resume from rounded weights, and so end in others",
        _always,
        keep_master_weights,
    ),
    Fix(
        "resuming",
        "a resumed run forgets its count of --patience, and trains on when it had ended; one whose "
        "--max-update is raised counts the validation at the old end",
        _always,
        keep_early_stopping,
    ),
    Fix(
        "termination",
        "SIGTERM, with which schedulers end a training, loses what was trained since the last save",
        _always,
        save_on_sigterm,
    ),
    Fix(
        "processes",
        "torchrun without GPUs trains separate models into one folder; a lost process ends the "
        "others in a traceback",
        _always,
        join_processes,
    ),
    Fix(
        "n-grams",
        "--no-repeat-ngram-size does nothing on a CPU",
        _always,
        forbid_repeated_ngrams,
    ),
    Fix(
        "diverse groups",
        "--diverse-beam-groups counts the overlaps of other sentences, or ends in an IndexError",
        _always,
        keep_diverse_groups_apart,
    ),
    Fix("beams", "--beam 0 and --nbest 0 end in a traceback", _always, check_search),
    Fix("shards", "--num-shards and --shard-id are ignored", _always, generate_shards),
    Fix("user-dir", "two copies of this package are hard to tell", _always, repair_user_dir),
)
