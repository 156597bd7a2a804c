"""The sentences that a translation model is looked into with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from fairseq.data import Dictionary, data_utils
from torch import Tensor

from fairseq_cgc.core import UserError
from fairseq_cgc.mt.translator import Translator

_TOKENS = 4000  # of a batch


class Corpora:
    """Binarised source sentences of several splits.

    Args:
        translator: the model, whose dictionary all corpora must have.
        folders: of binarised data.
        splits: of each folder.

    Attributes:
        names: of the corpora; with the folder's name where there are several folders.

    Raises:
        UserError: if a split is missing or has another dictionary.
    """

    def __init__(
        self, translator: Translator, folders: Sequence[Path], splits: Sequence[str]
    ) -> None:
        self.pair = (translator.pipeline.source_lang, translator.pipeline.target_lang)
        self.dictionary = _dictionary(folders[0], self.pair[0])
        self.names: list[str] = []
        self.data = []
        for folder in folders:
            if _dictionary(folder, self.pair[0]).symbols != self.dictionary.symbols:
                raise UserError(f"{folder} has another dictionary than {folders[0]}")
            for split in splits:
                self.data.append(self._load(folder, split))
                self.names.append(f"{folder.name}/{split}" if len(folders) > 1 else split)

    def __len__(self) -> int:
        return sum(map(len, self.data))

    def batches(self, max_length: int, limit: int) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Tokens, B x T, padded on the left; lengths, B; the corpus's number.

        Args:
            max_length: longer sentences are left out.
            limit: sentences of each corpus; 0: all. They are drawn evenly over it.
        """
        for number, data in enumerate(self.data):
            step = max(1, len(data) // limit) if limit else 1
            chosen = list(range(0, len(data), step))[: limit or None]
            batch: list[Tensor] = []
            # By length: with little padding, and each batch's longest sentence is its last.
            for sentence in sorted((data[i].long() for i in chosen), key=len):
                if len(sentence) > max_length:
                    break
                if batch and (len(batch) + 1) * len(sentence) > _TOKENS:
                    yield self._batch(batch, number)
                    batch = []
                batch.append(sentence)
            if batch:
                yield self._batch(batch, number)

    def _batch(self, batch: list[Tensor], number: int) -> tuple[Tensor, Tensor, int]:
        tokens = data_utils.collate_tokens(batch, self.dictionary.pad(), left_pad=True)
        return tokens, torch.tensor([len(sentence) for sentence in batch]), number

    def _load(self, folder: Path, split: str) -> Sequence[Tensor]:
        source, target = self.pair
        for pair in (f"{source}-{target}", f"{target}-{source}"):
            data = data_utils.load_indexed_dataset(
                str(folder / f"{split}.{pair}.{source}"), self.dictionary
            )
            if data is not None:
                return data
        raise UserError(f"{folder} has no binarised split {split!r} of {source}-{target}")


def _dictionary(folder: Path, lang: str) -> Dictionary:
    path = folder / f"dict.{lang}.txt"
    if not path.is_file():
        raise UserError(f"{folder} has no dictionary {path.name}")
    return Dictionary.load(str(path))
