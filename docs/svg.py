"""Boxes, words and arrows of an SVG picture, for the scripts beside this file."""

from __future__ import annotations

from html import escape

_STYLE = (
    "text{font-family:Helvetica,Arial,'DejaVu Sans',sans-serif;fill:#1b1f24;text-anchor:middle}"
    ".small{font-size:12px;fill:#57606a}.bold{font-weight:bold}"
)
_ARROWHEAD = (
    '<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
    'orient="auto"><path d="M0 0L10 5L0 10z" fill="{colour}"/></marker>'
)


class Picture:
    """An SVG picture on white.

    Args:
        width: in pixels.
        height: in pixels.
        title: what the picture shows, for readers that cannot see it.
    """

    def __init__(self, width: int, height: int, title: str) -> None:
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">'
        )
        self._title = f"<title>{escape(title)}</title>"
        self._shapes = [f'<rect width="{width}" height="{height}" fill="#fff"/>']
        self._colours: list[str] = []

    def box(
        self, x: float, y: float, width: float, height: float, lines: list[str], colour: str
    ) -> None:
        """A box with its centre at ``x``, ``y``; the first line is bold."""
        self._shapes.append(
            f'<rect x="{x - width / 2:g}" y="{y - height / 2:g}" width="{width:g}" '
            f'height="{height:g}" rx="6" fill="{colour}" stroke="#57606a"/>'
        )
        for number, line in enumerate(lines):
            place = y + 5 + 17 * (number - (len(lines) - 1) / 2)
            self.text(x, place, line, "bold" if number == 0 else "small")

    def text(self, x: float, y: float, text: str, kind: str = "small") -> None:
        """A line of text around ``x``; ``kind`` is ``small`` or ``bold``."""
        size = ' font-size="14"' if kind == "bold" else ""
        self._shapes.append(f'<text x="{x:g}" y="{y:g}" class="{kind}"{size}>{escape(text)}</text>')

    def arrow(self, points: list[tuple[float, float]], colour: str = "#57606a") -> None:
        """A line through ``points``, with a head at the last one."""
        if colour not in self._colours:
            self._colours.append(colour)
        path = "L".join(f"{x:g} {y:g}" for x, y in points)
        self._shapes.append(
            f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5" '
            f'marker-end="url(#head{self._colours.index(colour)})"/>'
        )

    def grid(self, x: float, y: float, shades: list[list[float]], cell: int, colour: str) -> None:
        """A matrix with its top left corner at ``x``, ``y``; each value is an opacity, 0 to 1."""
        for row, values in enumerate(shades):
            for column, value in enumerate(values):
                self._shapes.append(
                    f'<rect x="{x + cell * column:g}" y="{y + cell * row:g}" width="{cell}" '
                    f'height="{cell}" fill="{colour}" fill-opacity="{value:.2f}" stroke="#d0d7de"/>'
                )

    def __str__(self) -> str:
        heads = "".join(
            _ARROWHEAD.format(name=f"head{i}", colour=c) for i, c in enumerate(self._colours)
        )
        rows = [
            self._head,
            self._title,
            f"<style>{_STYLE}</style><defs>{heads}</defs>",
            *self._shapes,
            "</svg>",
        ]
        return "\n".join(rows) + "\n"
