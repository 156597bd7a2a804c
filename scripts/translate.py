"""Translate raw text, one sentence a line.

    python scripts/translate.py CHECKPOINT --data DATA_BIN --input text.de --output text.en
    echo "Guten Morgen." | python scripts/translate.py CHECKPOINT --data DATA_BIN

With --input and --output, an interrupted run continues where it stopped. A finished run translates
everything again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fairseq_cgc.inference.files import (
    check_output,
    partial_file,
    translate_file,
    translate_stream,
)
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.inference.text.lines import decode_lines, read_lines, text_lines
from fairseq_cgc.inference.translator import BUFFER_SIZE, Translator, check_buffer_size
from fairseq_cgc.mt.fairseq_commands import print_lines, run_main
from fairseq_cgc.support.errors import UserError


def main() -> None:
    """Parse the command line and translate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="a trained model")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DATA_BIN",
        help="the data folder it was trained on, with dictionaries and preparation.json",
    )  # fmt: skip
    parser.add_argument(
        "--input",
        type=Path,
        metavar="FILE",
        help="UTF-8 text, plain or .gz (default: standard input)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="file to write (default: standard output)"
    )
    parser.add_argument(
        "--buffer-size", type=int, metavar="N",
        help=f"number of lines to read before translating; more is faster (default: {BUFFER_SIZE}, "
        "or 1 when they are typed)",
    )  # fmt: skip
    SearchOptions.add_arguments(parser)
    arguments = parser.parse_args()

    text, output, size = arguments.input, arguments.output, arguments.buffer_size
    if text is not None and not text.exists():
        raise UserError(f"--input {text} does not exist")
    if size is None:
        size = 1 if text is None and sys.stdin.isatty() else BUFFER_SIZE
    check_buffer_size(size)
    options = SearchOptions.from_arguments(arguments)
    inputs = [arguments.checkpoint, arguments.data / "preparation.json", *([text] if text else [])]
    if output is not None:
        check_output(output, inputs)
    translator = Translator(arguments.checkpoint, arguments.data, options)
    # A pipe, as of <(...), cannot be read again.
    if text is not None and text.is_file() and output is not None:
        partial = partial_file(output, inputs, options)
        translate_file(translator, text, output, partial, buffer_size=size)
        return
    if text is not None:
        lines = read_lines(text)
    else:
        lines = text_lines(decode_lines(sys.stdin.buffer, "standard input"))
    if output is not None:
        translate_stream(translator, lines, output, buffer_size=size)
        return
    print_lines(translator.translate(lines, buffer_size=size), at_once=True)


if __name__ == "__main__":
    run_main(main)
