"""``python -m fairseq_cgc.vision``: what every image model costs, beside the paper's numbers."""

from __future__ import annotations

from fairseq_cgc.mt.fairseq_commands import run_main
from fairseq_cgc.vision.costs import lines, run


def main() -> None:
    run(
        "python -m fairseq_cgc.vision",
        "Parameters and multiply-adds of the image models, beside the paper's.",
        lines,
    )


if __name__ == "__main__":
    run_main(main)
