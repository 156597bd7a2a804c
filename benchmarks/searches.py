"""The searches that are compared: fairseq's, this package's, and CTranslate2's if it is installed.

A contender takes a batch as fairseq makes it and returns the tokens of each sentence's best
hypothesis. The first contender is the one to which the others are compared.
"""

from __future__ import annotations

import os
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from fairseq import checkpoint_utils
from fairseq.models.lightconv import LightConvDecoder, LightConvEncoder
from omegaconf import OmegaConf
from systems import PAD, build
from timing import Settings
from torch import nn

from fairseq_cgc.inference.model import Model
from fairseq_cgc.inference.model_options import ModelOptions
from fairseq_cgc.inference.precision import PRECISIONS, set_precision
from fairseq_cgc.inference.search import BeamSearch
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.models import lightconv_cgc
from fairseq_cgc.support.environment import describe_machine

BEAM = 6
TRAINED = "trained"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
#: Device -> precisions of fairseq's generator, and of this package's own search.
_PRECISIONS = {"cpu": (["float32"], PRECISIONS), "cuda": (["float32", "float16"], tuple(_DTYPES))}


class Contender(NamedTuple):
    """One of the searches that are compared."""

    search: Callable[[dict[str, Any], int | None], list[list[int]]]
    """Takes a batch, and the number of tokens that every translation must have, if any."""
    weights_mib: float


@lru_cache(maxsize=1)
def contenders(model: str, settings: Settings) -> tuple[Any, dict[str, Contender]]:
    """The task of a model, and all searches with its weights.

    Args:
        model: :data:`TRAINED`, or a key of ``systems.PROTOCOLS`` for untrained weights.
        settings: their checkpoint is the trained model.
    """
    if model == TRAINED:
        make = partial(load, settings.checkpoint, settings.data)
    else:
        make = partial(build, "cgc", model=model)
    found: dict[str, Contender] = {}
    of_fairseq, of_ours = _PRECISIONS[settings.device]
    for precision in of_fairseq:
        for name, classes in (("fairseq", fairseqs_classes), ("fairseq, our decoder", nullcontext)):
            with classes():
                cfg, task, module = make()
            module.prepare_for_inference_(cfg)
            module.eval()  # which fairseq's decoder does not return
            module.to(settings.device, _DTYPES[precision])
            search = partial(_fairseqs_search, task, module, classes)
            found[f"{name}, {precision}"] = Contender(search, _mib(module))
    options, state = options_of(cfg), make()[2].state_dict()
    for precision in of_ours:
        ours = Model.from_state(options, state)
        if precision in PRECISIONS:
            set_precision(ours, precision)
        else:
            ours.to(_DTYPES[precision])
        ours.to(settings.device)
        found[f"ours, {precision}"] = Contender(partial(_our_search, ours), _mib(ours))
    if model != TRAINED and settings.device == "cpu" and has_ctranslate2():
        for precision in ("float32", "int8"):
            found[f"CTranslate2, {precision}"] = _ctranslate2(model, precision)
    return task, found


@contextmanager
def fairseqs_classes() -> Iterator[None]:
    """Build models with fairseq's decoder, and reorder the encoder's output as fairseq does."""
    reorder = LightConvEncoder.reorder_encoder_out
    with (
        patch.object(lightconv_cgc, "LightConvCGCDecoder", LightConvDecoder),
        patch.object(lightconv_cgc.LightConvCGCEncoder, "reorder_encoder_out", reorder),
    ):
        yield


def load(checkpoint: Path | None, data: Path | None) -> tuple[Any, Any, Any]:
    """The configuration, task and model of a checkpoint."""
    (model,), cfg, task = checkpoint_utils.load_model_ensemble_and_task(
        [str(checkpoint)], arg_overrides={"data": str(data)}
    )
    return cfg, task, model


def options_of(cfg: Any) -> ModelOptions:
    """A configuration of fairseq's as the options of this package's model."""
    return ModelOptions.from_checkpoint({"cfg": OmegaConf.to_container(cfg, enum_to_str=True)})


def forced_length(length: int | None) -> dict[str, int]:
    """Options of a search whose translations all have ``length`` tokens; none for ``None``."""
    return {} if length is None else {"max_len_a": 0, "max_len_b": length, "min_len": length}


def _fairseqs_search(
    task: Any, model: Any, classes: Any, sample: dict[str, Any], length: int | None
) -> list[list[int]]:
    generator = task.build_generator([model], Namespace(beam=BEAM, **forced_length(length)))
    with classes():
        found = task.inference_step(generator, [model], sample)
    return [hypotheses[0]["tokens"].tolist() for hypotheses in found]


def _our_search(model: Model, sample: dict[str, Any], length: int | None) -> list[list[int]]:
    options = SearchOptions(beam=BEAM, **{"max_len_a": 0, **forced_length(length)})
    found = BeamSearch([model], options).search(_sources(sample))
    return [hypotheses[0].tokens for hypotheses in found]


def _sources(sample: dict[str, Any]) -> list[torch.Tensor]:
    # On a GPU, each row would be waited for.
    return [row[row.ne(PAD)] for row in sample["net_input"]["src_tokens"].cpu()]


def _mib(module: nn.Module) -> float:
    tensors = [*module.parameters(), *module.buffers()]
    return sum({x.data_ptr(): x.nbytes for x in tensors}.values()) / 2**20


def has_ctranslate2() -> bool:
    """Whether CTranslate2 is installed."""
    return find_spec("ctranslate2") is not None


def _ctranslate2(model: str, precision: str) -> Contender:
    """CTranslate2 with fairseq's Transformer of the same size and the same dictionaries."""
    if "AMD" in describe_machine(cpu=True):
        os.environ.setdefault("CT2_USE_MKL", "0")  # its other backend is faster there
    import ctranslate2
    from ctranslate2.converters import fairseq as converter
    from ctranslate2.specs import TransformerSpec

    _, task, transformer = build("transformer", model=model)
    transformer.requires_grad_(False)
    encoder, decoder = transformer.encoder, transformer.decoder
    spec = TransformerSpec.from_config(
        (len(encoder.layers), len(decoder.layers)),
        encoder.layers[0].self_attn.num_heads,
        pre_norm=False,
    )
    converter.set_transformer_encoder(spec.encoder, encoder)
    converter.set_transformer_decoder(spec.decoder, decoder)
    spec.register_source_vocabulary(task.source_dictionary.symbols)
    spec.register_target_vocabulary(task.target_dictionary.symbols)
    spec.config.decoder_start_token = spec.config.eos_token
    spec.validate()
    spec.optimize(quantization=None if precision == "float32" else precision)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        spec.save(folder)
        weights_mib = (Path(folder) / "model.bin").stat().st_size / 2**20
        translator = ctranslate2.Translator(
            folder, compute_type=precision, inter_threads=1, intra_threads=torch.get_num_threads()
        )

    def search(sample: dict[str, Any], length: int | None) -> list[list[int]]:
        symbols = task.source_dictionary.symbols
        sources = [[symbols[token] for token in row] for row in _sources(sample)]
        assert length is not None
        steps = length + 1  # fairseq and we do not count the end of the sentence
        found = translator.translate_batch(
            sources, beam_size=BEAM, min_decoding_length=steps, max_decoding_length=steps
        )
        index = task.target_dictionary.index
        return [[index(word) for word in each.hypotheses[0]] for each in found]

    return Contender(search, weights_mib)
