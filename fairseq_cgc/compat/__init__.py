"""What makes fairseq 0.12.3.1 run on today's Python, torch, numpy and hydra.

This is the only room that works around versions. :data:`FIXES` lists the repairs; :func:`apply`
makes those that are needed, once per process. What cannot be mended from inside a plugin is
listed, with the way around it, in ``docs/repairs.md``.
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
    """One repair: the function that makes it, and when it is needed."""

    name: str
    make: Callable[[], None]
    needed: Callable[[], bool] = _always

    @property
    def description(self) -> str:
        """The first paragraph of the function's docstring, in one line."""
        return " ".join((self.make.__doc__ or "").split("\n\n")[0].split())


#: In the order in which they are made. A new repair is one row here and its function, whose
#: docstring says in its first paragraph, for ``fairseq-cgc info``, what it does and why.
FIXES = (
    Fix("one-line errors", commands.show_user_errors_in_one_line, commands.is_fairseq_command),
    Fix("UTF-8", commands.use_utf8_in_commands, commands.is_fairseq_command),
    Fix(
        "logging",
        imports.import_without_debug_logging,
        lambda: "fairseq.models" not in sys.modules,
    ),
    Fix("log level", imports.restore_log_level, _is_command_with_debug_logging),
    Fix("warnings", imports.silence_warnings),
    Fix("missing layers", imports.silence_missing_layers),
    Fix("numpy calls", imports.restore_numpy_calls, lambda: not hasattr(np, "int")),
    Fix("safe checkpoints", allow_checkpoint_classes),
    Fix("checkpoint errors", checkpoints.read_checkpoints_safely),
    Fix("checkpoint files", checkpoints.save_checkpoints_whole),
    Fix("start of training", starting.check_start_of_training),
    Fix("expressions", expressions.replace_eval),
    Fix("last batch", training.keep_the_last_batch),
    Fix("dynamic convolution", convolution.normalize_whole_dynamic_kernels),
    Fix("options", commands.repair_options),
    Fix("log file", commands.make_folder_of_log),
    Fix("trainer", training.repair_trainer),
    Fix("attention", training.use_attention_without_plans),
    Fix("master weights", resuming.keep_master_weights),
    Fix("resuming", resuming.keep_early_stopping),
    Fix("plateaus", resuming.count_plateaus),
    Fix("termination", terminating.save_on_sigterm),
    Fix("processes", processes.join_processes),
    Fix("n-grams", search.forbid_repeated_ngrams),
    Fix("diverse groups", search.keep_diverse_groups_apart),
    Fix("beams", search.check_search),
    Fix("shards", search.generate_shards),
    Fix("user-dir", commands.refuse_second_copy),
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
