"""Print parameters and multiply-adds of models.

    fairseq-cgc table image
    fairseq-cgc table video tsn tsm_cgc --markdown

The paper's numbers stand beside them.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a subcommand for each kind of model."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind in ("image", "video"):
        about = f"parameters and multiply-adds of the {kind} models"
        of_kind = kinds.add_parser(kind, help=about, description=about)
        of_kind.add_argument("model", nargs="*", help="these models only (default: all of them)")
        of_kind.add_argument("--markdown", action="store_true", help="print Markdown tables")


def run(arguments: argparse.Namespace) -> None:
    """Print the tables, each line as its numbers are counted."""
    if arguments.kind == "image":
        from fairseq_cgc.vision.costs import lines
    else:
        from fairseq_cgc.video.costs import lines
    for line in lines(arguments.model, markdown=arguments.markdown):
        print(line, flush=True)
