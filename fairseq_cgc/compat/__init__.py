"""What makes fairseq 0.12.3.1 run on today's Python, torch, numpy and hydra.

This is the only room that works around versions. Each entry of :data:`FIXES` says what it mends;
:func:`apply` makes those that are needed, once per process. What cannot be mended from inside a
plugin is listed, with the way around it, in ``docs/repairs.md``.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fairseq_cgc.compat import (
    checkpoints,
    commands,
    convolution,
    expressions,
    imports,
    processes,
    resuming,
    search,
    starting,
    terminating,
    training,
)
from fairseq_cgc.support.checkpoints import allow_checkpoint_classes, safe_load

__all__ = ["FIXES", "Fix", "apply", "safe_load"]


def _always() -> bool:
    return True


def _is_command_with_debug_logging() -> bool:
    # hydra sets the level itself, to this one if the user asks for it.
    by_hydra = sys.argv and "hydra" in sys.argv[0]
    return (
        commands.is_fairseq_command()
        and not by_hydra
        and logging.getLogger().level == logging.DEBUG
    )


@dataclass(frozen=True)
class Fix:
    """One repair: what is wrong in fairseq without it, how it is made, and when it is needed."""

    name: str
    mends: str
    make: Callable[[], None]
    needed: Callable[[], bool] = _always


#: In the order in which they are made. A new repair is one row here and its function.
FIXES = (
    Fix(
        "one-line errors",
        "user mistakes end fairseq's commands in a traceback",
        commands.show_user_errors_in_one_line,
        needed=commands.is_fairseq_command,
    ),
    Fix(
        "UTF-8",
        "in a locale that is not UTF-8, letters become <unk> and files are misread",
        commands.use_utf8_in_commands,
        needed=commands.is_fairseq_command,
    ),
    Fix(
        "logging",
        "importing fairseq turns on the debug messages of every library",
        imports.import_without_debug_logging,
        needed=lambda: "fairseq.models" not in sys.modules,
    ),
    Fix(
        "log level",
        "fairseq-preprocess, -generate, -interactive and -validate print debug messages",
        imports.restore_log_level,
        needed=_is_command_with_debug_logging,
    ),
    Fix("warnings", "every start prints deprecation warnings", imports.silence_warnings),
    Fix(
        "missing layers",
        "on a GPU, every new convolution prints that lightconv_cuda is missing",
        imports.silence_missing_layers,
    ),
    Fix(
        "numpy calls",
        "np.int, np.float, np.compat and np.percentile(interpolation=) are gone from numpy: "
        "--num-batch-buckets, span masks and some language models end in a traceback",
        imports.restore_numpy_calls,
        needed=lambda: not hasattr(np, "int"),
    ),
    Fix(
        "safe checkpoints",
        "torch.load refuses fairseq's own checkpoints; a short list of harmless classes is "
        "allowed, and everything else stays refused",
        allow_checkpoint_classes,
    ),
    Fix(
        "checkpoint errors",
        "flipped bits in a checkpoint go unnoticed; damaged, hostile and foreign files end in a "
        "traceback",
        checkpoints.read_checkpoints_safely,
    ),
    Fix(
        "checkpoint files",
        "a run that is killed while it saves leaves a broken checkpoint_last.pt, and a full disk "
        "ends it in a traceback",
        checkpoints.save_checkpoints_whole,
    ),
    Fix(
        "start of training",
        "a missing --restore-file trains from scratch; a checkpoint needs the embeddings that its "
        "training started with; --write-checkpoints-asynchronously leaves unreadable files; "
        "options that do not fit each other end in a traceback",
        starting.check_start_of_training,
    ),
    Fix(
        "expressions",
        "options are evaluated as Python, including those in a checkpoint",
        expressions.replace_eval,
    ),
    Fix(
        "last batch",
        "the last batch, which has the longest sentences, is dropped from training, validation "
        "and generation where its size is not a multiple of --required-batch-size-multiple (8)",
        training.keep_the_last_batch,
    ),
    Fix(
        "dynamic convolution",
        "training a dynamic decoder on fewer positions than its kernel has cuts the kernel before "
        "its softmax; generation does not",
        convolution.normalize_whole_dynamic_kernels,
    ),
    Fix(
        "options",
        "--bf16 sets --tpu; fairseq-validate has no default --task; languages that are not named "
        "are taken from the data, whatever the model's are",
        commands.repair_options,
    ),
    Fix(
        "log file",
        "--log-file in a folder that does not exist yet, such as --save-dir, ends in a traceback",
        commands.make_folder_of_log,
    ),
    Fix(
        "trainer",
        "a resumed run sees other batches; --cpu --fp16 and --cpu with several processes fail; "
        "two trainings can write into one folder",
        training.repair_trainer,
    ),
    Fix(
        "master weights",
        "--bf16 and --fp16 resume from rounded weights, and so end in other weights",
        resuming.keep_master_weights,
    ),
    Fix(
        "resuming",
        "a resumed run forgets its count of --patience, and trains on when it had ended; one whose "
        "--max-update is raised counts the validation at the old end",
        resuming.keep_early_stopping,
    ),
    Fix(
        "termination",
        "SIGTERM, with which schedulers end a training, loses what was trained since the last save",
        terminating.save_on_sigterm,
    ),
    Fix(
        "processes",
        "torchrun without GPUs trains separate models into one folder; a lost process ends the "
        "others in a traceback",
        processes.join_processes,
    ),
    Fix("n-grams", "--no-repeat-ngram-size does nothing on a CPU", search.forbid_repeated_ngrams),
    Fix(
        "diverse groups",
        "--diverse-beam-groups counts the overlaps of other sentences, or ends in an IndexError",
        search.keep_diverse_groups_apart,
    ),
    Fix("beams", "--beam 0 and --nbest 0 end in a traceback", search.check_search),
    Fix("shards", "--num-shards and --shard-id are ignored", search.generate_shards),
    Fix(
        "user-dir",
        "a --user-dir that is another copy of the imported package is hard to recognise",
        commands.refuse_second_copy,
    ),
)

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
