"""Language codes: from the many forms of a code to the short one that selects the rules."""

from __future__ import annotations

import re

#: ISO 639-2 (T and B) and 639-3 codes, and common slips, of the languages for which Moses or
#: sacreBLEU has rules. Every other language is treated alike, whatever its code.
_SHORT = {
    "asm": "as", "ben": "bn", "cat": "ca", "ces": "cs", "cze": "cs", "cz": "cs", "deu": "de",
    "ger": "de", "ell": "el", "gre": "el", "eng": "en", "spa": "es", "est": "et", "ekk": "et",
    "fin": "fi", "fra": "fr", "fre": "fr", "gle": "ga", "guj": "gu", "hin": "hi", "hun": "hu",
    "isl": "is", "ice": "is", "ita": "it", "jpn": "ja", "jp": "ja", "kan": "kn", "kor": "ko",
    "lit": "lt", "lav": "lv", "lvs": "lv", "mal": "ml", "mar": "mr", "nld": "nl", "dut": "nl",
    "ori": "or", "ory": "or", "pan": "pa", "pol": "pl", "por": "pt", "ron": "ro", "rum": "ro",
    "rus": "ru", "slk": "sk", "slo": "sk", "slv": "sl", "som": "so", "swe": "sv", "tam": "ta",
    "tel": "te", "tet": "tdt", "zho": "zh", "chi": "zh", "cmn": "zh", "cn": "zh",
}  # fmt: skip


def is_language_code(text: str) -> bool:
    """Whether ``text`` looks like a code: ``de``, ``deu``, ``de-AT``, ``en_XX``, ``zho_Hans``."""
    return re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*", text) is not None


def short_code(code: str) -> str:
    """The short code of a language: ``zh`` for ``zh_CN``, ``zho_Hans`` and ``CMN``.

    Script and region are dropped, three letters become two where ISO 639-1 has two.
    """
    language = re.split(r"[-_.@]", code.strip().lower(), maxsplit=1)[0]
    return _SHORT.get(language, language)
