"""fairseq's dictionary: the types of a language and their numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from fairseq_cgc.support.errors import UserError

BOS, PAD, EOS, UNK = range(4)
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
_OVERWRITE = " #fairseq:overwrite"


class Dictionary:
    """A number for every type; those of ``<s>``, ``<pad>``, ``</s>`` and ``<unk>`` come first.

    Args:
        types: the types in the order of their numbers, without the four special ones.
    """

    def __init__(self, types: Iterable[str]) -> None:
        self.types = [*_SPECIAL, *types]
        self._numbers = {word: number for number, word in enumerate(self.types)}
        self._numbers[_SPECIAL[PAD]] = UNK  # no word of a text is padding

    @classmethod
    def load(cls, path: Path) -> Dictionary:
        """Read ``dict.LANG.txt`` of ``fairseq-preprocess``: a type and its count on each line.

        Raises:
            UserError: if the file cannot be read, or a line is not such a pair.
        """
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 ({error})") from error
        dictionary = cls([])
        for number, line in enumerate(lines, start=1):
            if not line.strip() and number == len(lines):
                continue
            word, space, count = line.rstrip().removesuffix(_OVERWRITE).rpartition(" ")
            if not space or not count.isdecimal():
                raise UserError(
                    f"{path}: line {number} is not a type with its count ({line[:80]!r})"
                )
            if word in dictionary._numbers and not line.rstrip().endswith(_OVERWRITE):
                raise UserError(f"{path}: line {number} repeats the type {word!r}")
            # A repeated type has a number more, which text gets from now on.
            dictionary._numbers[word] = len(dictionary.types)
            dictionary.types.append(word)
        return dictionary

    def __len__(self) -> int:
        return len(self.types)

    def encode(self, line: str) -> Tensor:
        """The numbers of a line's types, which white space separates, and of its end."""
        numbers = [self._numbers.get(word, UNK) for word in line.split()]
        return torch.tensor([*numbers, EOS])

    def decode(self, tokens: Iterable[int]) -> str:
        """The line of these types, without the marks of its beginning and end."""
        return " ".join(self.types[token] for token in tokens if token not in (BOS, EOS))
