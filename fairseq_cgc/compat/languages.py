"""The languages of a translation command whose options do not name them."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from fairseq_cgc.support.checkpoints import read_config, safe_load
from fairseq_cgc.support.errors import UserError

logger = logging.getLogger(__name__)


def fill_languages(args: argparse.Namespace) -> None:
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


def warn_of_raw_text(args: argparse.Namespace) -> None:
    """Warn if ``fairseq-interactive`` would read raw text as if it were prepared."""
    is_interactive = hasattr(args, "buffer_size")
    description = Path(getattr(args, "data", None) or "", "preparation.json")
    if is_interactive and args.tokenizer != "prepared" and description.is_file():
        logger.warning(
            "the input must be prepared as %s says; for raw text, give --tokenizer prepared and "
            "no --bpe",
            description,
        )
