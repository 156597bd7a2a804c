"""Moses' detokeniser: tokens back to text, as ``detokenizer.perl`` prints it.

That of sacremoses differs from the script in most languages (numbers and ``-li`` in Czech, case
endings in Finnish, contractions in English, white space) and is not used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import regex

from fairseq_cgc.inference.text.languages import short_code

# The order is Moses': the ampersand comes last, so that "&amp;lt;" becomes "&lt;".
_ESCAPES = (
    ("&bar;", "|"), ("&#124;", "|"), ("&lt;", "<"), ("&gt;", ">"), ("&bra;", "["), ("&ket;", "]"),
    ("&quot;", '"'), ("&apos;", "'"), ("&#91;", "["), ("&#93;", "]"), ("&amp;", "&"),
)  # fmt: skip

# Chinese, Japanese and Korean, in Moses' ranges.
_CJK = (
    "\u1100-\u11ff\u2e80-\ua4cf\ua840-\ua87f\uac00-\ud7af\uf900-\ufaff\ufe30-\ufe4f\uff65-\uffdc"
    "\U00020000-\U0002ffff"
)
_STARTS_CJK = regex.compile(f"[{_CJK}]")
_ENDS_CJK = regex.compile(rf"(?s:.*)[{_CJK}]")
_OPENING = regex.compile(r"[\p{Sc}(\[{¿¡]+")
_CLOSING = regex.compile(r"[,.?!:;\\%}\])]+")
_SPACED_IN_FRENCH = frozenset("?!:;\\%")
_QUOTES = regex.compile("['\"„“`]+")
_DOUBLE_QUOTES = regex.compile("[„“”]+")
_APOSTROPHE_AND_LETTER = regex.compile(r"'\p{Alphabetic}")
_ENDS_IN_LETTER_OR_DIGIT = regex.compile(r"(?s:.*)[\p{Alphabetic}\p{Nd}]")
_ENDS_IN_LETTER = regex.compile(r"(?s:.*)\p{Alphabetic}")
_ENDS_IN_ELISION = regex.compile(r"(?s:.*)\p{Alphabetic}'")
_STARTS_WITH_LETTER = regex.compile(r"\p{Alphabetic}")
_NUMBER = regex.compile("[0-9]+")
_AFTER_CZECH_DASH = regex.compile(r"li$|mail", regex.IGNORECASE)
_FINNISH_CASE = regex.compile(
    "(N|n|A|a|Ä|ä|[Ss]s[aä]|[Ss]t[aä]|[Hh]un|[Hh]yn|[Hh][aäö]n|[Uu]n|[Yy]n|[AaÄäÖö]n|[Ss]een"
    "|[Ll]l[aä]|[Ll]t[aä]|[Ll]le|[Kk]s[ie]|[Tt]ta|[Ii]ne)"
    "(ni|si|mme|nne|nsa)?(k[oö]|h[aä]n|p[aä]|kaan|kään|kin)?"
)


class MosesDecoder:
    """Turns a line of tokens into text: undoes XML escapes and attaches punctuation to its word.

    Args:
        lang: language code in any of the usual forms. Czech, English, Finnish, French, Italian
            and Korean have rules of their own.
    """

    def __init__(self, lang: str) -> None:
        self._lang = short_code(lang)

    def __call__(self, line: str) -> str:
        """Text of a line of tokens separated by spaces.

        As in Moses, a line of white space and one from ``<`` to ``>`` (markup) stay as they are.
        """
        if regex.fullmatch(r"\s*|<.+>", line):
            return line
        line = f" {line} ".replace(" @-@ ", "-")
        for escape, character in _ESCAPES:
            line = line.replace(escape, character)
        # The first word is empty, so that every other one has a word before it.
        words = line.rstrip(" ").split(" ")
        return regex.sub(" +", " ", self._join(words)).removeprefix(" ").removesuffix(" ")

    def _join(self, words: Sequence[str]) -> str:
        text, space = "", " "
        quotes: defaultdict[str, int] = defaultdict(int)
        skip = False
        for i, word in enumerate(words):
            if skip:  # a Czech dash, already written
                skip = False
                continue
            before = words[i - 1]
            glue_left = glue_right = False
            if _STARTS_CJK.match(word):
                glue_left = self._lang != "ko" and _ENDS_CJK.fullmatch(before) is not None
            elif _OPENING.fullmatch(word):
                glue_right = True
            elif _CLOSING.fullmatch(word):
                glue_left = True
                if self._lang == "fr" and word in _SPACED_IN_FRENCH:
                    text += " "
            elif self._belongs_to_the_word_before(words, i):
                glue_left = True
            elif self._belongs_to_the_word_behind(words, i):
                glue_right = True
            elif self._is_before_czech_dash(words, i):
                word += words[i + 1]
                glue_right = skip = True
            elif _QUOTES.fullmatch(word):
                kind = '"' if _DOUBLE_QUOTES.fullmatch(word) else word
                if self._lang == "cs" and word in ("„", "“"):  # always opening, mostly closing
                    quotes[kind] = int(word == "“")
                glue_left = quotes[kind] % 2 == 1
                # The apostrophe of "the Jones' house" is no quote.
                if not glue_left and self._lang == "en" and word == "'" and before.endswith("s"):
                    glue_left = True
                else:
                    quotes[kind] += 1
                    glue_right = not glue_left
            elif self._lang == "fi" and before.endswith(":") and _FINNISH_CASE.fullmatch(word):
                word, glue_left = word.lower(), True
            text += word if glue_left else space + word
            space = "" if glue_right else " "
        return text

    def _belongs_to_the_word_before(self, words: Sequence[str], i: int) -> bool:
        """English contractions (it 's) and Czech decimals (3 , 14)."""
        if self._lang == "en":
            return (
                _APOSTROPHE_AND_LETTER.match(words[i]) is not None
                and _ENDS_IN_LETTER_OR_DIGIT.fullmatch(words[i - 1]) is not None
            )
        return (
            self._lang == "cs"
            and words[i - 1] in (".", ",")
            and _NUMBER.fullmatch(words[i]) is not None
            and _NUMBER.fullmatch(words[i - 2]) is not None
        )

    def _belongs_to_the_word_behind(self, words: Sequence[str], i: int) -> bool:
        """French and Italian elisions (l' homme)."""
        return (
            self._lang in ("fr", "it")
            and i + 1 < len(words)
            and _ENDS_IN_ELISION.fullmatch(words[i]) is not None
            and _STARTS_WITH_LETTER.match(words[i + 1]) is not None
        )

    def _is_before_czech_dash(self, words: Sequence[str], i: int) -> bool:
        """Czech -li and e-mail, unless they end the line."""
        return (
            self._lang == "cs"
            and i + 3 < len(words)
            and _ENDS_IN_LETTER.fullmatch(words[i]) is not None
            and words[i + 1] in ("-", "–")
            and _AFTER_CZECH_DASH.match(words[i + 2]) is not None
        )
