"""``python -m fairseq_cgc.video``: what every video model costs, beside the paper's numbers."""

from __future__ import annotations

from fairseq_cgc.mt.fairseq_commands import run_main
from fairseq_cgc.video.costs import lines
from fairseq_cgc.vision.costs import run


def main() -> None:
    run(
        "python -m fairseq_cgc.video",
        "Parameters and multiply-adds of the video models, beside the paper's.",
        lines,
    )


if __name__ == "__main__":
    run_main(main)
