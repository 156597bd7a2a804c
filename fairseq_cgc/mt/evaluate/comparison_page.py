"""A comparison of two systems as one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

import base64
import hashlib
import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fairseq_cgc.mt.evaluate.comparison import Comparison
from fairseq_cgc.mt.evaluate.word_diff import mark

#: Characters; a longer text gets a box of its own that scrolls.
LONG_LINE = 1500

_FOLDER = Path(__file__).resolve().parent


def comparison_page(comparison: Comparison, *, top: int = 50, target_lang: str = "") -> str:
    """The page as text, to be written as UTF-8.

    Args:
        comparison: see :func:`compare`.
        top: how many sentences to show, those that differ the most.
        target_lang: language code of the translations, for fonts and screen readers.
    """
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    differences = [sentence.difference for sentence in comparison.sentences]
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # HTML has no way to write the null character.
        finalize=lambda value: value.replace("\0", "\ufffd") if isinstance(value, str) else value,
    )
    environment.filters["with_commas"] = "{:,}".format
    environment.filters["minus"] = lambda number: number.replace("-", "\N{MINUS SIGN}")
    return environment.get_template("page.html").render(
        comparison=comparison,
        name_a=comparison.names[0],
        name_b=comparison.names[1],
        better_a=sum(difference < 0 for difference in differences),
        better_b=sum(difference > 0 for difference in differences),
        histogram=_histogram([difference for difference in differences if difference != 0]),
        # The bars of all groups share one scale.
        best_bleu=max((max(group.bleu) for group in comparison.groups), default=0) or 1,
        pairs=[
            (s, mark(s.reference, s.a, s.b, lowercase=comparison.lowercase))
            for s in comparison.most_different(top)
        ],
        long_line=LONG_LINE,
        lang=target_lang.replace("_", "-"),  # HTML writes zh-CN
        style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        # Should text ever slip through unescaped, the browser still runs this script alone.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _histogram(differences: list[float]) -> dict[str, Any] | None:
    """The bars of a histogram, those of A to the left; None without differences.

    Sentences that score the same are left out, because they are often the most.
    """
    if not differences:
        return None
    largest = max(map(abs, differences))
    step = next(step for step in (1, 2, 5, 10) if largest <= 10 * step or step == 10)
    bins = math.ceil(largest / step)
    counts = [0] * (2 * bins)
    for difference in differences:
        # Towards zero from either side, so that 5 is in 0 to 5 and -5 in -5 to 0.
        place = min(bins - 1, math.ceil(abs(difference) / step) - 1)
        counts[bins + place if difference > 0 else bins - 1 - place] += 1
    edges = [abs(i - bins) * step for i in range(2 * bins + 1)]
    bars = [
        {"count": count, "side": "ab"[i >= bins], "low": min(edges[i : i + 2]),
         "high": max(edges[i : i + 2])}
        for i, count in enumerate(counts)
    ]  # fmt: skip
    return {"bars": bars, "tallest": max(counts), "step": step, "largest": bins * step}
