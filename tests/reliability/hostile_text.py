"""Hostile text: tokens, subwords, translation, and a translation that is interrupted."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

import hostile_inputs as hostile
from hypothesis import strategies as st
from surroundings import (
    Lost,
    Surroundings,
    ends_clearly,
)
from target import Target

from fairseq_cgc.inference.files import translate_file
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.inference.text.detokenizer import MosesDecoder
from fairseq_cgc.inference.text.lines import read_lines
from fairseq_cgc.inference.text.moses import MosesEncoder
from fairseq_cgc.inference.text.subwords import MODEL_FILES, Subwords, learn
from fairseq_cgc.inference.translator import Translator

LANGUAGES = ["de", "en", "fr", "fi", "cs", "zh", "ja", "ca", "so", "tdt", "xx"]


def _one_line(text: str, what: str) -> str:
    if "\n" in text:
        raise Lost(f"{what} has a newline: {text!r}")
    return text


@functools.cache
def _tokenizer(lang: str, lowercase: bool, normalize: bool, strict: bool) -> MosesEncoder:
    return MosesEncoder(
        lang, lowercase=lowercase, normalize=normalize, tokenize=True, strict=strict
    )


_decoder = functools.cache(MosesDecoder)


def _tokenise(place: Surroundings, case: tuple[str, str, bool, bool, bool]) -> bool:
    line, lang, *flags = case
    tokens = _one_line(_tokenizer(lang, *flags)(line), "the tokens")
    strict = flags[2]
    if not strict and tokens != " ".join(tokens.split()):
        raise Lost(f"white space other than single spaces in {tokens!r}")
    _one_line(_decoder(lang)(tokens), "the text")
    return True


TOKENS = Target(
    st.tuples(
        hostile.lines, st.sampled_from(LANGUAGES), st.booleans(), st.booleans(), st.booleans()
    ),
    _tokenise,
    26,
)


@functools.cache
def _subwords(folder: Path, kind: str) -> Subwords:
    text, model = folder / "subword-text", folder / MODEL_FILES[kind]
    text.write_text("der hund sieht den ball . a a b\n" * 5, encoding="utf-8")
    learn(kind, [text], 40, model)
    return Subwords.load(model)


def _split(place: Surroundings, case: tuple[str, str]) -> bool:
    line, kind = case
    tokens = " ".join(line.split())
    model = _subwords(place.folder, kind)
    subwords = _one_line(model.encode(tokens), "the subwords")
    text = _one_line(model.decode(subwords), "the text")
    if kind == "subword_nmt" and "@@" not in tokens and text != tokens:
        raise Lost(f"{tokens!r} does not come back from its subwords")
    return True


SUBWORDS = Target(st.tuples(hostile.lines, st.sampled_from(list(MODEL_FILES))), _split, 8)


@functools.cache
def _translator(place: Surroundings, beam: int, batch_size: int | None) -> Translator:
    options = SearchOptions(beam=beam, batch_size=batch_size, cpu=True)
    return Translator(place.checkpoint, place.data, options)


def _translate(place: Surroundings, case: tuple[list[str], int, int | None, int]) -> bool:
    lines, beam, batch_size, buffer_size = case
    translator = _translator(place, beam, batch_size)
    found: list[str] = []

    def act() -> None:
        found.extend(translator.translate(lines, buffer_size=buffer_size))

    if not ends_clearly(act):
        raise Lost("text has no error that a user could mend")
    if len(found) != len(lines):
        raise Lost(f"{len(found)} translations of {len(lines)} lines")
    for line, translation in zip(lines, found, strict=True):
        _one_line(translation, "the translation")
        if not line.strip() and translation:
            raise Lost(f"{translation!r} from an empty line")
    return True


TRANSLATION = Target(
    st.tuples(
        st.lists(hostile.lines, max_size=4),
        st.sampled_from([1, 1, 2]),
        st.sampled_from([None, 1, 2]),
        st.sampled_from([1, 2, 256]),
    ),
    _translate,
    6,
)


class Reversing:
    """Stands for a translator; stops at a line."""

    def __init__(self, stops_at: int | None = None) -> None:
        self.stops_at = stops_at

    def translate(
        self, lines: Iterator[str], *, buffer_size: int, first_line: int = 1
    ) -> Iterator[str]:
        for number, line in enumerate(lines, start=first_line):
            if number == self.stops_at:
                raise KeyboardInterrupt
            yield line[::-1].replace("\r", "\x0b")


def _resume(place: Surroundings, case: tuple[list[str], list[int], list[int]]) -> bool:
    lines, stops, cuts = case
    folder = place.fresh()
    text, output, partial = folder / "text", folder / "out", folder / "out.partial"
    text.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")
    for stop, cut in zip(stops, cuts, strict=False):
        with contextlib.suppress(KeyboardInterrupt):
            translate_file(Reversing(stop), text, output, partial, buffer_size=2)
            break
        whole = partial.read_bytes()
        partial.write_bytes(whole[: max(0, len(whole) - cut)])  # as if killed in a line
    if not output.exists():
        translate_file(Reversing(), text, output, partial, buffer_size=2)
    wanted = "".join(line + "\n" for line in Reversing().translate(read_lines(text), buffer_size=1))
    if output.read_bytes() != wanted.encode() or partial.exists():
        raise Lost("lines are lost, doubled or changed")
    return True


RESUMPTION = Target(
    st.tuples(
        st.lists(hostile.odd_text, max_size=12),
        st.lists(st.integers(1, 13), max_size=4),
        st.lists(st.integers(0, 40), max_size=4),
    ),
    _resume,
    6,
)
