"""Moses' text processing for machine translation, on top of sacremoses.

A thin layer makes sacremoses agree with Moses' own scripts where it does not: classes of
characters, the last word of a line, and rules of single languages. :class:`MosesEncoder` runs
them in the order of the usual recipe (and of the processed Multi30k files): lower case,
normalise punctuation, tokenise.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import regex
from sacremoses import MosesPunctNormalizer, MosesTokenizer
from sacremoses.corpus import NonbreakingPrefixes

from fairseq_cgc.inference.text.languages import is_language_code, short_code
from fairseq_cgc.support.errors import UserError

logger = logging.getLogger(__name__)

# Moses moves commas and full stops out of closing quotes for every language but these.
# sacremoses does it for German, Spanish and French alone.
_QUOTES_AS_THEY_ARE = ("cs", "cz", "en")

# sacremoses spells out Perl's classes of characters from an old Unicode, without most Chinese
# characters, for example. The longest come first, as one list may be part of another.
_CLASSES = {
    MosesTokenizer.IsAlnum: r"\p{Alphabetic}\p{Nd}",
    MosesTokenizer.IsAlpha: r"\p{Alphabetic}",
    MosesTokenizer.IsN: r"\p{N}",
}
_WORD = r"\p{Alphabetic}\p{Nd}\s.'`,\-"  # never set apart by the first rule
_SEPARATE = {  # characters to set apart where a language has its own rule
    # A colon or an apostrophe stays in its word before a lower-case letter.
    "fi": rf"([^{_WORD}:]|:(?!\p{{Ll}}))",
    "sv": rf"([^{_WORD}:]|:(?!\p{{Ll}}))",
    "tdt": rf"([^{_WORD}]|'(?!\p{{Ll}}))",
    "ca": rf"([^{_WORD}·])",
}
# The rule that moves full stops out of quotes starts anew at each dot of a run, which takes minutes
# for a line of dots. It need start only where a run does, or where the last match ended (\G).
_DOTS, _DOTS_FROM_THE_FIRST = r"(\.+)", r"(?:(?<!\.)|\G)(\.+)"
_APOSTROPHE_LEFT = ("ca", "fr", "ga", "it")  # l' homme
_APOSTROPHE_IN_WORDS = ("so", "tdt")


def lower(text: str) -> str:
    """Lower case as Perl's ``lc`` has it: the Greek capital sigma is σ also at the end of words."""
    return text.replace("Σ", "σ").lower()


def check_language(lang: str, option: str) -> None:
    """Check a language code; log a line if Moses has no list of abbreviations for it.

    Args:
        lang: see :mod:`fairseq_cgc.inference.text.languages`.
        option: the option that messages name, such as ``--lang``.

    Raises:
        UserError: if it does not look like a language code.
    """
    if not is_language_code(lang):
        raise UserError(
            f"{option} is {lang}, but must be a two- or three-letter code such as de, "
            "or one with a region or script such as zh_CN"
        )
    if short_code(lang) not in NonbreakingPrefixes().available_langs:
        logger.info("Moses has no list of abbreviations for %s; English's is used", lang)


class MosesEncoder:
    """Raw text to tokens, one line at a time.

    Args:
        lang: language code in any of the usual forms; it selects the rules for quotes, numbers,
            apostrophes and the list of abbreviations (English's where Moses has none).
        lowercase: lower-case the text first.
        normalize: normalise punctuation as ``normalize-punctuation.perl`` does.
        tokenize: tokenise, with XML escapes (``&apos;``) and without splitting dashes.
        strict: return exactly what ``tokenizer.perl`` prints today. The full stop of a line's last
            word is always a token then, spaces after a final ``.'`` are kept, and a line of
            white space alone comes back as it is. Otherwise abbreviations keep their full stop
            at the end too, as in the Moses of Multi30k's time, and spaces are tidied.
    """

    def __init__(
        self, lang: str, *, lowercase: bool, normalize: bool, tokenize: bool, strict: bool = False
    ) -> None:
        lang = short_code(lang)
        self.lowercase = lowercase
        self.strict = strict
        self._normalize = _punctuation_rules(lang) if normalize else []
        self._tokenizer = _Tokenizer(lang, split_last=strict) if tokenize else None

    def __call__(self, line: str) -> str:
        """The tokens of ``line``, separated by spaces."""
        if self.lowercase:
            line = lower(line)
        if self._normalize:
            # Perl's script works on lines with their newline, and one of its rules
            # (a full stop before a closing quote) needs a character after the quote.
            line += "\n"
            for pattern, replacement in self._normalize:
                line = pattern.sub(replacement, line)
            line = line.removesuffix("\n")
        if self.strict and regex.fullmatch(r"\s*", line):
            return line
        if self._tokenizer is not None:
            line = self._tokenizer.tokenize(
                line, aggressive_dash_splits=False, return_str=True, escape=True
            )
        # str.split() also removes the separators that would break a line for fairseq's reader.
        return line if self.strict else " ".join(line.split())


class _Tokenizer(MosesTokenizer):
    """sacremoses' tokeniser with Perl's classes of characters and the rules that it lacks."""

    # Unlike re's, regex's white space is Perl's: U+001C to U+001F are none.
    DEDUPLICATE_SPACE = regex.compile(r"\s+"), " "

    def __init__(self, lang: str, *, split_last: bool) -> None:
        super().__init__(lang)
        self._split_last = split_last
        # Not the parent's own attributes: it has built some anew for Chinese and Japanese.
        for name in ("PAD_NOT_ISALNUM", *(f"COMMA_SEPARATE_{number}" for number in (1, 2, 3))):
            setattr(self, name, _with_classes(getattr(MosesTokenizer, name)))
        left = [_with_classes(rule) for rule in MosesTokenizer.FR_IT_SPECIFIC_APOSTROPHE]
        # Without the last rule an apostrophe between letters stays.
        self.FR_IT_SPECIFIC_APOSTROPHE = left[:-1] if lang in _APOSTROPHE_IN_WORDS else left
        right = [_with_classes(rule) for rule in MosesTokenizer.ENGLISH_SPECIFIC_APOSTROPHE]
        self.ENGLISH_SPECIFIC_APOSTROPHE = right
        if lang in _SEPARATE:
            self.PAD_NOT_ISALNUM = regex.compile(_SEPARATE[lang]), r" \1 "
        if lang in (*_APOSTROPHE_LEFT, *_APOSTROPHE_IN_WORDS):
            self.lang = "fr"  # The parent asks this only for the rules of apostrophes.

    def handles_nonbreaking_prefixes(self, text: str) -> str:
        text = super().handles_nonbreaking_prefixes(text)
        if self._split_last and text.endswith(".") and not text.endswith(" ."):
            text = text[:-1] + " ."
        return text

    def islower(self, text: str) -> bool:
        return regex.fullmatch(r"\p{Lowercase}*", text) is not None

    def isanyalpha(self, text: str) -> bool:
        return regex.search(r"\p{Alphabetic}", text) is not None


def _with_classes(rule: tuple[re.Pattern[str], str]) -> tuple[Any, str]:
    pattern, replacement = rule
    text = pattern.pattern
    for characters, properties in _CLASSES.items():
        text = text.replace(characters, properties)
    return regex.compile(text), replacement


def _punctuation_rules(lang: str) -> list[tuple[Any, str]]:
    # perl_parity: sacremoses differs from the script on a lone typographic apostrophe otherwise.
    normalizer = MosesPunctNormalizer(
        lang, penn=True, norm_quote_commas=True, norm_numbers=True, perl_parity=True
    )
    rules = normalizer.substitutions
    if lang not in (*_QUOTES_AS_THEY_ARE, "de", "es", "fr"):
        rules = [*rules, *normalizer.DE_ES_FR_QUOTATION_FOLLOWED_BY_COMMA]
    # The script reads bytes, whose digits and white space are ASCII's.
    return [
        (regex.compile(pattern.replace(_DOTS, _DOTS_FROM_THE_FIRST), regex.ASCII), replacement)
        for pattern, replacement in rules
    ]
