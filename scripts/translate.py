"""Translate raw text, one sentence a line.

    python scripts/translate.py CHECKPOINT --data DATA_BIN --input text.de --output text.en
    echo "Guten Morgen." | python scripts/translate.py CHECKPOINT --data DATA_BIN

With --input and --output an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fairseq_cgc.core.errors import UserError
from fairseq_cgc.mt.cli import print_lines, run_main
from fairseq_cgc.mt.corpora import decode_lines, read_lines
from fairseq_cgc.mt.search import SearchOptions
from fairseq_cgc.mt.translate_files import (
    check_output,
    partial_file,
    translate_file,
    translate_stream,
)
from fairseq_cgc.mt.translator import Translator


def main() -> None:
    """Parse the command line and translate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="a trained model")
    parser.add_argument(
        "--data", type=Path, required=True,
        help="the folder that it was trained on, with dictionaries and preparation.json",
    )  # fmt: skip
    parser.add_argument("--input", type=Path, help="UTF-8 text (standard input)")
    parser.add_argument("--output", type=Path, help="file to write (standard output)")
    parser.add_argument(
        "--buffer-size", type=int, default=256,
        help="lines read before any is translated; more is faster (%(default)s)",
    )  # fmt: skip
    SearchOptions.add_arguments(parser)
    arguments = parser.parse_args()

    text, output, size = arguments.input, arguments.output, arguments.buffer_size
    if text is not None and not text.is_file():
        raise UserError(f"--input {text} does not exist")
    options = SearchOptions.from_arguments(arguments)
    inputs = [arguments.checkpoint, arguments.data / "preparation.json", *([text] if text else [])]
    if output is not None:
        check_output(output, inputs)
    translator = Translator(arguments.checkpoint, arguments.data, options)
    if text is not None and output is not None:
        partial = partial_file(output, inputs, options)
        translate_file(translator, text, output, partial, buffer_size=size)
        return
    lines = read_lines(text) if text else decode_lines(sys.stdin.buffer, "standard input")
    if output is not None:
        translate_stream(translator, lines, output, buffer_size=size)
        return
    print_lines(translator.translate(lines, buffer_size=size), at_once=True)


if __name__ == "__main__":
    run_main(main)
