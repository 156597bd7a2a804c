"""The commands of ``fairseq-cgc``, one module each: read the options, call the package, print.

A module has a docstring (its first line stands in ``fairseq-cgc --help``, all of it in the help of
the command), ``add_arguments(parser)`` and ``run(arguments)``. It imports the package within these
functions only, so that the other commands start fast.
"""

from __future__ import annotations

import importlib
from types import ModuleType

#: What a command is for -> the commands; ``demo-corpus`` is in ``demo_corpus.py``.
COMMANDS = {
    "set-up": ("info", "demo"),
    "text": ("prepare", "prepare-iwslt14", "prepare-multi30k", "demo-corpus", "tokenize"),
    "models": ("average", "evaluate", "translate", "export"),
    "results": ("compare", "reproduce", "analyse", "table"),
    "images": ("train-image", "evaluate-image"),
    "video": ("train-video", "evaluate-video"),
}
NAMES = [name for names in COMMANDS.values() for name in names]


def load(name: str) -> ModuleType:
    """The module of a command."""
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")


def overview() -> str:
    """All commands, a line each."""
    lines = ["usage: fairseq-cgc COMMAND ...    (fairseq-cgc COMMAND --help shows its options)", ""]
    for purpose, names in COMMANDS.items():
        for label, name in zip([purpose, *[""] * len(names)], names, strict=False):
            first_line = str(load(name).__doc__).partition("\n")[0].removesuffix(".")
            lines.append(f"{label:<9}{name:<17} {first_line}")
    return "\n".join(lines)
