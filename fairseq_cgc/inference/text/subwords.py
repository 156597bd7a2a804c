"""Subword models: joint BPE with subword-nmt (the paper's) or with sentencepiece."""

from __future__ import annotations

import io
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import sentencepiece
from subword_nmt.apply_bpe import BPE
from subword_nmt.learn_bpe import learn_bpe

from fairseq_cgc.inference.text.lines import read_lines
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import new_file

#: File name of each kind's model; the name tells :meth:`Subwords.load` the kind.
MODEL_FILES = {"subword_nmt": "code", "sentencepiece": "sentencepiece.bpe.model"}


class Subwords(ABC):
    """A learned splitting of tokens into subwords; made with :meth:`load`."""

    kind: str
    """``subword_nmt`` or ``sentencepiece``."""

    @staticmethod
    def load(path: Path) -> Subwords:
        """Read a model by its file name (see :data:`MODEL_FILES`).

        Raises:
            UserError: if the file is missing or not such a model.
        """
        classes: dict[str, Callable[[Path], Subwords]] = {
            MODEL_FILES["subword_nmt"]: _SubwordNMT,
            MODEL_FILES["sentencepiece"]: _SentencePiece,
        }
        if path.name not in classes:
            raise UserError(
                f"{path}: the file of a subword model must be called {' or '.join(classes)}"
            )
        if not path.is_file():
            raise UserError(f"{path}: subword model not found")
        return classes[path.name](path)

    @abstractmethod
    def encode(self, line: str) -> str:
        """Subwords of ``line``, separated by spaces."""

    def decode(self, line: str) -> str:
        """Undo :meth:`encode`; also for a model's output that breaks off within a word."""
        return remove_subwords(line, self.kind)


def remove_subwords(line: str, kind: str | None) -> str:
    """Join the subwords of a line, as fairseq's ``--remove-bpe`` does; None joins nothing."""
    if kind is None:
        return line
    if kind == "sentencepiece":
        return line.replace(" ", "").replace("\u2581", " ").strip()
    return (line + " ").replace("@@ ", "").rstrip()


class _SubwordNMT(Subwords):
    kind = "subword_nmt"

    #: Number of words whose subwords are cached; subword-nmt's own cache has no limit.
    CACHED = 100_000
    #: Longer words are split into pieces of so many characters, each a second or two of work:
    #: subword-nmt's time for a word grows with the square of its length.
    AT_ONCE = 16_000

    def __init__(self, path: Path) -> None:
        try:
            with path.open(encoding="utf-8", newline="\n") as stream:
                self._bpe = BPE(stream)
        except (SystemExit, ValueError) as error:  # subword-nmt exits at a malformed line
            raise UserError(f"{path}: not a BPE code file of subword-nmt") from error

    def encode(self, line: str) -> str:
        if len(self._bpe.cache) > self.CACHED:
            self._bpe.cache.clear()
        words = line.split(" ")
        if max(map(len, words)) <= self.AT_ONCE:
            return self._bpe.process_line(line)
        return " ".join(
            "@@ ".join(map(self._bpe.process_line, self._pieces(word))) for word in words if word
        )

    def _pieces(self, word: str) -> list[str]:
        return [word[i : i + self.AT_ONCE] for i in range(0, len(word), self.AT_ONCE)]


class _SentencePiece(Subwords):
    kind = "sentencepiece"

    def __init__(self, path: Path) -> None:
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise UserError(f"{path}: not a sentencepiece model") from error

    def encode(self, line: str) -> str:
        line = line.encode(errors="replace").decode()  # sentencepiece takes no half characters
        return " ".join(self._processor.encode(line, out_type=str))


def learn(kind: str, texts: Sequence[Path], size: int, model: Path) -> None:
    """Learn one model on all ``texts`` together and write it to ``model``, all or nothing.

    Args:
        kind: ``subword_nmt`` or ``sentencepiece``.
        texts: plain UTF-8 files of space-separated tokens.
        size: merges (``subword_nmt``) or pieces (``sentencepiece``); fewer if the text has no
            more of them.
        model: the file to write; it must carry the name that :data:`MODEL_FILES` gives.

    Raises:
        UserError: if ``size`` is not positive or too small for the characters of the text, or the
            text is too small to learn anything.
    """
    if size < 1:
        raise UserError(f"--bpe-size is {size}, but must be positive")
    with new_file(model) as partial:
        if kind == "sentencepiece":
            partial.write_bytes(_learn_sentencepiece(texts, size))
        else:
            partial.write_text(_learn_subword_nmt(texts, size), encoding="utf-8", newline="\n")


def _learn_subword_nmt(texts: Sequence[Path], size: int) -> str:
    codes = io.StringIO()
    try:
        learn_bpe(_lines(texts), codes, size)
    except ValueError as error:  # no two characters in a row
        raise _too_small(texts) from error
    if codes.getvalue().count("\n") < 2:  # only the version line
        raise _too_small(texts)
    return codes.getvalue()


def _learn_sentencepiece(texts: Sequence[Path], size: int) -> bytes:
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(texts),
            model_writer=model,
            vocab_size=size,
            hard_vocab_limit=False,
            model_type="bpe",
            character_coverage=1.0,
            # The pipeline has normalised the text; pieces must give it back unchanged.
            normalization_rule_name="identity",
            num_threads=1,  # the result must not depend on the machine
            minloglevel=2,
        )
    except (RuntimeError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--bpe-size {size} does not suit {texts[0]}: {reason}") from error
    return model.getvalue()


def _lines(texts: Sequence[Path]) -> Iterator[str]:
    return itertools.chain.from_iterable(map(read_lines, texts))


def _too_small(texts: Sequence[Path]) -> UserError:
    names = ", ".join(map(str, texts))
    return UserError(f"{names}: too little text to learn subwords (nothing occurs twice)")
