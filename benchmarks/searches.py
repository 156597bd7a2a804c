"""Who searches for translations: fairseq, this package, and CTranslate2 where it is installed.

A contender takes a batch as fairseq makes it and returns the tokens of each sentence's best
hypothesis. The first one is what the others are compared with.
"""

from __future__ import annotations

import functools
import os
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from fairseq import checkpoint_utils
from fairseq.models.lightconv import LightConvDecoder, LightConvEncoder
from omegaconf import OmegaConf
from settings import Settings
from systems import PAD, build
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
    """One of those that are compared."""

    search: Callable[[dict[str, Any], int | None], list[list[int]]]
    """Takes a batch, and the number of tokens that every translation must have, if any."""
    weights_mib: float


class _FairseqsEncoder(lightconv_cgc.LightConvCGCEncoder):
    """The gated encoder, its output reordered as fairseq does."""

    reorder_encoder_out = LightConvEncoder.reorder_encoder_out


@functools.lru_cache(maxsize=1)
def contenders(model: str, settings: Settings) -> tuple[Any, dict[str, Contender]]:
    """The task of a model, and all who translate with it.

    Args:
        model: :data:`TRAINED`, or a key of ``systems.PROTOCOLS`` for untrained weights.
        settings: whose checkpoint :data:`TRAINED` is.
    """
    make = _trained(settings) if model == TRAINED else functools.partial(build, "cgc", model=model)
    found: dict[str, Contender] = {}
    of_fairseq, of_ours = _PRECISIONS[settings.device]
    for precision in of_fairseq:
        with _fairseqs_decoder():
            _, _, theirs = make()
        theirs.encoder.__class__ = _FairseqsEncoder
        cfg, task, ours = make()
        for name, module in (("fairseq", theirs), ("fairseq, our decoder", ours)):
            module.prepare_for_inference_(cfg)
            module.eval()  # fairseq's gives nothing back
            module.to(settings.device, _DTYPES[precision])
            search = functools.partial(_fairseqs_search, task, module)
            found[f"{name}, {precision}"] = Contender(search, _mib(module))
    options = ModelOptions.from_checkpoint({"cfg": OmegaConf.to_container(cfg, enum_to_str=True)})
    state = make()[2].state_dict()
    for precision in of_ours:
        module = Model.from_state(options, state)
        if precision in PRECISIONS:
            set_precision(module, precision)
        else:
            module.to(_DTYPES[precision])
        module.to(settings.device)
        search = functools.partial(_our_search, module)
        found[f"ours, {precision}"] = Contender(search, _mib(module))
    if model != TRAINED and settings.device == "cpu" and has_ctranslate2():
        for precision in ("float32", "int8"):
            found[f"CTranslate2, {precision}"] = _ctranslate2(model, precision)
    return task, found


@contextmanager
def _fairseqs_decoder() -> Iterator[None]:
    """Models built inside have fairseq's decoder."""
    with patch.object(lightconv_cgc, "LightConvCGCDecoder", LightConvDecoder):
        yield


def _trained(settings: Settings) -> Callable[[], tuple[Any, Any, Any]]:
    def load() -> tuple[Any, Any, Any]:
        (model,), cfg, task = checkpoint_utils.load_model_ensemble_and_task(
            [str(settings.checkpoint)], arg_overrides={"data": str(settings.data)}
        )
        return cfg, task, model

    return load


def _fairseqs_search(
    task: Any, model: Any, sample: dict[str, Any], length: int | None
) -> list[list[int]]:
    search = Namespace(beam=BEAM)
    if length is not None:
        search = Namespace(beam=BEAM, max_len_a=0, max_len_b=length, min_len=length)
    found = task.inference_step(task.build_generator([model], search), [model], sample)
    return [hypotheses[0]["tokens"].tolist() for hypotheses in found]


def _our_search(model: Model, sample: dict[str, Any], length: int | None) -> list[list[int]]:
    options = SearchOptions(beam=BEAM, max_len_a=0)
    if length is not None:
        options = SearchOptions(beam=BEAM, max_len_a=0, max_len_b=length, min_len=length)
    found = BeamSearch([model], options).search(_sources(sample))
    return [hypotheses[0].tokens for hypotheses in found]


def _sources(sample: dict[str, Any]) -> list[torch.Tensor]:
    return [row[row.ne(PAD)] for row in sample["net_input"]["src_tokens"]]


def _mib(module: nn.Module) -> float:
    tensors = [*module.parameters(), *module.buffers()]
    return sum({x.data_ptr(): x.nbytes for x in tensors}.values()) / 2**20


def has_ctranslate2() -> bool:
    """Whether it is installed."""
    return find_spec("ctranslate2") is not None


def _ctranslate2(model: str, precision: str) -> Contender:
    """fairseq's Transformer of Table 6 with the same dictionaries, by CTranslate2."""
    if "AMD" in describe_machine(cpu=True):
        os.environ.setdefault("CT2_USE_MKL", "0")  # there its other backend is the faster one
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
        steps = length + 1  # fairseq's and ours count no end of the sentence
        found = translator.translate_batch(
            sources, beam_size=BEAM, min_decoding_length=steps, max_decoding_length=steps
        )
        index = task.target_dictionary.index
        return [[index(word) for word in each.hypotheses[0]] for each in found]

    return Contender(search, weights_mib)
