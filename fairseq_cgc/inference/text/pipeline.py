"""How raw text was turned into the subwords of a data folder, and the way back.

The description is saved as ``preparation.json`` in the folder that ``fairseq-train`` reads,
beside the subword model and the raw evaluation text, so that the folder alone suffices to
translate raw text and to score against untouched references.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_origin, get_type_hints

from fairseq_cgc.inference.text.detokenizer import MosesDecoder
from fairseq_cgc.inference.text.lines import LineFunction, map_lines, read_lines
from fairseq_cgc.inference.text.subwords import MODEL_FILES, Subwords, remove_subwords
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import write_json

PREPARATION_FILE = "preparation.json"
TOKENIZERS = ("moses", "none")


@dataclass(frozen=True)
class TextPipeline:
    """Raw text -> lower case -> normalised punctuation -> tokens -> subwords, and back."""

    source_lang: str
    target_lang: str
    tokenizer: str
    """``moses``, or ``none`` for text whose tokens are already separated by spaces."""
    normalize: bool
    """Whether punctuation is normalised as Moses does."""
    lowercase: bool
    subwords: str
    """``subword_nmt`` or ``sentencepiece``."""
    subword_model: str
    """File name of the subword model in the data folder."""
    joined_dictionary: bool
    raw: dict[str, dict[str, str]] = field(default_factory=dict)
    """Split -> language -> file of the raw text, relative to the data folder."""
    lowercase_last: bool = False
    """Whether text is lower-cased after the other steps instead of before them."""
    straight_apostrophes: bool = False
    """Whether typographic apostrophes (’) are made straight before everything else."""
    strict_tokenizer: bool = False
    """Whether tokens are exactly those of today's Moses; see :class:`MosesEncoder`."""
    data_dir: Path = Path()
    """The folder it was loaded from; not saved, so that the folder can be moved."""

    def __post_init__(self) -> None:
        for name, allowed in (("tokenizer", TOKENIZERS), ("subwords", tuple(MODEL_FILES))):
            if getattr(self, name) not in allowed:
                raise UserError(
                    f"{name} is {getattr(self, name)!r}, but must be {' or '.join(allowed)}"
                )
        for name, hint in get_type_hints(type(self)).items():
            kind = get_origin(hint) or hint
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"{name} is {getattr(self, name)!r}, but must be {kind.__name__}")
        for files in self.raw.values():
            if not isinstance(files, dict) or not all(isinstance(f, str) for f in files.values()):
                raise TypeError(f"raw has {files!r}, but must map splits to languages to files")

    @classmethod
    def load(cls, data_dir: Path | str) -> TextPipeline:
        """Read the description in a data folder.

        Raises:
            UserError: if there is none, or it is damaged.
        """
        path = Path(data_dir) / PREPARATION_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(**values, data_dir=Path(data_dir))
        except FileNotFoundError as error:
            raise UserError(
                f"{data_dir} has no {PREPARATION_FILE}; fairseq-cgc prepare OUT makes "
                "folders that have one, as OUT/bin"
            ) from error
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
        except (TypeError, ValueError, RecursionError) as error:
            raise UserError(f"{path}: damaged ({error})") from error

    def save(self, data_dir: Path | str) -> None:
        """Write the description into ``data_dir``."""
        values = dataclasses.asdict(self)
        del values["data_dir"]
        write_json(Path(data_dir) / PREPARATION_FILE, values)

    def file(self, name: str) -> Path:
        """Path of a file whose name is relative to the data folder."""
        return self.data_dir / name

    def tokenize(self, lines: Iterable[str], lang: str, workers: int = 1) -> Iterator[str]:
        """Raw lines of a language to lines of tokens, not yet split into subwords."""
        return map_lines(functools.partial(_token_encoder, self, lang), lines, workers)

    def encoder(self, lang: str) -> LineFunction:
        """A function from a raw line of a language to its subwords."""
        tokenize = _token_encoder(self, lang)
        split = Subwords.load(self.file(self.subword_model)).encode
        return lambda line: split(tokenize(line))

    def decoder(self) -> LineFunction:
        """A function from subwords of the target language to plain text; case is not restored."""
        detokenize = MosesDecoder(self.target_lang) if self.tokenizer == "moses" else str
        return lambda line: detokenize(self.remove_subwords(line))

    def remove_subwords(self, line: str) -> str:
        """Join the subwords of one line to tokens."""
        return remove_subwords(line, self.subwords)

    def reference_lines(self, split: str, lang: str) -> list[str] | None:
        """The raw lines of an evaluation split, or None if the folder has no such text."""
        name = self.raw.get(split, {}).get(lang)
        return None if name is None else list(read_lines(self.file(name)))


def _token_encoder(pipeline: TextPipeline, lang: str) -> LineFunction:
    # Only here: sacremoses takes a fifth of a second to import.
    from fairseq_cgc.inference.text.moses import MosesEncoder, lower

    lower_last = pipeline.lowercase and pipeline.lowercase_last
    tokenize = MosesEncoder(
        lang,
        lowercase=pipeline.lowercase and not lower_last,
        normalize=pipeline.normalize,
        tokenize=pipeline.tokenizer == "moses",
        strict=pipeline.strict_tokenizer,
    )

    def encode(line: str) -> str:
        if not line.strip():
            return ""
        if pipeline.straight_apostrophes:
            line = line.replace("’", "'")
        tokens = tokenize(line)
        return lower(tokens) if lower_last else tokens

    return encode


def find_pipeline(data_dir: Path, pair: tuple[str, str]) -> TextPipeline | None:
    """How the text in ``data_dir`` was prepared, in the model's direction; None if it does not say.

    The folder of a language pair serves models of both directions.

    Raises:
        UserError: if its languages are not the model's, or the description is damaged.
    """
    if not (data_dir / PREPARATION_FILE).exists():
        return None
    pipeline = TextPipeline.load(data_dir)
    languages = (pipeline.source_lang, pipeline.target_lang)
    if sorted(languages) != sorted(pair):
        raise UserError(
            f"the model translates {pair[0]} to {pair[1]}, "
            f"but {data_dir} holds {' and '.join(languages)}"
        )
    return dataclasses.replace(pipeline, source_lang=pair[0], target_lang=pair[1])


def subwords_in(data_dir: Path, lang: str) -> str:
    """Guess the kind of subwords in a data folder from the dictionary of a language."""
    entries = list(read_lines(data_dir / f"dict.{lang}.txt"))
    begun = sum(entry.startswith("\u2581") for entry in entries)
    broken_off = sum(entry.partition(" ")[0].endswith("@@") for entry in entries)
    return "sentencepiece" if begun > broken_off else "subword_nmt"


def detokenize(pipeline: TextPipeline | None, lines: Iterable[str]) -> Iterator[str]:
    """Lines of tokens, subwords joined already, to plain text (unchanged without a pipeline)."""
    if pipeline is None or pipeline.tokenizer != "moses":
        return iter(lines)
    return map(MosesDecoder(pipeline.target_lang), lines)
