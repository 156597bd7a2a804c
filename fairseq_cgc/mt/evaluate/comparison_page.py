"""A comparison of two systems as one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

import base64
import hashlib
import html
import math
from pathlib import Path
from string import Template

from fairseq_cgc.mt.evaluate.comparison import Comparison, Sentence
from fairseq_cgc.mt.evaluate.word_diff import Piece, mark

#: Characters; a longer text gets a box of its own that scrolls.
LONG_LINE = 1500

_FOLDER = Path(__file__).resolve().parent
_TEST_NOTES = {
    "bootstrap": "p is sacreBLEU's paired bootstrap, which is in effect one-sided; approximate "
    "randomisation is two-sided and stricter.",
    "approximate-randomization": "p is sacreBLEU's approximate randomisation (two-sided).",
}


def comparison_page(comparison: Comparison, *, top: int = 50, target_lang: str = "") -> str:
    """The page as text, to be written as UTF-8.

    Args:
        comparison: see :func:`compare`.
        top: how many sentences to show, those that differ the most.
        target_lang: language code of the translations, for fonts and screen readers.
    """
    name_a, name_b = map(_text, comparison.names)
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    shown = comparison.most_different(top)
    values = {
        "title": f"{name_a} against {name_b}",
        "heading": f'<span class="a">{name_a}</span> against <span class="b">{name_b}</span>',
        "summary": _summary(comparison),
        "verdict": _text(comparison.verdict),
        "notes": "\n".join(f'<p class="note">{_text(note)}</p>' for note in comparison.notes),
        "scores": _score_table(comparison),
        "test_note": _TEST_NOTES[comparison.test],
        "signatures": "\n".join(
            f'<p class="quiet">{test.metric}: <code>{_text(test.signature)}</code></p>'
            for test in comparison.tests
        ),
        "histogram": _histogram(comparison),
        "groups": _group_table(comparison),
        "top_heading": _top_heading(len(shown)),
        "legend": _legend(name_a, name_b) if shown else "",
        "name_a": name_a,
        "name_b": name_b,
        "pairs": "\n".join(_pair(sentence, comparison, target_lang) for sentence in shown),
        "style": (_FOLDER / "page.css").read_text(encoding="utf-8"),
        "script": script,
        # Should text ever slip through unescaped, the browser still runs this script alone.
        "script_hash": "sha256-" + base64.b64encode(_sha256(script)).decode(),
    }
    return Template((_FOLDER / "page.html").read_text(encoding="utf-8")).substitute(values)


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _text(text: str) -> str:
    # HTML has no way to write the null character.
    return html.escape(text.replace("\0", "\ufffd"))


def _summary(comparison: Comparison) -> str:
    differences = [sentence.difference for sentence in comparison.sentences]
    better_a, better_b = (sum(sign * d > 0 for d in differences) for sign in (-1, 1))
    name_a, name_b = map(_text, comparison.names)
    case = "without regard to case" if comparison.lowercase else "with regard to case"
    return (
        f"{len(differences):,} sentences, compared {case}. By chrF2 of the single sentence, "
        f"{name_a} is better in {better_a:,}, {name_b} in {better_b:,}; "
        f"{len(differences) - better_a - better_b:,} score the same."
    )


def _score_table(comparison: Comparison) -> str:
    name_a, name_b = map(_text, comparison.names)
    rows = "\n".join(
        f'<tr><th scope="row">{metric}</th>'
        f"<td>{_interval_below(a)}</td><td>{_interval_below(b)}</td>"
        f"<td>{_minus(difference)}</td><td>{_text(p)}</td></tr>"
        for metric, a, b, difference, p in comparison.rows()
    )
    return (
        '<table><thead><tr><td></td><th scope="col" class="a">'
        f'{name_a}</th><th scope="col" class="b">{name_b}</th>'
        '<th scope="col">difference</th><th scope="col">p</th></tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table>"
    )


def _interval_below(cell: str) -> str:
    score, _, interval = cell.partition(" ")
    return f"{score}<small>{interval}</small>" if interval else score


def _minus(number: str) -> str:
    return number.replace("-", "\N{MINUS SIGN}")


def _histogram(comparison: Comparison) -> str:
    """Number of sentences by difference; the equal ones are left out, being often the most."""
    differences = [s.difference for s in comparison.sentences if s.difference != 0]
    if not differences:
        return "<p>No sentence scores differently.</p>"
    largest = max(map(abs, differences))
    step = next(step for step in (1, 2, 5, 10) if largest <= 10 * step or step == 10)
    bins = math.ceil(largest / step)
    counts = [0] * (2 * bins)
    for difference in differences:
        # Towards zero from either side, so that 5 is in 0 to 5 and -5 in -5 to 0.
        place = min(bins - 1, math.ceil(abs(difference) / step) - 1)
        counts[bins + place if difference > 0 else bins - 1 - place] += 1

    width, height, left, bottom = 480, 240, 44, 200
    room = (width - left - 8) / len(counts)
    tallest = max(counts)
    parts = [
        f'<line class="axis" x1="{left}" y1="{bottom}" x2="{width - 8}" y2="{bottom}"/>',
        f'<line class="grid" x1="{left}" y1="20" x2="{width - 8}" y2="20"/>',
        f'<text x="{left - 6}" y="25" text-anchor="end">{tallest:,}</text>',
        f'<text x="{left - 6}" y="{bottom + 5}" text-anchor="end">0</text>',
    ]
    names = comparison.names
    for i, count in enumerate(counts):
        low, side = (i - bins) * step, "a" if i < bins else "b"
        size = 180 * count / tallest
        parts.append(
            f'<rect class="{side}" x="{left + i * room + 1:.1f}" y="{bottom - size:.1f}" '
            f'width="{room - 2:.1f}" height="{size:.1f}"><title>'
            f"{count:,} sentences: {_text(names[side == 'b'])} better by "
            f"{min(abs(low), abs(low + step))} to {max(abs(low), abs(low + step))}</title></rect>"
        )
    for value in (-bins * step, 0, bins * step):
        x = left + (value / step + bins) * room
        anchor = {-bins * step: "start", 0: "middle"}.get(value, "end")
        label = _minus(f"{value:+d}") if value else "0"
        parts.append(f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="{anchor}">{label}</text>')
    drawing = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Number of sentences by '
        f'difference in chrF2, from {-bins * step} to {bins * step}">\n{drawing}\n</svg>\n'
        '<p class="quiet">Sentences by difference in chrF2: '
        f'<span class="a">left, {_text(names[0])} better</span>; '
        f'<span class="b">right, {_text(names[1])} better</span>. '
        f"Bars are {step} wide; sentences that score the same are left out.</p>"
    )


def _group_table(comparison: Comparison) -> str:
    """BLEU by length of the reference; the bars share one scale."""
    scale = max((score for group in comparison.groups for score in group.bleu), default=0) or 1
    name_a, name_b = map(_text, comparison.names)
    rows = []
    for group in comparison.groups:
        bars = "".join(
            f'<div class="bar {side}" style="width:{100 * score / scale:.1f}%"></div>'
            for side, score in zip("ab", group.bleu, strict=True)
        )
        lengths = f"{group.shortest}\N{EN DASH}{group.longest}"
        rows.append(
            f'<tr><th scope="row">{lengths if group.shortest != group.longest else group.longest}'
            f"</th><td>{group.sentences:,}</td><td>{group.bleu[0]:.1f}</td>"
            f"<td>{group.bleu[1]:.1f}</td>"
            f"<td>{_minus(f'{group.bleu[1] - group.bleu[0]:+.1f}')}</td>"
            f'<td class="chart">{bars}</td></tr>'
        )
    body = "\n".join(rows)
    return (
        '<div class="scroll"><table class="bars"><thead>'
        '<tr><th scope="col">tokens</th><th scope="col">sentences</th>'
        f'<th scope="col" class="a">{name_a}</th><th scope="col" class="b">{name_b}</th>'
        '<th scope="col">difference</th><td class="chart"></td></tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>\n"
        '<p class="quiet">BLEU of the sentences whose references have so many tokens.</p>'
    )


def _top_heading(shown: int) -> str:
    if shown == 0:
        return "No sentence scores differently"
    return "The sentence that differs" if shown == 1 else f"The {shown} sentences that differ most"


def _legend(name_a: str, name_b: str) -> str:
    return (
        '<ul class="legend quiet">'
        f'<li><mark class="only-a">word</mark> of the reference that only {name_a} has</li>'
        f'<li><mark class="only-b">word</mark> of the reference that only {name_b} has</li>'
        '<li><mark class="none">word</mark> of the reference that neither has</li>'
        '<li><mark class="wrong">word</mark> that is not in the reference</li></ul>'
    )


def _pair(sentence: Sentence, comparison: Comparison, target_lang: str) -> str:
    """One sentence in all its versions."""
    better = "b" if sentence.difference > 0 else "a"
    names = dict(zip("ab", map(_text, comparison.names), strict=True))
    scores = {"a": sentence.score_a, "b": sentence.score_b}
    marked = mark(sentence.reference, sentence.a, sentence.b, lowercase=comparison.lowercase)
    tag = target_lang.replace("_", "-")  # HTML writes zh-CN
    language = f' lang="{_text(tag)}"' if tag else ""
    texts = [
        (
            "Reference",
            "half" if sentence.source is not None else "wide",
            language,
            marked.reference,
        ),
        (names["a"], "a", language, marked.a),
        (names["b"], "b", language, marked.b),
    ]
    if sentence.source is not None:
        texts.insert(0, ("Source", "half", "", [Piece(sentence.source, "both")]))
    rows = [
        f'<div class="{kind}"><dt>{title}</dt><dd dir="auto"{lang}{_box(pieces)}>'
        f"{_pieces(pieces)}</dd></div>"
        for title, kind, lang, pieces in texts
    ]
    head = "".join(f'<p class="{side}">{names[side]} {scores[side]:.1f}</p>' for side in "ab")
    return "\n".join(
        [
            f'<article class="pair" id="line-{sentence.number}" data-better="{better}">',
            f'<header><h3><a href="#line-{sentence.number}">Line {sentence.number:,}</a></h3>{head}'
            f"<p><strong>{names[better]} +{abs(sentence.difference):.1f}</strong></p></header>",
            '<dl class="texts">',
            *rows,
            "</dl>",
            "</article>",
        ]
    )


def _box(pieces: list[Piece]) -> str:
    """Attributes of a text: a very long one scrolls, also by keyboard."""
    long = sum(len(piece.text) for piece in pieces) > LONG_LINE
    return ' class="long" tabindex="0"' if long else ""


def _pieces(pieces: list[Piece]) -> str:
    classes = {"a": "only-a", "b": "only-b", "none": "none", "wrong": "wrong"}
    if not any(piece.text.strip() for piece in pieces):
        return '<span class="empty">(empty)</span>'
    return "".join(
        _text(piece.text)
        if piece.kind == "both"
        else f'<mark class="{classes[piece.kind]}">{_text(piece.text)}</mark>'
        for piece in pieces
    )
