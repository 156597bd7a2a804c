"""Translate raw text, one sentence a line.

    fairseq-cgc translate CHECKPOINT --data DATA_BIN --input text.de --output text.en
    echo "Guten Morgen." | fairseq-cgc translate CHECKPOINT --data DATA_BIN
    echo "Guten Morgen." | fairseq-cgc translate EXPORTED --nbest 3

With --input and --output, an interrupted run continues where it stopped (not with --nbest). A
finished run translates everything again. fairseq is needed only for models other than LightConv.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fairseq_cgc.support.errors import UserError

if TYPE_CHECKING:
    from fairseq_cgc.inference.search_options import SearchOptions
    from fairseq_cgc.inference.translator import Translator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from fairseq_cgc.inference.search_options import SearchOptions
    from fairseq_cgc.inference.translator import BUFFER_SIZE

    parser.add_argument(
        "checkpoint", type=Path,
        help="a trained model, or a folder that fairseq-cgc export has written",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, metavar="DATA_BIN",
        help="the data folder that a checkpoint was trained on, with dictionaries and "
        "preparation.json; an exported folder needs none",
    )  # fmt: skip
    parser.add_argument(
        "--input", type=Path, metavar="FILE",
        help="UTF-8 text, plain or .gz (default: standard input)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="file to write (default: standard output)"
    )
    parser.add_argument(
        "--buffer-size", type=int, metavar="N",
        help=f"number of lines to read before translating; more is faster (default: {BUFFER_SIZE}, "
        "or 1 when they are typed)",
    )  # fmt: skip
    SearchOptions.add_arguments(parser, of_generation=True)


def run(arguments: argparse.Namespace) -> None:
    """Translate."""
    from fairseq_cgc.inference.exported import DESCRIPTION
    from fairseq_cgc.inference.files import (
        check_output,
        partial_file,
        translate_file,
        translate_stream,
    )
    from fairseq_cgc.inference.search_options import SearchOptions
    from fairseq_cgc.inference.text.lines import decode_lines, read_lines, text_lines, write_lines
    from fairseq_cgc.inference.text.pipeline import PREPARATION_FILE
    from fairseq_cgc.inference.translator import BUFFER_SIZE, check_buffer_size
    from fairseq_cgc.support.command_line import print_lines

    checkpoint, data = arguments.checkpoint, arguments.data
    text, output, size = arguments.input, arguments.output, arguments.buffer_size
    if text is not None and not text.exists():
        raise UserError(f"--input {text} does not exist")
    if size is None:
        size = 1 if text is None and sys.stdin.isatty() else BUFFER_SIZE
    check_buffer_size(size)
    options = SearchOptions.from_arguments(arguments)
    inputs = [checkpoint / DESCRIPTION if checkpoint.is_dir() else checkpoint]
    inputs += [data / PREPARATION_FILE] if data else []
    inputs += [text] if text else []
    if output is not None:
        check_output(output, inputs)
    translator = _open(checkpoint, data, options)
    # A pipe, as of <(...), cannot be read again.
    if text is not None and text.is_file() and output is not None and arguments.nbest is None:
        pipeline = translator.pipeline
        dictionaries = [f"dict.{lang}.txt" for lang in translator.languages]
        prepared = map(pipeline.file, [PREPARATION_FILE, pipeline.subword_model, *dictionaries])
        partial = partial_file(output, [*inputs, *prepared], options)
        translate_file(translator, text, output, partial, buffer_size=size)
        return
    if text is not None:
        lines = read_lines(text)
    else:
        lines = text_lines(decode_lines(sys.stdin.buffer, "standard input"))
    if arguments.nbest is not None:
        scored = _scored(translator, lines, size)
        if output is not None:
            write_lines(output, scored)
        else:
            print_lines(scored, at_once=True)
    elif output is not None:
        translate_stream(translator, lines, output, buffer_size=size)
    else:
        print_lines(translator.translate(lines, buffer_size=size), at_once=True)


def _open(checkpoint: Path, data: Path | None, options: SearchOptions) -> Translator:
    """A translator; fairseq is imported only for what is not LightConv, and only if it is there."""
    from fairseq_cgc.inference.model_options import is_lightconv
    from fairseq_cgc.inference.translator import Translator
    from fairseq_cgc.support.checkpoints import load_model_state

    if (
        data is not None
        and checkpoint.is_file()
        and find_spec("fairseq")
        and not is_lightconv(load_model_state(checkpoint, only_options=True))
    ):
        from fairseq_cgc.mt.evaluate.fairseq_translator import FairseqTranslator

        return FairseqTranslator(checkpoint, data, options)
    return Translator(checkpoint, data, options)


def _scored(translator: Translator, lines: Iterable[str], buffer_size: int) -> Iterator[str]:
    """The lines that ``--nbest`` prints; an empty line has no translations."""
    found = translator.nbest(lines, buffer_size=buffer_size)
    for number, translations in enumerate(found, start=1):
        for translation in translations:
            yield f"{number}\t{translation.score:.4f}\t{translation.text}"
