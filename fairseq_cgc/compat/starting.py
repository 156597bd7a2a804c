"""What a training starts with: the files that it names, and options that fit each other."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from fairseq_cgc.compat.expressions import evaluate
from fairseq_cgc.compat.replacing import replaces
from fairseq_cgc.compat.search import check_generation, check_least
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.options import option_of

_RESTORE_FILE = "checkpoint_last.pt"  # fairseq's default of --restore-file

#: Options of models that name a file of initial weights, which a checkpoint does not need.
_INITIAL_WEIGHTS = (
    "encoder_embed_path",
    "decoder_embed_path",
    "init_from_lightconv",
    "load_pretrained_encoder_from",
    "load_pretrained_decoder_from",
)

#: Options of whole numbers, and the least value that each may have.
_LEAST = {
    "dataset": {
        "max_tokens": 1, "max_tokens_valid": 1, "required_batch_size_multiple": 1,
        "required_seq_len_multiple": 1, "num_workers": 0,
    },
    "common": {"log_interval": 1},
    "checkpoint": {"save_interval": 1},
}  # fmt: skip

#: fairseq's criterions for models that translate, and this package's.
_CRITERIONS = (
    "cross_entropy",
    "label_smoothed_cross_entropy",
    "label_smoothed_cross_entropy_chunked",
    "label_smoothed_cross_entropy_with_rdrop",
    "label_smoothed_cross_entropy_with_alignment",
    "adaptive_loss",
)

#: Architectures whose presets have cutoffs that only --criterion adaptive_loss heeds.
_ADAPTIVE_ON_DEMAND = ("lstm", "fconv")


def check_start_of_training() -> None:
    """Check a training's options before anything is built: fairseq trains from scratch where
    --restore-file is missing, leaves unreadable files with --write-checkpoints-asynchronously, and
    ends in a traceback where options do not fit each other. Let checkpoints load without the
    embeddings that their training started with.
    """
    from fairseq.dataclass import initialize

    # The one function that fairseq_cli.train calls between importing --user-dir and its work.
    add_defaults = initialize.add_defaults

    @replaces(initialize, "add_defaults")
    def add_defaults_and_check(original: Any, cfg: Any) -> None:
        original(cfg)
        _check_start(cfg)
        _check_options(cfg)

    for name, module in list(sys.modules.items()):
        names = vars(module) if name.startswith(("fairseq", "__main__", "__mp_main__")) else {}
        if names.get("add_defaults") is add_defaults:
            names["add_defaults"] = initialize.add_defaults


def _check_start(cfg: Any) -> None:
    """Check that the files exist that this training is to start from.

    A training that continues from its own last checkpoint needs none of them.
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
        folder = "" if Path(path).is_absolute() else f" in {Path.cwd()}"
        raise UserError(f"{option_of(name)} is {path}, but there is no such file{folder}")


def forget_initial_weights(model: Any) -> None:
    """Remove the files of initial weights from a model's options, so that it is built without.

    Args:
        model: a namespace, or options of omegaconf; changed in place.
    """
    for name in _INITIAL_WEIGHTS:
        if getattr(model, name, None) is not None:
            setattr(model, name, None)


def _check_options(cfg: Any) -> None:
    if cfg.dataset.max_tokens is None and cfg.dataset.batch_size is None:
        raise UserError("--max-tokens and --batch-size are missing; give at least one of them")
    for group, options in _LEAST.items():
        for name, least in options.items():
            check_least(name, cfg[group][name], least)
    for frequency in cfg.optimization.update_freq:
        check_least("update_freq", frequency, 1)
    if cfg.optimizer is None:
        from fairseq.optim import OPTIMIZER_REGISTRY

        raise UserError(f"--optimizer is missing; choose from {', '.join(OPTIMIZER_REGISTRY)}")
    _check_betas(getattr(cfg.optimizer, "adam_betas", None))
    _check_schedule(cfg)
    _check_criterion(cfg)
    _check_adaptive_softmax(cfg)
    for side in ("encoder", "decoder"):
        _check_embeddings(side, cfg)
    _check_bleu(cfg.task)
    options = cfg.checkpoint
    if options.finetune_from_model:
        for name in ("optimizer", "lr_scheduler", "meters", "dataloader"):
            if options[f"reset_{name}"]:
                raise UserError(
                    f"--finetune-from-model resets everything itself; leave out "
                    f"{option_of(f'reset_{name}')}"
                )
        if options.restore_file != _RESTORE_FILE:
            raise UserError(
                f"--restore-file is {options.restore_file}, but --finetune-from-model is given "
                "too; leave one of them out"
            )


def _check_betas(betas: Any) -> None:
    values = evaluate(betas) if isinstance(betas, str) else betas
    if values is not None and not (
        hasattr(values, "__len__") and len(values) == 2 and all(0 <= beta < 1 for beta in values)
    ):
        raise UserError(
            f"--adam-betas is {betas}, but must be two numbers from 0 to below 1, '(0.9, 0.98)'"
        )


def _check_schedule(cfg: Any) -> None:
    schedule = cfg.lr_scheduler
    name, warmup = schedule._name, getattr(schedule, "warmup_updates", None)
    check_least("warmup_updates", warmup, 1 if name == "inverse_sqrt" else 0)
    if name == "polynomial_decay":
        check_least("total_num_update", schedule.total_num_update, 1)
    if name == "cosine" and schedule.lr_period_updates <= 0:
        updates = cfg.optimization.max_update
        if updates <= warmup:
            raise UserError(
                f"--max-update is {updates}, but --lr-scheduler cosine needs --lr-period-updates, "
                f"or more updates than --warmup-updates, which is {warmup}"
            )


def _architecture(cfg: Any) -> str:
    return str(getattr(cfg.model, "arch", None) or getattr(cfg.model, "_name", ""))


def _check_criterion(cfg: Any) -> None:
    """Refuse those of fairseq's criterions that are for other models than its translation models.

    Criterions and models of others (of another --user-dir) may fit each other in their own way.
    """
    from fairseq.criterions import CRITERION_REGISTRY
    from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_REGISTRY

    name, architecture = cfg.criterion._name, _architecture(cfg)
    model = MODEL_REGISTRY.get(architecture) or ARCH_MODEL_REGISTRY.get(architecture)
    if (
        cfg.task._name == "translation"
        and name not in _CRITERIONS
        and CRITERION_REGISTRY[name].__module__.startswith("fairseq.")
        and model is not None
        and model.__module__.startswith(("fairseq.models.", "fairseq_cgc."))
    ):
        raise UserError(
            f"--criterion is {name}, but for --task translation and --arch {architecture} it must "
            f"be one of {', '.join(_CRITERIONS)}"
        )


def _check_adaptive_softmax(cfg: Any) -> None:
    cutoffs, criterion = getattr(cfg.model, "adaptive_softmax_cutoff", None), cfg.criterion._name
    backend = cfg.distributed_training.ddp_backend
    if criterion != "adaptive_loss":
        if cutoffs and not _architecture(cfg).startswith(_ADAPTIVE_ON_DEMAND):
            raise UserError(
                f"--adaptive-softmax-cutoff is {cutoffs}, but --criterion is {criterion}; the "
                "adaptive softmax needs --criterion adaptive_loss"
            )
        return
    if not cutoffs:
        raise UserError(
            "--adaptive-softmax-cutoff is missing; --criterion adaptive_loss needs it, such as "
            "5000,20000"
        )
    if backend in ("c10d", "pytorch_ddp"):
        raise UserError(
            f"--ddp-backend is {backend}, but --criterion adaptive_loss needs legacy_ddp"
        )
    if isinstance(cutoffs, str):
        from fairseq.utils import eval_str_list

        cutoffs = eval_str_list(cutoffs, type=int)
    if list(cutoffs) != sorted({cutoff for cutoff in cutoffs if cutoff > 0}):
        raise UserError(f"--adaptive-softmax-cutoff is {cutoffs}, but must rise from above 0")


def _check_embeddings(side: str, cfg: Any) -> None:
    """Compare the width of a file of embeddings, as word2vec writes it, with the model's."""
    model, option = cfg.model, f"{side}_embed_dim"
    path = getattr(model, f"{side}_embed_path", None)
    # Only in this package's models may the decoder's embeddings have a width of their own.
    if side == "decoder" and _architecture(cfg).startswith("lightconv_cgc"):
        option = option if model.decoder_input_dim is None else "decoder_input_dim"
    width = getattr(model, option, None) or getattr(model, "encoder_embed_dim", None)
    if not path or width is None:
        return
    with Path(path).open(encoding="utf-8", errors="replace") as lines:
        next(lines, None)  # the number of words and the width, which fairseq does not read
        columns = len(next(lines, "").rstrip().split(" ")) - 1
    if columns != width:
        raise UserError(
            f"{option_of(f'{side}_embed_path')} is {path}, which has {columns} numbers a word from "
            f"its second line on, but {option_of(option)} is {width}"
        )


def _check_bleu(task: Any) -> None:
    if not getattr(task, "eval_bleu", False):
        return
    from fairseq.data.encoders import TOKENIZER_REGISTRY
    from fairseq.dataclass.configs import GenerationConfig
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    # fairseq does not tell this tokenizer the data and the languages, of which "prepared" is made.
    allowed = [name for name in TOKENIZER_REGISTRY if name != "prepared"]
    if task.eval_bleu_detok not in allowed:
        raise UserError(
            f"--eval-bleu-detok is {task.eval_bleu_detok}, but must be one of {', '.join(allowed)}"
        )
    given: Any = {}
    for name in ("eval_bleu_detok_args", "eval_bleu_args"):
        value = getattr(task, name) or "{}"
        try:
            given = json.loads(value)
        except ValueError:
            given = None
        if not isinstance(given, dict):
            raise UserError(
                f"{option_of(name)} is {value}, but must be JSON, such as '{{\"beam\": 2}}'"
            )
    try:
        check_generation(OmegaConf.merge(OmegaConf.structured(GenerationConfig), given))
    except (OmegaConfBaseException, UserError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--eval-bleu-args is {task.eval_bleu_args}: {reason}") from None
