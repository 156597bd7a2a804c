"""``python -m fairseq_cgc.vision``: what every image model costs, beside the paper's numbers."""

from __future__ import annotations

import argparse
import sys

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.table import lines


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fairseq_cgc.vision",
        description="Parameters and multiply-adds of the image models, beside the paper's.",
    )
    parser.add_argument(
        "model", nargs="*", help="these models only (default: all, and the rows of Table 3)"
    )
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    args = parser.parse_args()
    try:
        for line in lines(args.model, markdown=args.markdown):
            print(line, flush=True)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
