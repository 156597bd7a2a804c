"""The sentences that a translation model is looked into with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fairseq_cgc.core import UserError
from fairseq_cgc.inference.binarised import read_sentences, split_files
from fairseq_cgc.inference.dictionary import PAD
from fairseq_cgc.inference.trained_model import load_dictionary
from fairseq_cgc.inference.translator import Translator

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
        self.names: list[str] = []
        self.data = []
        for folder in folders:
            if load_dictionary(folder, translator.languages[0]).types != translator.source.types:
                raise UserError(f"{folder} has another dictionary than {folders[0]}")
            for split in splits:
                self.data.append(
                    read_sentences(split_files(folder, split, translator.languages)[0])
                )
                self.names.append(f"{folder.name}/{split}" if len(folders) > 1 else split)

    def __len__(self) -> int:
        return sum(map(len, self.data))

    def batches(self, max_length: int, limit: int) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Tokens, B x T, padded on the right; lengths, B; the corpus's number.

        Args:
            max_length: longer sentences are left out.
            limit: sentences of each corpus; 0: all. They are drawn evenly over it.
        """
        for number, data in enumerate(self.data):
            step = max(1, len(data) // limit) if limit else 1
            chosen = list(range(0, len(data), step))[: limit or None]
            batch: list[Tensor] = []
            # By length: with little padding, and each batch's longest sentence is its last.
            for sentence in sorted((data[i] for i in chosen), key=len):
                if len(sentence) > max_length:
                    break
                if batch and (len(batch) + 1) * len(sentence) > _TOKENS:
                    yield self._batch(batch, number)
                    batch = []
                batch.append(sentence)
            if batch:
                yield self._batch(batch, number)

    def _batch(self, batch: list[Tensor], number: int) -> tuple[Tensor, Tensor, int]:
        tokens = pad_sequence(batch, batch_first=True, padding_value=PAD)
        return tokens, torch.tensor([len(sentence) for sentence in batch]), number
