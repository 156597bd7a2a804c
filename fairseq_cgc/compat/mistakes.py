"""Mistakes in options that fairseq ends in a traceback for, told in one line.

Two ways: what can be seen in the options is checked before a training builds anything; what
fairseq itself finds later, and says in an exception, is said without the traceback.
"""

from __future__ import annotations

import functools
import json
import linecache
import re
import traceback
from pathlib import Path
from typing import Any

from fairseq_cgc.compat.expressions import evaluate
from fairseq_cgc.support.errors import UserError

#: Options of whole numbers and the least that each may be.
_LEAST = {
    "dataset": {
        "max_tokens": 1, "max_tokens_valid": 1, "required_batch_size_multiple": 1,
        "required_seq_len_multiple": 1, "num_workers": 0,
    },
    "common": {"log_interval": 1},
    "checkpoint": {"save_interval": 1},
}  # fmt: skip


def check_training(cfg: Any) -> None:
    """Check what the options of a training say by themselves.

    Raises:
        UserError: naming the option, its value and what is allowed.
    """
    if cfg.dataset.max_tokens is None and cfg.dataset.batch_size is None:
        raise UserError("--max-tokens and --batch-size are missing; give at least one of them")
    for group, options in _LEAST.items():
        for name, least in options.items():
            _check_least(name, cfg[group][name], least)
    for frequency in cfg.optimization.update_freq:
        _check_least("update_freq", frequency, 1)
    if cfg.optimizer is None:
        from fairseq.optim import OPTIMIZER_REGISTRY

        raise UserError(f"--optimizer is missing; choose from {', '.join(OPTIMIZER_REGISTRY)}")
    _check_betas(getattr(cfg.optimizer, "adam_betas", None))
    _check_schedule(cfg)
    _check_adaptive_softmax(cfg)
    for side in ("encoder", "decoder"):
        _check_embeddings(side, cfg.model)
    _check_bleu(cfg.task)
    options = cfg.checkpoint
    if options.finetune_from_model:
        for name in ("optimizer", "lr_scheduler", "meters", "dataloader"):
            if options[f"reset_{name}"]:
                raise UserError(
                    f"--finetune-from-model resets everything itself; leave out "
                    f"{_option(f'reset_{name}')}"
                )
        if options.restore_file != "checkpoint_last.pt":
            raise UserError(
                f"--restore-file is {options.restore_file}, but --finetune-from-model is given "
                "too; leave one of them out"
            )


def check_generation(options: Any) -> None:
    """Check options of beam search, of fairseq-generate or ``--eval-bleu-args``."""
    for name in ("beam", "nbest"):
        _check_least(name, getattr(options, name, 1), 1)


def explain(error: BaseException) -> str | None:
    """What fairseq means by an exception that a user's mistake has led to; None for real bugs.

    Messages of fairseq's own ``raise`` and ``assert`` statements are for users, but in the
    training step, where they tell of errors in models.
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    where = [(Path(f.f_code.co_filename).name, f.f_code.co_name) for f, _ in frames]
    text = str(error).strip()
    for function, pattern, message in _KNOWN:
        found = re.search(pattern, f"{type(error).__name__}: {text}", re.DOTALL)
        if found:
            for frame, _ in reversed(frames):
                if frame.f_code.co_name == function:
                    return _told(message, found.groups(), frame.f_locals)
    if isinstance(error, SyntaxError | ValueError) and ("ast.py", "literal_eval") in where:
        return _explain_literal(frames)
    own = Path(frames[-1][0].f_code.co_filename) if frames else Path()
    line = linecache.getline(str(own), frames[-1][1]) if frames else ""
    is_said = (
        isinstance(error, AssertionError) or re.match(r"\s*raise\b", line) or own.suffix == ".pyx"
    )
    in_step = any(name in ("train_step", "valid_step", "forward") for _, name in where)
    if text and {"fairseq", "fairseq_cli"} & set(own.parts) and is_said and not in_step:
        schedule = getattr(frames[-1][0].f_locals.get("cfg"), "_name", None)
        is_schedule = own.parent.name == "lr_scheduler"
        return (f"--lr-scheduler {schedule}: " if is_schedule else "") + " ".join(text.split())
    return None


def _told(message: str, found: tuple[str, ...], names: dict[str, Any]) -> str:
    names = {k: ", ".join(v) if isinstance(v, dict) else v for k, v in names.items()}
    told = re.sub(r"np\.int\d+\((\d+)\)", r"\1", message.format(*found, **names))
    return re.sub(r"--\w+", lambda option: option[0].replace("_", "-"), told)


#: The function that fails, the exception (its kind and text), and what it means. Braces hold what
#: the pattern has found and the local variables of the function.
_KNOWN = (
    ("parse_args_and_arch", r"^RuntimeError: $",
     "--arch is missing; fairseq-cgc info lists this package's"),
    ("parse_args_and_arch", r"Cannot combine --fp16 and --tpu",
     "--fp16 and --bf16 exclude each other"),
    ("convert_namespace_to_omegaconf", r"Error merging override [\w.]*?(\w+)=null",
     "--{0} is missing"),
    ("convert_namespace_to_omegaconf", r"Interpolation key 'task\.(\w+)' not found",
     "--arch needs --{0}, which this --task does not have; choose one that fits"),
    ("build_x", r"Missing mandatory value: (\w+)", "--{0} is missing"),
    ("batch_by_size", r"should not exceed max_tokens=(\d+)",
     "--max-tokens (or --max-tokens-valid) is {0}, but a sentence is longer; raise it"),
    ("batch_by_size", r"^IndexError",
     "no sentence is left: all are longer than --max-tokens, {max_tokens}, or than the model's "
     "--max-source-positions and --max-target-positions"),
    ("filter_indices_by_size", r"sample #(\d+) is invalid \(=(.*)\) since max_positions=(.*), skip",
     "sentence {0} has {1} tokens, but --max-source-positions and --max-target-positions are {2}; "
     "shorten it, or leave such sentences out with --skip-invalid-size-inputs-valid-test"),
    ("__init__", r"cannot specify cutoff larger than vocab size",
     "--adaptive-softmax-cutoff is {cutoff}, but must be less than the number of words, "
     "{vocab_size}"),
    ("__init__", r"embed_dim must be divisible by num_heads",
     "--encoder-attention-heads or --decoder-attention-heads is {num_heads}, but must divide the "
     "width, {embed_dim}"),
    ("validate", r"^KeyError: '(.*)'",
     "--best-checkpoint-metric is {0}, but a validation gives {stats}"),
    ("__getitem__", r"^ValueError: offset must be", "{self._path}.bin is cut off"),
    ("__init__", r"^ValueError: buffer is smaller", "{path} is cut off"),
    ("get_maybe_sharded_checkpoint_filename", r"^AttributeError: 'NoneType'", "--path is missing"),
    ("init_constraints", r"^TypeError: 'NoneType'",
     "--constraints is for fairseq-interactive, which reads them after each sentence"),
    ("_main", r"^KeyError: 'steps'", "--print-step is for models that translate in several steps"),
    ("find_offsets", r"^ZeroDivisionError",
     "--workers is {num_chunks}, but must be at least 1"),
    ("main", r"^FileExistsError: (.*)", "{0} is there already; give another --destdir"),
)  # fmt: skip


def _explain_literal(frames: list[Any]) -> str | None:
    """Name the option that ``ast.literal_eval`` could not read, by the line that reads it."""
    for frame, number in reversed(frames):
        line = linecache.getline(frame.f_code.co_filename, number)
        if found := re.search(r"literal_eval\([\w.]*\.(\w+)\)", line):
            return f"{_option(found[1])} must be a Python dictionary, such as {{'dropout': 0.1}}"
    return None


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _check_least(name: str, value: Any, least: int) -> None:
    if value is not None and value < least:
        raise UserError(f"{_option(name)} is {value}, but must be at least {least}")


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
    _check_least("warmup_updates", warmup, 1 if name == "inverse_sqrt" else 0)
    if name == "polynomial_decay":
        _check_least("total_num_update", schedule.total_num_update, 1)
    if name == "cosine" and schedule.lr_period_updates <= 0:
        updates = cfg.optimization.max_update
        if updates <= warmup:
            raise UserError(
                f"--max-update is {updates}, but --lr-scheduler cosine needs --lr-period-updates, "
                f"or more updates than --warmup-updates, which is {warmup}"
            )


#: Architectures whose presets have cutoffs that only --criterion adaptive_loss heeds.
_ADAPTIVE_ON_DEMAND = ("lstm", "fconv")


def _check_adaptive_softmax(cfg: Any) -> None:
    cutoffs, criterion = getattr(cfg.model, "adaptive_softmax_cutoff", None), cfg.criterion._name
    backend = cfg.distributed_training.ddp_backend
    if criterion != "adaptive_loss":
        name = str(getattr(cfg.model, "arch", None) or getattr(cfg.model, "_name", ""))
        if cutoffs and not name.startswith(_ADAPTIVE_ON_DEMAND):
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


def _check_embeddings(side: str, model: Any) -> None:
    """Compare the width of a file of embeddings, as word2vec writes it, with the model's."""
    path = getattr(model, f"{side}_embed_path", None)
    width = getattr(model, f"{side}_embed_dim", None) or getattr(model, "encoder_embed_dim", None)
    if not path or width is None:
        return
    with Path(path).open(encoding="utf-8", errors="replace") as lines:
        next(lines, None)  # the number of words and the width, which fairseq does not read
        columns = len(next(lines, "").rstrip().split(" ")) - 1
    if columns != width:
        raise UserError(
            f"{_option(f'{side}_embed_path')} is {path}, which has {columns} numbers a word from "
            f"its second line on, but {_option(f'{side}_embed_dim')} is {width}"
        )


def _check_bleu(task: Any) -> None:
    if not getattr(task, "eval_bleu", False):
        return
    from fairseq.data.encoders import TOKENIZER_REGISTRY
    from fairseq.dataclass.configs import GenerationConfig
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if task.eval_bleu_detok not in TOKENIZER_REGISTRY:
        raise UserError(
            f"--eval-bleu-detok is {task.eval_bleu_detok}, but must be one of "
            f"{', '.join(TOKENIZER_REGISTRY)}"
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
                f"{_option(name)} is {value}, but must be JSON, such as '{{\"beam\": 2}}'"
            )
    try:
        check_generation(OmegaConf.merge(OmegaConf.structured(GenerationConfig), given))
    except (OmegaConfBaseException, UserError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--eval-bleu-args is {task.eval_bleu_args}: {reason}") from None


def check_search() -> None:
    """Check the options of beam search wherever fairseq builds one."""
    from fairseq.tasks import FairseqTask

    build = FairseqTask.build_generator

    @functools.wraps(build)
    def build_generator(self: Any, models: Any, args: Any, **kwargs: Any) -> Any:
        check_generation(args)
        return build(self, models, args, **kwargs)

    FairseqTask.build_generator = build_generator
