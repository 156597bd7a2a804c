"""Installed fonts for the characters of a text, as matplotlib finds them."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator
from pathlib import Path

#: matplotlib's own font, which is the same wherever a figure is drawn.
STANDARD = "DejaVu Sans"


def families_for(text: str) -> tuple[list[str], str]:
    """The font families that show ``text``, and its characters that no installed font has.

    The standard font comes first; others follow for the characters that it lacks.
    """
    families, missing = [STANDARD], []
    for character in dict.fromkeys(text):
        if _is_invisible(character) or any(_has(family, character) for family in families):
            continue
        family = _family_with(character)
        if family is None:
            missing.append(character)
        else:
            families.append(family)
    return families, "".join(missing)


def _is_invisible(character: str) -> bool:
    """Whether it only changes its neighbours: joiners, marks of direction, variation selectors."""
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cf", "Zs") or "VARIATION SELECTOR" in unicodedata.name(character, "")


@functools.cache
def _family_with(character: str) -> str | None:
    from matplotlib import font_manager

    for family in _families():
        if _has(family, character):
            return family
    # matplotlib keeps a list of fonts and does not notice new ones.
    known = {str(entry.fname) for entry in font_manager.fontManager.ttflist}
    for path in sorted({*font_manager.findSystemFonts()} - known):
        try:
            font_manager.fontManager.addfont(path)
        except (OSError, RuntimeError):  # not a font that FreeType reads
            continue
        family = font_manager.fontManager.ttflist[-1].name
        if _has(family, character):
            return family
    return None


def _families() -> Iterator[str]:
    """Installed families; those without serifs first."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    # matplotlib's fonts for formulas have other characters at Unicode's places, or boxes only.
    own = Path(matplotlib.get_data_path())
    names = {entry.name for entry in fontManager.ttflist if own not in Path(entry.fname).parents}
    yield from sorted(names, key=lambda name: ("Sans" not in name, name))


@functools.cache
def _has(family: str, character: str) -> bool:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    try:
        font = get_font(findfont(FontProperties(family=[family]), fallback_to_default=False))
        if not font.get_char_index(ord(character)):
            return False
        font.set_size(10, 100)  # fails for fonts of bitmaps, such as those of coloured emoji
        font.load_char(ord(character))
    except (OSError, RuntimeError, ValueError):
        return False
    return True
