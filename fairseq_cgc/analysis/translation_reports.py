"""Reports on the gates of a translation model: a picture and its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fairseq_cgc.analysis.context import measure_context
from fairseq_cgc.analysis.context_figure import draw_context
from fairseq_cgc.analysis.gate_figures import draw_gates, draw_sentence_gates
from fairseq_cgc.analysis.gates import (
    explained_shares,
    gates_by_length,
    layer_label,
    record_gates,
    sentence_gates,
)
from fairseq_cgc.core import UserError
from fairseq_cgc.inference.binarised import read_sentences, split_files
from fairseq_cgc.inference.dictionary import PAD
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.inference.trained_model import load_dictionary
from fairseq_cgc.inference.translator import Translator
from fairseq_cgc.support.files import distinct_names

_MAX_TOKENS = 4000  # of a batch, padding included
_Item = TypeVar("_Item")


def read_corpora(
    translator: Translator, folders: Sequence[Path], splits: Sequence[str]
) -> list[tuple[str, list[Tensor]]]:
    """The names and source sentences of the splits of several folders of binarised data.

    Raises:
        UserError: if a split is missing, or a folder has another dictionary than the model.
    """
    corpora = []
    folders, splits = list(dict.fromkeys(folders)), list(dict.fromkeys(splits))
    names = distinct_names(folders)
    if all(name.endswith("/bin") for name in names):  # OUT/bin of fairseq-cgc prepare
        names = [name.removesuffix("/bin") for name in names]
    for folder, of_folder in zip(folders, names, strict=True):
        if load_dictionary(folder, translator.languages[0]).types != translator.source.types:
            raise UserError(f"{folder} has another dictionary than {folders[0]}")
        for split in splits:
            source = split_files(folder, split, translator.languages)[0]
            name = f"{of_folder}/{split}" if len(folders) > 1 else split
            corpora.append((name, read_sentences(source)))
    return corpora


def batches(
    corpora: Iterable[Sequence[Tensor]], max_length: int, limit: int
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Yield tokens, B x T, padded on the right; lengths, B; and the corpus's position.

    Args:
        corpora: the sentences of each corpus.
        max_length: longer sentences are left out.
        limit: sentences of each corpus, spread evenly over it; 0: all.
    """
    for number, corpus in enumerate(corpora):
        chosen = _spread(corpus, limit)
        batch: list[Tensor] = []
        # Sorted by length: little padding, and the last sentence of a batch is its longest.
        for sentence in sorted(chosen, key=len):
            if len(sentence) > max_length:
                break
            if batch and (len(batch) + 1) * len(sentence) > _MAX_TOKENS:
                yield _collate(batch, number)
                batch = []
            batch.append(sentence)
        if batch:
            yield _collate(batch, number)


def _spread(corpus: Sequence[_Item], limit: int) -> list[_Item]:
    """At most ``limit`` items, spread evenly over the corpus; 0: all."""
    count = min(len(corpus), limit) if limit else len(corpus)
    return [corpus[i * len(corpus) // count] for i in range(count)]


def _check_limit(limit: int) -> None:
    if limit < 0:
        raise UserError(f"--limit is {limit}, but must be at least 0")


def _collate(batch: list[Tensor], number: int) -> tuple[Tensor, Tensor, int]:
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
    options: SearchOptions | None = None,
) -> dict[str, Any]:
    """Draw the gates of sentences, and measure how much of them length and corpus explain.

    The parameters are the options of ``fairseq-cgc analyse gates``, and those of the search.

    Returns:
        The numbers of the picture, for JSON.

    Raises:
        UserError: if anything cannot be read or does not fit, or the model has no gates.
    """
    _check_limit(limit)
    translator = Translator(checkpoint, data[0], options)
    names, sentences = zip(*read_corpora(translator, data, split), strict=True)
    found = sentence_gates(
        translator.model.encoder,
        names,
        batches(sentences, translator.max_source_positions, limit),
        layer,
    )
    shares = explained_shares(found)
    projection = draw_sentence_gates(found, shares, out)
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


def report_sentence(
    checkpoint: Path,
    sentence: str,
    out: Path,
    *,
    data: Path | None,
    options: SearchOptions | None = None,
) -> dict[str, Any]:
    """Draw the gates of one sentence.

    The parameters are the options of ``fairseq-cgc analyse sentence``, and those of the search.

    Returns:
        The sentence, its translation and its gates, for JSON.

    Raises:
        UserError: if the sentence has no words, the model cannot be read or has no gates, or the
            data do not say how text is prepared.
    """
    if not sentence.strip():
        raise UserError("the sentence is empty")
    translator = Translator(checkpoint, data, options)
    with record_gates(translator.model) as recorded:
        [translation] = translator.translate([sentence])
    if not any(recorded.values()):
        raise UserError(f"the sentence {sentence!r} has no words: tokenising leaves nothing of it")
    gates = {layer_label(name, found[0].shape[-1]): found[0][0] for name, found in recorded.items()}
    draw_gates(gates, out)
    return {
        "sentence": sentence,
        "translation": translation,
        "gates": {name: gate.tolist() for name, gate in gates.items()},
    }


def report_context(
    checkpoint: Path,
    data: Path,
    out: Path,
    *,
    split: str,
    limit: int,
    options: SearchOptions | None = None,
) -> dict[str, Any]:
    """Measure and draw what context is worth to a model: its loss with other gates than its own.

    The parameters are the options of ``fairseq-cgc analyse context``, and those of the search.

    Returns:
        The losses, for JSON.

    Raises:
        UserError: if anything cannot be read or does not fit, the split has no references, or the
            model has no gates.
    """
    _check_limit(limit)
    translator = Translator(checkpoint, data, options)
    model = translator.model
    files = split_files(data, split, translator.languages)
    if len(files) < 2:
        raise UserError(f"{data} has no {translator.languages[1]} side of {split!r} to score")
    sources, targets = map(read_sentences, files)
    if len(sources) != len(targets):
        raise UserError(
            f"{files[0]} has {len(sources)} sentences, but {files[1]} has {len(targets)}"
        )
    pairs = [
        pair
        for pair in _spread(list(zip(sources, targets, strict=True)), limit)
        if len(pair[0]) <= translator.max_source_positions
        and len(pair[1]) <= model.decoder.max_positions
    ]
    found = measure_context(model, pairs, list(translator.batches([source for source, _ in pairs])))
    draw_context(found, out)
    return {
        "split": split,
        "sentences": found.sentences,
        "subwords": found.subwords,
        "nll": found.nll,
        "increases": {
            kind: {layer: increase._asdict() for layer, increase in of_layers.items()}
            for kind, of_layers in found.increases.items()
        },
    }
