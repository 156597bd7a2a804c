"""The gates of a translation model for whole corpora: a picture, and its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairseq_cgc.analysis.sentence_gates import (
    draw_sentence_gates,
    explained_shares,
    sentence_gates,
)
from fairseq_cgc.analysis.translation_inputs import Corpora
from fairseq_cgc.core import UserError
from fairseq_cgc.inference.translator import Translator


def report_gates(
    checkpoint: Path,
    folders: Sequence[Path],
    output: Path,
    *,
    splits: Sequence[str],
    layer: str | None,
    limit: int,
) -> dict[str, Any]:
    """Draw the gates of sentences, and measure what of them length and corpus explain.

    Args:
        checkpoint: a trained model.
        folders: of binarised data, the model's first.
        output: PNG file to write.
        splits: of each folder; every one is a corpus.
        layer: a gated convolution; all of them by default.
        limit: sentences of each corpus; 0: all.

    Returns:
        What was found.

    Raises:
        UserError: if anything cannot be read or does not fit, or the model has no gates.
    """
    if limit < 0:
        raise UserError(f"--limit is {limit}, but must be at least 0")
    translator = Translator(checkpoint, folders[0])
    corpora = Corpora(translator, folders, splits)
    batches = corpora.batches(translator.max_source_positions, limit)
    found = sentence_gates(translator.model.encoder, corpora.names, batches, layer)
    shares = explained_shares(found)
    title = f"gates of {layer or 'all encoder layers'}"
    projection = draw_sentence_gates(found, shares, title, output)
    return {
        "layer": layer or "all",
        "sentences": {
            name: int((found.corpus == number).sum()) for number, name in enumerate(found.corpora)
        },
        "gates of a sentence": found.points().shape[1],
        "adjusted R^2": shares,
        "variance along the components": projection.shares.tolist(),
    }
