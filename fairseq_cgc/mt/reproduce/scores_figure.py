"""Draw the scores of an experiment, from its record: ``results.json``."""

from __future__ import annotations

import json
import statistics
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairseq_cgc.mt.reproduce.systems import SYSTEMS, published
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.figures import COLUMN, SMALL, add_legend, drawing

_DRAWN = "bleu"  # what papers report
_LETTERS = 28  # of a system's name on a line; longer lines would leave no room for the scores


def draw_results(results: Path, out: Path) -> None:
    """Draw a ``results.json``. The parameters are the options of ``analyse results``.

    Raises:
        UserError: if it cannot be read, or has no such content.
    """
    try:
        record = json.loads(results.read_text(encoding="utf-8"))
        draw_scores(record, out)
    except OSError as error:
        raise UserError(f"{results}: cannot be read ({error.strerror or error})") from error
    except UserError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{results} is no results.json of fairseq-cgc reproduce") from error


def draw_scores(record: Mapping[str, Any], output: Path) -> None:
    """Draw BLEU-4 of every row: mean, standard deviation over the seeds, each seed.

    Args:
        record: of the experiment, as :func:`fairseq_cgc.mt.reproduce.report.write_report` writes
            it.
        output: file to write.
    """
    from matplotlib.lines import Line2D

    rows = record["rows"]
    several_beams = len({row["beam"] for row in rows}) > 1
    several_seeds = any(len(row[_DRAWN]) > 1 for row in rows)
    systems = list(dict.fromkeys(row["system"] for row in rows))
    beams = [f"\nbeam {row['beam']}" if several_beams else "" for row in rows]
    labels = [
        textwrap.fill(SYSTEMS[row["system"]].name, _LETTERS) + beam
        for row, beam in zip(rows, beams, strict=True)
    ]
    lines = max(label.count("\n") for label in labels) + 1
    with drawing(output, COLUMN, 0.75 + (0.06 + 0.1 * lines) * len(rows)) as figure:
        axis = figure.subplots()
        numbers, compared = [], False
        for place, row in enumerate(rows):
            colour, bleu = f"C{systems.index(row['system'])}", row[_DRAWN]  # as in the curves
            mean = statistics.fmean(bleu)
            deviation = statistics.stdev(bleu) if len(bleu) > 1 else None
            axis.errorbar(mean, place, xerr=deviation, fmt="o", color=colour, capsize=2.5)
            if deviation is not None:
                seeds = [place + 0.25] * len(bleu)
                axis.plot(bleu, seeds, "|", color=colour, markersize=4)
            protocol, split = record["protocol"], record.get("split", "test")
            if known := published(row["system"], protocol, split, row["beam"]):
                axis.plot([known.bleu], [place], "D", mfc="none", mec="black", markersize=5)
                compared = True
            numbers.append(f"{mean:.2f}" + ("" if deviation is None else f" ± {deviation:.2f}"))
        axis.set_yticks(range(len(rows)), labels)
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.grid(axis="x")
        axis.set_xlabel("tokenised BLEU-4 (0 to 100)")
        beside = axis.secondary_yaxis("right")
        beside.set_yticks(range(len(rows)), numbers, fontsize=SMALL)
        beside.tick_params(length=0)
        beside.spines[:].set_visible(False)
        grey: dict[str, Any] = {"color": "0.3", "linestyle": ""}
        marks = [Line2D([], [], marker="o", **grey)]
        words = ["mean ± s.d." if several_seeds else "one seed"]
        if several_seeds:
            marks.append(Line2D([], [], marker="|", markersize=4, **grey))
            words.append("seed")
        if compared:
            marks.append(Line2D([], [], marker="D", mfc="none", mec="black", linestyle=""))
            words.append("published")
        add_legend(figure, marks, words, loc="outside upper center", ncols=len(words))
