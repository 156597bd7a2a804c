"""Translators for architectures that only fairseq has, such as its Transformer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fairseq_cgc.models  # noqa: F401  (repairs fairseq, and registers our architectures)

# isort: split
import torch
from fairseq import checkpoint_utils, tasks, utils
from fairseq.dataclass.configs import GenerationConfig
from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_REGISTRY
from torch import Tensor

from fairseq_cgc.inference.beams import Hypothesis
from fairseq_cgc.inference.model_options import is_lightconv
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.inference.text.pipeline import find_pipeline
from fairseq_cgc.inference.trained_model import TrainedModel, language_pair, load_dictionary
from fairseq_cgc.inference.translator import SearchesHypotheses, Translator
from fairseq_cgc.mt.prepare.binarize import check_path
from fairseq_cgc.support.checkpoints import load_model_state, read_config
from fairseq_cgc.support.errors import UserError


def open_translator(
    checkpoint: Path,
    data_dir: Path | None,
    options: SearchOptions,
    device: torch.device | None = None,
) -> Translator:
    """A translator for any model of fairseq's translation task, or for an exported folder.

    The arguments are those of :class:`Translator`.

    Raises:
        UserError: if a file is missing or damaged, or model and data do not fit together.
    """
    if (
        checkpoint.is_dir()
        or data_dir is None
        or is_lightconv(load_model_state(checkpoint, only_options=True))
    ):
        return Translator(checkpoint, data_dir, options, device=device)
    return FairseqTranslator(checkpoint, data_dir, options, device=device)


class FairseqTranslator(Translator):
    """A :class:`Translator` whose model and search are fairseq's."""

    def _load(self, paths: Sequence[Path], data_dir: Path | None) -> TrainedModel:
        assert data_dir is not None
        # Scoring during validation is not needed here and would load a tokeniser.
        overrides = {"data": str(data_dir), "eval_bleu": False}
        state = checkpoint_utils.load_checkpoint_to_cpu(str(paths[0]), overrides)
        languages = language_pair(state, data_dir)
        architecture = read_config(state, "model", "_name") or read_config(state, "model", "arch")
        if architecture not in {*ARCH_MODEL_REGISTRY, *MODEL_REGISTRY}:
            raise UserError(f"{paths[0]} is a model of unknown architecture {architecture!r}")
        if self.options.precision != "float32":
            raise UserError(
                f"--precision {self.options.precision} is for lightconv_cgc and lightconv models, "
                f"but this one is {architecture}"
            )
        source, target = (load_dictionary(data_dir, lang) for lang in languages)
        check_path(data_dir)
        self._task = tasks.setup_task(state["cfg"].task, from_checkpoint=True)
        try:
            (model,), config, _ = checkpoint_utils.load_model_ensemble_and_task(
                [str(paths[0])], task=self._task, state=state
            )
        except RuntimeError as error:  # from load_state_dict; its last line names a parameter
            reason = str(error).strip().splitlines()[-1].strip()
            raise UserError(f"{paths[0]} does not fit {data_dir}: {reason}") from error
        model.prepare_for_inference_(config)
        longest = utils.resolve_max_positions(self._task.max_positions(), model.max_positions())[0]
        pipeline = find_pipeline(data_dir, languages)
        models: list[Any] = [model.to(self.device)]
        return TrainedModel(models, languages, source, target, pipeline, longest)

    def _make_search(self, trained: TrainedModel, keep_attention: bool) -> SearchesHypotheses:
        return _FairseqSearch(self._task, trained.models[0], self.options)


class _FairseqSearch:
    """fairseq's beam search with the interface of ours."""

    def __init__(self, task: Any, model: Any, options: SearchOptions) -> None:
        self._task, self._model, self._options = task, model, options
        names = ("beam", "nbest", "lenpen", "unkpen", "temperature", "min_len", "max_len_b",
                 "unnormalized", "match_source_len", "no_repeat_ngram_size")  # fmt: skip
        config = GenerationConfig(**{name: getattr(options, name) for name in names})
        config.max_len_a = options.max_len_a or 0.0
        self._generator = task.build_generator([model], config)

    def search(
        self, sources: Sequence[Tensor], prefixes: Sequence[Sequence[int]] | None = None
    ) -> list[list[Hypothesis]]:
        """See :meth:`fairseq_cgc.inference.search.BeamSearch.search`."""
        lengths = list(map(len, sources))
        dataset = self._task.build_dataset_for_inference(list(sources), lengths)
        sample = dataset.collater([dataset[index] for index in range(len(dataset))])
        device = next(self._model.parameters()).device
        sample = utils.apply_to_sample(lambda tensor: tensor.to(device), sample)
        if self._options.max_len_a is None:
            self._generator.max_len_b = max(self._options.max_len_b, 2 * max(lengths))
        found = self._task.inference_step(self._generator, [self._model], sample)
        order = sample["id"].tolist()  # the collater sorts by length
        return [
            [
                Hypothesis(
                    hypo["tokens"].tolist(),
                    float(hypo["score"]),
                    hypo["positional_scores"].tolist(),
                    None,
                )
                for hypo in hypos[: self._options.nbest]
            ]
            for _, hypos in sorted(zip(order, found, strict=True), key=lambda pair: pair[0])
        ]
