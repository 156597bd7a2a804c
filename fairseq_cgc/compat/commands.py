"""fairseq's commands: their options and languages, --user-dir, and errors in one line."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from pathlib import Path
from typing import Any

from fairseq_cgc.compat.mistakes import explain
from fairseq_cgc.compat.replacing import replaces
from fairseq_cgc.support.checkpoints import read_config, safe_load
from fairseq_cgc.support.command_line import use_utf8
from fairseq_cgc.support.errors import UserError

logger = logging.getLogger(__name__)

#: What fairseq raises for data, checkpoints and folders that are missing or not accessible.
_MISTAKEN_PATHS = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


def repair_options() -> None:
    """Undo --tpu, which --bf16 sets; give fairseq-validate a default --task; take languages that
    no option names from the model rather than from the data.
    """
    from fairseq import options
    from fairseq.dataclass import utils

    @replaces(options, "parse_args_and_arch")
    def parse_args_and_arch(
        original: Any,
        parser: argparse.ArgumentParser,
        input_args: list[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        if parser.get_default("task") is None:
            parser.set_defaults(task="translation")  # fairseq-validate names no default
        parsed = original(parser, input_args, **kwargs)
        args = parsed[0] if isinstance(parsed, tuple) else parsed
        given = sys.argv[1:] if input_args is None else input_args
        if getattr(args, "bf16", False) and "--tpu" not in given:
            args.tpu = False  # fairseq takes every bf16 run for one on a TPU
        if not kwargs.get("suppress_defaults"):
            _fill_languages(args)
            _warn_of_raw_text(args)
        return parsed

    @replaces(utils, "eval_str_list")
    def eval_str_list(original: Any, text: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(text, *args, **kwargs)
        except (SyntaxError, TypeError, ValueError, MemoryError, RecursionError) as error:
            raise argparse.ArgumentTypeError(
                f"must be numbers such as 3 or [3, 7], but is {text!r}"
            ) from error


def _fill_languages(args: argparse.Namespace) -> None:
    """Set the source and target language of fairseq's translation task where they are missing.

    They are the model's, if its checkpoint names them; else those of the data's file names.
    fairseq reads only the file names, whatever the model's direction is, and only after the
    tokenizer has asked for the languages.

    Args:
        args: options of a fairseq command; changed in place.

    Raises:
        UserError: if an option names a language that is not the model's or the data's, or if no
            language is known.
    """
    from fairseq import utils
    from fairseq.data.data_utils import infer_language_pair
    from fairseq.tasks import TASK_REGISTRY
    from fairseq.tasks.translation import TranslationTask

    task: Any = TASK_REGISTRY.get(getattr(args, "task", None))
    if task is None or not issubclass(task, TranslationTask) or not getattr(args, "data", None):
        return
    given = (args.source_lang, args.target_lang)
    if None not in given:
        return
    known_by = utils.split_paths(getattr(args, "path", None) or "")[0]
    pair = _languages_of_model(Path(known_by))
    directions = [pair]
    if None in pair:
        known_by = utils.split_paths(args.data)[0]
        pair = tuple(infer_language_pair(known_by)) if Path(known_by).is_dir() else (None, None)
        directions = [pair, pair[::-1]]
    if None in pair:
        if Path(known_by).is_dir() or getattr(args, "tokenizer", None):
            raise UserError(
                f"{known_by} has no binarised data that names a language pair; give --source-lang "
                "and --target-lang"
            )
        return  # to fairseq, which cannot find the folder
    for direction in directions:
        if all(a in (None, b) for a, b in zip(given, direction, strict=True)):
            args.source_lang, args.target_lang = direction
            return
    option, lang = ("target", given[1]) if given[0] is None else ("source", given[0])
    raise UserError(f"--{option}-lang is {lang}, but {known_by} has {pair[0]} to {pair[1]}")


def _languages_of_model(path: Path) -> tuple[Any, ...]:
    if not path.is_file():  # the command reports it
        return None, None
    state = safe_load(path, only_options=True)
    return tuple(read_config(state, "task", key) for key in ("source_lang", "target_lang"))


def _warn_of_raw_text(args: argparse.Namespace) -> None:
    """Warn if ``fairseq-interactive`` would read raw text as if it were prepared."""
    is_interactive = hasattr(args, "buffer_size")
    description = Path(getattr(args, "data", None) or "", "preparation.json")
    if is_interactive and args.tokenizer != "prepared" and description.is_file():
        logger.warning(
            "the input must be prepared as %s says; for raw text, give --tokenizer prepared and "
            "no --bpe",
            description,
        )


def make_folder_of_log() -> None:
    """Make the folder of --log-file, which fairseq opens before it makes --save-dir."""
    from fairseq.distributed import utils

    @replaces(utils, "call_main")
    def call_main(original: Any, cfg: Any, main: Any, **kwargs: Any) -> None:
        if cfg.common.log_file:
            path = Path(cfg.common.log_file)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.open("a").close()
            except OSError as error:
                raise UserError(
                    f"--log-file is {path}, but cannot be written ({error.strerror})"
                ) from error
        original(cfg, main, **kwargs)


def refuse_second_copy() -> None:
    """Refuse a --user-dir that is another copy of this package than the imported one."""
    from fairseq import utils

    here = Path(__file__).resolve().parent.parent

    @replaces(utils, "import_user_module")
    def import_user_module(original: Any, args: Any) -> None:
        path = Path(getattr(args, "user_dir", None) or "")
        if path.name == here.name and path.exists() and path.resolve() != here:
            raise UserError(
                f"two copies of {here.name}: --user-dir is {path}, but Python already "
                f"imported the one in {here}; pass that one, or uninstall it"
            )
        original(args)


def is_fairseq_command() -> bool:
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    names = (Path(sys.argv[0]).name if sys.argv else "", main.name if main else "")
    return names[0].startswith("fairseq-") or names[1].startswith("fairseq_cli")


def use_utf8_in_commands() -> None:
    """Use UTF-8 in every locale: in others, letters would become <unk> and files be misread."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import get_original_cwd

    use_utf8(Path(get_original_cwd()) if HydraConfig.initialized() else None)


def show_user_errors_in_one_line() -> None:
    """End fairseq's commands in one line, not in a traceback, for mistakes of the user."""
    show = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
        reason: BaseException | None = error
        while reason is not None and not isinstance(reason, UserError):
            reason = reason.__cause__ or reason.__context__
        told = str(reason) if reason is not None else explain(error)
        if told is None and isinstance(error, _MISTAKEN_PATHS):
            told = str(error)
        if told is None:
            show(kind, error, traceback)
        else:
            print(f"error: {told}", file=sys.stderr)

    sys.excepthook = excepthook
    # hydra handles exceptions itself and prints those of this class in one line.
    hydra_utils: Any = importlib.import_module("hydra._internal.utils")
    compact = hydra_utils.CompactHydraException
    hydra_utils.CompactHydraException = (compact, UserError, *_MISTAKEN_PATHS)
