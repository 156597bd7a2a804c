"""What a training starts from: it must exist, and the checkpoints do without it."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

from fairseq_cgc.compat.mistakes import check_training
from fairseq_cgc.support.errors import UserError

_RESTORE_FILE = "checkpoint_last.pt"  # fairseq's default of --restore-file

#: Options of models that name a file of initial weights. A checkpoint holds what became of them.
_INITIAL_WEIGHTS = (
    "encoder_embed_path",
    "decoder_embed_path",
    "init_from_lightconv",
    "load_pretrained_encoder_from",
    "load_pretrained_decoder_from",
)


def check_start_of_training() -> None:
    """Check a training's options before anything is built, with fairseq-hydra-train too."""
    from fairseq.dataclass import initialize

    # The one function that fairseq_cli.train calls between importing --user-dir and its work.
    add_defaults = initialize.add_defaults

    @functools.wraps(add_defaults)
    def add_defaults_and_check(cfg: Any) -> None:
        add_defaults(cfg)
        _check_start(cfg)
        check_training(cfg)

    for name, module in list(sys.modules.items()):
        names = vars(module) if name.startswith(("fairseq", "__main__", "__mp_main__")) else {}
        if names.get("add_defaults") is add_defaults:
            names["add_defaults"] = add_defaults_and_check


def _check_start(cfg: Any) -> None:
    """See that all files exist which this training is to start from.

    A training that goes on from its own last checkpoint needs none of them.

    Raises:
        UserError: if one is missing, or checkpoints are to be written asynchronously.
    """
    options = cfg.checkpoint
    if options.write_checkpoints_asynchronously:
        raise UserError(
            "--write-checkpoints-asynchronously is not supported: a run that is killed would leave "
            "unreadable checkpoints; leave it out"
        )
    suffix, training = options.checkpoint_suffix, cfg.distributed_training
    if training.ddp_backend == "fully_sharded" and training.use_sharded_state:
        suffix += f"-shard{training.distributed_rank}"
    is_default = options.restore_file == _RESTORE_FILE
    if is_default and Path(options.save_dir, f"checkpoint_last{suffix}.pt").is_file():
        forget_initial_weights(cfg.model)
        return
    if not is_default:
        _check_file("restore_file", options.restore_file.replace(".pt", f"{suffix}.pt"))
    for name in ("continue_once", "finetune_from_model"):
        _check_file(name, options[name])
    for name in _INITIAL_WEIGHTS:
        _check_file(name, getattr(cfg.model, name, None))


def _check_file(name: str, path: str | None) -> None:
    if path and (not Path(path).exists() or Path(path).is_dir()):
        option = "--" + name.replace("_", "-")
        folder = "" if Path(path).is_absolute() else f" in {Path.cwd()}"
        raise UserError(f"{option} is {path}, but there is no such file{folder}")


def forget_initial_weights(model: Any) -> None:
    """Let a model be built without the files that its options name.

    Args:
        model: options of a model, a namespace or omegaconf's; changed in place.
    """
    for name in _INITIAL_WEIGHTS:
        if getattr(model, name, None) is not None:
            setattr(model, name, None)
