"""Translate raw text or binarised splits with a trained model."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fairseq_cgc.inference.beams import Hypothesis
from fairseq_cgc.inference.dictionary import Dictionary
from fairseq_cgc.inference.search import BeamSearch
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.inference.text.lines import LineFunction
from fairseq_cgc.inference.text.pipeline import PREPARATION_FILE, TextPipeline
from fairseq_cgc.inference.trained_model import TrainedModel, load_trained
from fairseq_cgc.support.errors import UserError

logger = logging.getLogger(__name__)

#: Number of lines that are read ahead and sorted into batches of similar length.
BUFFER_SIZE = 256
_LARGEST_BUFFER = 1_000_000


class Translation(NamedTuple):
    """One translation of a sentence.

    Attributes:
        text: detokenised.
        score: the log-probability, divided by the length to the power of ``lenpen``.
        source: the source's subwords, with ``</s>``.
        subwords: of the translation, with ``</s>``.
        subword_scores: the log-probability of each.
        attention: subwords x source, the mean of the last layer's heads; None unless asked for.
    """

    text: str
    score: float
    source: list[str]
    subwords: list[str]
    subword_scores: list[float]
    attention: Tensor | None


class SearchesHypotheses(Protocol):
    """The interface of :class:`BeamSearch`."""

    def search(
        self, sources: Sequence[Tensor], prefixes: Sequence[Sequence[int]] | None = None
    ) -> list[list[Hypothesis]]:
        """See :meth:`BeamSearch.search`."""


class Translator:
    """Translates raw sentences; not to be used by several threads at once.

    Args:
        model: a checkpoint of ``lightconv_cgc`` or fairseq's ``lightconv`` (several for an
            ensemble), or a folder that ``fairseq-cgc export`` wrote.
        data_dir: the folder that a checkpoint was trained on, with its dictionaries,
            ``preparation.json`` and subword model; None for an exported folder.
        options: the options of beam search.
        device: the model's device; by default the one that ``options`` choose.
        keep_attention: whether :meth:`nbest` returns attention weights.

    Raises:
        UserError: if a file is missing or damaged, or model and data do not fit together.

    Attributes:
        model: the model, or the first one of an ensemble.
        languages: source and target.
        max_source_positions: the largest number of tokens in a sentence, its end included.
        preparation: how raw text was prepared; None if the data folder does not say.
    """

    def __init__(
        self,
        model: str | Path | Sequence[str | Path],
        data_dir: str | Path | None = None,
        options: SearchOptions | None = None,
        *,
        device: torch.device | None = None,
        keep_attention: bool = False,
    ) -> None:
        self.options = options or SearchOptions()
        self.device = device or self.options.device
        paths = [Path(model)] if isinstance(model, str | Path) else [Path(path) for path in model]
        self._folder = paths[0] if data_dir is None else Path(data_dir)
        trained = self._load(paths, None if data_dir is None else self._folder)
        self.model = trained.models[0]
        self.languages, self.preparation = trained.languages, trained.pipeline
        self.source, self.target = trained.source, trained.target
        self.max_source_positions = trained.max_source_positions
        self._search = self._make_search(trained, keep_attention)

    def _load(self, paths: Sequence[Path], data_dir: Path | None) -> TrainedModel:
        return load_trained(paths, data_dir, self.options.precision, self.device)

    def _make_search(self, trained: TrainedModel, keep_attention: bool) -> SearchesHypotheses:
        return BeamSearch(trained.models, self.options, keep_attention=keep_attention)

    @property
    def pipeline(self) -> TextPipeline:
        """:attr:`preparation`, which raw text needs.

        Raises:
            UserError: if it is None.
        """
        if self.preparation is None:
            raise UserError(
                f"{self._folder} has no {PREPARATION_FILE}, which says how raw text is prepared"
            )
        return self.preparation

    # Made once: a server must neither read the subword model for each request, nor take another
    # one that has replaced it since.
    @functools.cached_property
    def _encode(self) -> LineFunction:
        return self.pipeline.encoder(self.languages[0])

    @functools.cached_property
    def _decode(self) -> LineFunction:
        return self.pipeline.decoder()

    def translate(
        self, lines: Iterable[str], *, buffer_size: int = BUFFER_SIZE, first_line: int = 1
    ) -> Iterator[str]:
        """Yield the best translation of every line, in order; empty lines give empty lines.

        A line longer than the model's positions is cut, with a warning.

        Args:
            lines: raw sentences, read at most ``buffer_size`` ahead.
            buffer_size: the number of lines sorted into batches of similar length.
            first_line: the number of the first line, for the warning.

        Raises:
            UserError: if ``buffer_size`` is not from 1 to a million, or ``lines`` is one string.
        """
        found = self.nbest(lines, buffer_size=buffer_size, first_line=first_line)
        return (translations[0].text if translations else "" for translations in found)

    def nbest(
        self, lines: Iterable[str], *, buffer_size: int = BUFFER_SIZE, first_line: int = 1
    ) -> Iterator[list[Translation]]:
        """Yield ``options.nbest`` translations of every line, the best first; [] for an empty line.

        Args:
            lines: as for :meth:`translate`, like the other arguments.

        Raises:
            UserError: if ``buffer_size`` is not from 1 to a million, or ``lines`` is one string.
        """
        check_buffer_size(buffer_size)
        if isinstance(lines, str):  # its characters would be the lines
            raise UserError("lines is one string, but must be a list of them or another iterable")
        return self._nbest(map(self._encode, lines), buffer_size, first_line)

    def _nbest(
        self, lines: Iterable[str], buffer_size: int, first_line: int
    ) -> Iterator[list[Translation]]:
        numbered = enumerate(lines, start=first_line)
        while buffer := list(itertools.islice(numbered, buffer_size)):
            sources = [self._to_tokens(line, number) for number, line in buffer]
            found = dict(self.search(sources))
            for index, source in enumerate(sources):
                yield [self._translation(source, hypo) for hypo in found.get(index, [])]

    def search(
        self, sources: Sequence[Tensor], prefixes: Sequence[Sequence[int]] | None = None
    ) -> Iterator[tuple[int, list[Hypothesis]]]:
        """Yield the hypotheses of each batch when it is finished, shorter sentences first.

        Args:
            sources: the numbers of each sentence's types, with its end; a sentence that has only
                its end is skipped.
            prefixes: the tokens that each translation begins with.

        Yields:
            The index of a sentence and its hypotheses, the best first.

        Raises:
            UserError: if a sentence has no translation whose probability is a number above 0.
        """
        for batch in self.batches(sources):
            begun = None if prefixes is None else [prefixes[i] for i in batch]
            found = self._search.search([sources[i] for i in batch], begun)
            for index, hypotheses in zip(batch, found, strict=True):
                if not hypotheses:
                    raise UserError(
                        f"a sentence of {len(sources[index])} source tokens has no translation: "
                        "either the model's weights are not numbers (its training has diverged), "
                        "or the options of the search leave nothing"
                    )
                yield index, hypotheses

    def batches(self, sources: Sequence[Tensor]) -> Iterator[list[int]]:
        """Indices of sentences in batches of similar length, within the limits of the options.

        A sentence of more than ``max_tokens`` tokens is a batch of its own.
        """
        batch: list[int] = []
        for index in sorted(range(len(sources)), key=lambda index: len(sources[index])):
            length = len(sources[index])
            if length == 1:  # only the end of the sentence
                continue
            if batch and (
                (len(batch) + 1) * length > self.options.max_tokens
                or len(batch) == self.options.batch_size
            ):
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _to_tokens(self, line: str, number: int) -> Tensor:
        """The numbers of a line's subwords, with the end of the sentence."""
        return self.cut(self.source.encode(line), f"line {number}")

    def cut(self, tokens: Tensor, name: str) -> Tensor:
        """Cut a sentence to the positions that the model has, with a warning.

        Args:
            tokens: the numbers of the sentence's types, with its end.
            name: what the warning calls the sentence.
        """
        if len(tokens) > self.max_source_positions:
            logger.warning(
                "%s has %d subwords, but the model takes %d: the rest is not translated",
                name,
                len(tokens) - 1,
                self.max_source_positions - 1,
            )
            tokens = torch.cat([tokens[: self.max_source_positions - 1], tokens[-1:]])
        return tokens

    def _translation(self, source: Tensor, hypothesis: Hypothesis) -> Translation:
        return Translation(
            self._decode(self.target.decode(hypothesis.tokens)),
            hypothesis.score,
            _names(self.source, source.tolist()),
            _names(self.target, hypothesis.tokens),
            hypothesis.token_scores,
            hypothesis.attention,
        )


def _names(dictionary: Dictionary, tokens: Iterable[int]) -> list[str]:
    return [dictionary.types[token] for token in tokens]


def check_buffer_size(lines: int) -> None:
    """Raise a UserError if the buffer size is out of range."""
    if not 1 <= lines <= _LARGEST_BUFFER:
        raise UserError(f"--buffer-size must be from 1 to {_LARGEST_BUFFER}, but is {lines}")
