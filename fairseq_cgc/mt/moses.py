"""Moses' text processing for machine translation, on top of sacremoses.

The order of the usual recipe (and of the processed Multi30k files) is lower case, normalise
punctuation, tokenise; :class:`MosesEncoder` keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sacremoses import MosesDetokenizer, MosesPunctNormalizer, MosesTokenizer

# Moses moves commas and full stops out of closing quotes for every language but these.
# sacremoses does it for German, Spanish and French alone.
_QUOTES_AS_THEY_ARE = ("cs", "cz", "en")


class MosesEncoder:
    """Raw text to tokens, one line at a time.

    Args:
        lang: two-letter language code; it selects the rules for quotes, numbers, apostrophes
            and the list of abbreviations (English's where Moses has none).
        lowercase: lower-case the text first.
        normalize: normalise punctuation as ``normalize-punctuation.perl`` does.
        tokenize: tokenise, with XML escapes (``&apos;``) and without splitting dashes.
    """

    def __init__(self, lang: str, *, lowercase: bool, normalize: bool, tokenize: bool) -> None:
        self.lowercase = lowercase
        self._normalizer = _punctuation_normalizer(lang) if normalize else None
        self._tokenizer = MosesTokenizer(lang) if tokenize else None

    def __call__(self, line: str) -> str:
        """Tokens of ``line`` joined by single spaces; no other white space is left in them."""
        if self.lowercase:
            line = line.lower()
        if self._normalizer is not None:
            # Perl's script works on lines with their newline, and one of its rules
            # (a full stop before a closing quote) needs a character after the quote.
            line = self._normalizer.normalize(line + "\n")
        if self._tokenizer is not None:
            line = self._tokenizer.tokenize(
                line, aggressive_dash_splits=False, return_str=True, escape=True
            )
        # str.split() also removes the separators that would break a line for fairseq's reader.
        return " ".join(line.split())


class MosesDecoder:
    """Tokens back to text: undoes the XML escapes and glues punctuation to its word."""

    def __init__(self, lang: str) -> None:
        self._detokenizer = MosesDetokenizer(lang)

    def __call__(self, line: str) -> str:
        """Text of a line of tokens separated by spaces."""
        tokens: Sequence[str] = line.split()
        return self._detokenizer.detokenize(tokens, return_str=True, unescape=True)


def _punctuation_normalizer(lang: str) -> MosesPunctNormalizer:
    # perl_parity: sacremoses differs from the script on a lone typographic apostrophe otherwise.
    normalizer = MosesPunctNormalizer(
        lang, penn=True, norm_quote_commas=True, norm_numbers=True, perl_parity=True
    )
    if lang not in (*_QUOTES_AS_THEY_ARE, "de", "es", "fr"):
        normalizer.substitutions += normalizer.DE_ES_FR_QUOTATION_FOLLOWED_BY_COMMA
    return normalizer
