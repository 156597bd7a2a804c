"""Report on the gates of a translation model over binarised corpora: a picture and its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fairseq_cgc.analysis.gates import (
    draw_sentence_gates,
    explained_shares,
    gates_by_length,
    sentence_gates,
)
from fairseq_cgc.core import UserError
from fairseq_cgc.inference.binarised import read_sentences, split_files
from fairseq_cgc.inference.dictionary import PAD
from fairseq_cgc.inference.trained_model import load_dictionary
from fairseq_cgc.inference.translator import Translator

_MAX_TOKENS = 4000  # of a batch, padding included


class Corpora:
    """Binarised source sentences of several splits.

    Args:
        translator: the model; all folders must have its source dictionary.
        folders: of binarised data.
        splits: of each folder; every one is a corpus.

    Attributes:
        names: of the corpora; they include the folder's name if there are several folders.

    Raises:
        UserError: if a split is missing, or a folder has another dictionary.
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

    def batches(self, max_length: int, limit: int) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Yield tokens, B x T, padded on the right; lengths, B; and the corpus's position.

        Args:
            max_length: longer sentences are left out.
            limit: sentences of each corpus, spread evenly over it; 0: all.
        """
        for number, data in enumerate(self.data):
            step = max(1, len(data) // limit) if limit else 1
            chosen = list(range(0, len(data), step))[: limit or None]
            batch: list[Tensor] = []
            # Sorted by length: little padding, and the last sentence of a batch is its longest.
            for sentence in sorted((data[i] for i in chosen), key=len):
                if len(sentence) > max_length:
                    break
                if batch and (len(batch) + 1) * len(sentence) > _MAX_TOKENS:
                    yield self._batch(batch, number)
                    batch = []
                batch.append(sentence)
            if batch:
                yield self._batch(batch, number)

    def _batch(self, batch: list[Tensor], number: int) -> tuple[Tensor, Tensor, int]:
        tokens = pad_sequence(batch, batch_first=True, padding_value=PAD)
        return tokens, torch.tensor([len(sentence) for sentence in batch]), number


def report_gates(
    checkpoint: Path,
    data: Sequence[Path],
    out: Path,
    *,
    split: Sequence[str],
    layer: str | None,
    limit: int,
) -> dict[str, Any]:
    """Draw the gates of sentences, and measure how much of them length and corpus explain.

    Args:
        checkpoint: a trained model.
        data: folders of binarised data, the model's own first.
        out: PNG file to write.
        split: splits of each folder; every one is a corpus.
        layer: a gated convolution; all of them by default.
        limit: sentences of each corpus; 0: all.

    Returns:
        The numbers of the picture, for JSON.

    Raises:
        UserError: if anything cannot be read or does not fit, or the model has no gates.
    """
    if limit < 0:
        raise UserError(f"--limit is {limit}, but must be at least 0")
    translator = Translator(checkpoint, data[0])
    corpora = Corpora(translator, data, split)
    batches = corpora.batches(translator.max_source_positions, limit)
    found = sentence_gates(translator.model.encoder, corpora.names, batches, layer)
    shares = explained_shares(found)
    projection = draw_sentence_gates(
        found, shares, f"gates of {layer or 'all encoder layers'}", out
    )
    return {
        "layer": layer or "all",
        "sentences": {
            name: int((found.corpus == number).sum()) for number, name in enumerate(found.corpora)
        },
        "gates of a sentence": found.points().shape[1],
        "adjusted R^2": shares,
        "layers": gates_by_length(found),
        "variance along the components": projection.shares.tolist(),
    }
