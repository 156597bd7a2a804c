"""Translate raw text with a trained model."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils, tasks, utils
from fairseq.dataclass.configs import GenerationConfig
from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_REGISTRY, BaseFairseqModel

import fairseq_cgc.models  # noqa: F401  (registers our architectures)
from fairseq_cgc.core.errors import UserError
from fairseq_cgc.inference.precision import set_precision
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.mt.binarize import check_path
from fairseq_cgc.mt.checkpoints import read_config
from fairseq_cgc.mt.pipeline import TextPipeline
from fairseq_cgc.mt.trained import check_precision_fits, find_pipeline, language_pair

logger = logging.getLogger(__name__)

#: Lines from among which batches of similar length are made.
BUFFER_SIZE = 256
_LARGEST_BUFFER = 1_000_000
_MAX_LENGTH = 200  # subwords of a translation, as in fairseq-generate


class Translator:
    """Raw sentences in, detokenised translations out.

    Args:
        checkpoint: a model of fairseq's translation task.
        data_dir: the folder it was trained on, with dictionaries, ``preparation.json`` and subword
            model.
        options: beam search.

    Raises:
        UserError: if a file is missing or damaged, or model and data do not fit together.
    """

    def __init__(
        self, checkpoint: Path, data_dir: Path, options: SearchOptions | None = None
    ) -> None:
        self.options = options or SearchOptions()
        state = checkpoint_utils.load_checkpoint_to_cpu(
            # Scoring during validation is none of our business, but would load a tokeniser.
            str(checkpoint),
            {"data": str(data_dir), "eval_bleu": False},
        )
        source, target = language_pair(state, data_dir)
        pipeline = find_pipeline(data_dir, (source, target))
        self.pipeline = pipeline or TextPipeline.load(data_dir)  # Says what is missing.
        for lang in (source, target):
            if not (data_dir / f"dict.{lang}.txt").is_file():
                raise UserError(f"{data_dir} has no dictionary dict.{lang}.txt")
        architecture = read_config(state, "model", "_name") or read_config(state, "model", "arch")
        if architecture not in {*ARCH_MODEL_REGISTRY, *MODEL_REGISTRY}:
            raise UserError(f"{checkpoint} is a model of unknown architecture {architecture!r}")
        check_precision_fits(state, self.options.precision)

        self._task = _set_up_task(state["cfg"].task, data_dir)
        try:
            (model,), config, _ = checkpoint_utils.load_model_ensemble_and_task(
                [str(checkpoint)], task=self._task, state=state
            )
        except RuntimeError as error:  # Of load_state_dict; its last line names a parameter.
            reason = str(error).strip().splitlines()[-1].strip()
            raise UserError(f"{checkpoint} does not fit {data_dir}: {reason}") from error
        # Ends in eval mode, for good. Our own would ask the environment for the precision.
        BaseFairseqModel.prepare_for_inference_(model, config)
        set_precision(model, self.options.precision)
        self._model = model.to(self.options.device)
        self._generator = self._task.build_generator(
            [self._model],
            GenerationConfig(
                beam=self.options.beam, lenpen=self.options.lenpen, max_len_b=_MAX_LENGTH
            ),
        )
        self._max_source: int = utils.resolve_max_positions(
            self._task.max_positions(), self._model.max_positions()
        )[0]

    @property
    def model(self) -> torch.nn.Module:
        """The model, ready for inference."""
        return self._model

    def translate(
        self, lines: Iterable[str], *, buffer_size: int = BUFFER_SIZE, first_line: int = 1
    ) -> Iterator[str]:
        """Yield one translation a line, in order; empty lines give empty lines.

        A line longer than the model's positions is cut, with a warning.

        Args:
            lines: raw sentences; read only ``buffer_size`` ahead of what is yielded.
            buffer_size: lines from among which batches of similar length are made.
            first_line: number of the first line, for the warning.

        Raises:
            UserError: if ``buffer_size`` is not from 1 to a million.
        """
        check_buffer_size(buffer_size)
        encoded = self.pipeline.encode(lines, self.pipeline.source_lang)
        return self.pipeline.decode(self._translate_subwords(encoded, buffer_size, first_line))

    def _translate_subwords(
        self, lines: Iterable[str], buffer_size: int, first_line: int
    ) -> Iterator[str]:
        numbered = enumerate(lines, start=first_line)
        while buffer := list(itertools.islice(numbered, buffer_size)):
            sources = [self._to_tokens(line, number) for number, line in buffer]
            translations = [""] * len(sources)
            for batch in self._batches(sources):
                for index, text in zip(batch, self._search(sources, batch), strict=True):
                    translations[index] = text
            yield from translations

    def _to_tokens(self, line: str, number: int) -> torch.Tensor:
        """Subword numbers of a line, end of sentence included."""
        tokens = self._task.source_dictionary.encode_line(line, add_if_not_exist=False).long()
        if len(tokens) > self._max_source:
            logger.warning(
                "line %d has %d subwords, but the model takes %d: the rest is not translated",
                number,
                len(tokens) - 1,
                self._max_source - 1,
            )
            tokens = torch.cat([tokens[: self._max_source - 1], tokens[-1:]])
        return tokens

    def _batches(self, sources: Sequence[torch.Tensor]) -> Iterator[list[int]]:
        """Indices of non-empty sentences, grouped by length within the limits of the options.

        A sentence that is longer than ``max_tokens`` is a batch of its own.
        """
        batch: list[int] = []
        for index in sorted(range(len(sources)), key=lambda index: len(sources[index])):
            length = len(sources[index])
            if length == 1:  # Only the end of the sentence.
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

    def _search(self, sources: Sequence[torch.Tensor], batch: Sequence[int]) -> list[str]:
        """The best translation (subwords) of each of the sentences ``batch`` of ``sources``."""
        lengths = [len(sources[index]) for index in batch]
        dataset = self._task.build_dataset_for_inference(
            [sources[index] for index in batch], lengths
        )
        sample = dataset.collater([dataset[index] for index in range(len(dataset))])
        sample = utils.apply_to_sample(lambda tensor: tensor.to(self.options.device), sample)
        # Long sentences must not lose their end to the limit for translations that never end.
        self._generator.max_len_b = max(_MAX_LENGTH, 2 * max(lengths))
        found = self._task.inference_step(self._generator, [self._model], sample)
        dictionary = self._task.target_dictionary
        texts = [
            dictionary.string(
                hypotheses[0]["tokens"].int().cpu(),
                extra_symbols_to_ignore=self._generator.symbols_to_strip_from_output,
            )
            for hypotheses in found
        ]
        order = sample["id"].tolist()  # The collater sorts by length.
        return [text for _, text in sorted(zip(order, texts, strict=True))]


def check_buffer_size(lines: int) -> None:
    """Raise UserError for a number of lines that cannot be right."""
    if not 1 <= lines <= _LARGEST_BUFFER:
        raise UserError(f"--buffer-size must be from 1 to {_LARGEST_BUFFER}, but is {lines}")


def _set_up_task(config: Any, data_dir: Path) -> Any:
    check_path(data_dir)
    try:
        return tasks.setup_task(config, from_checkpoint=True)
    except Exception as error:  # a damaged dictionary: fairseq raises any kind, Exception itself
        reason = str(error).partition("\n")[0]
        raise UserError(f"{data_dir}: its dictionaries cannot be read ({reason[:200]})") from error
