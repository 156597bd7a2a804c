"""A small model whose beam search is worth watching, and the same in fairseq's decoder."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
from fairseq.dataclass.configs import GenerationConfig
from fairseq.models.lightconv import LightConvDecoder, LightConvDecoderLayer, LightConvEncoder
from fairseq.modules.lightweight_convolution import LightweightConv1dTBC
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from fairseq.token_generation_constraints import pack_constraints
from omegaconf import OmegaConf
from small_models import TINY, build, dictionary, parse
from torch import nn

from fairseq_cgc.inference.model import Model
from fairseq_cgc.inference.model_options import ModelOptions
from fairseq_cgc.models.convolutions import SourceGatedLightConv
from fairseq_cgc.models.lightconv_cgc import LightConvCGCEncoder

ARCH = "lightconv_cgc_iwslt_de_en"
LENGTHS = [9, 4, 7, 2, 9, 5]
TASK = TranslationTask(TranslationConfig(), dictionary(30), dictionary(20))


class FairseqsEncoder(LightConvCGCEncoder):
    """Ours, its output reordered as fairseq does."""

    reorder_encoder_out = LightConvEncoder.reorder_encoder_out


def as_fairseq(model: nn.Module) -> nn.Module:
    """The same weights in fairseq's decoder, over our layers where fairseq has none."""
    model = copy.deepcopy(model)
    model.encoder.__class__ = FairseqsEncoder
    model.decoder.__class__ = LightConvDecoder
    for layer in model.decoder.layers:
        if isinstance(layer.conv, SourceGatedLightConv):
            continue
        layer.__class__ = LightConvDecoderLayer
        if isinstance(layer.conv, LightweightConv1dTBC):
            layer.conv.__class__ = LightweightConv1dTBC
    return model


PREFIXES = torch.tensor([[5, 6], [7, 1], [8, 9], [4, 4], [12, 1], [10, 11]])
CONSTRAINTS = pack_constraints([[torch.tensor([7])], [], [torch.tensor([9, 5])]] * 2)
SEARCHES: dict[str, dict[str, Any]] = {
    "beam 6": {},
    "beam 1": {"beam": 1},
    "beam 5, three steps": {"beam": 5, "max_len_b": 3},
    "lenpen": {"lenpen": 2.0, "unnormalized": True, "temperature": 0.7},
    "least length": {"min_len": 6},
    "source's length": {"match_source_len": True},
    "prefixes": {"prefix_tokens": PREFIXES},
    "constraints": {"constraints": CONSTRAINTS, "max_len_b": 40},
    "no repeated n-grams": {"no_repeat_ngram_size": 2},
    "diverse beams": {"diverse_beam_groups": 3, "diverse_beam_strength": 0.5},
    "diverse siblings": {"diversity_rate": 0.5},
    "sampling": {"sampling": True},
    "sampling from the best": {"sampling": True, "sampling_topk": 4},
    "sampling from most": {"sampling": True, "sampling_topp": 0.7},
}


OPTIONS = {
    "glu": ["--decoder-glu", "1"],
    "norm first": ["--decoder-normalize-before"],
    "dynamic": ["--decoder-conv-type", "dynamic"],
    "no softmax": ["--weight-softmax", "0"],
    "shared embedding": ["--share-decoder-input-output-embed"],
    "learned positions": ["--decoder-learned-pos"],
    "no gates": ["--encoder-gate-target", "none"],
    "other width": ["--decoder-conv-dim", "8"],
}

LAYERS = [
    *("--encoder-layers", "2", "--encoder-kernel-size-list", "[3,7]"),
    *("--decoder-layers", "2", "--decoder-kernel-size-list", "[3,7]"),
]


@functools.cache
def _built(*arguments: str) -> nn.Module:
    return build(ARCH, *TINY, *LAYERS, *arguments)


def lively(*arguments: str, seed: int = 1) -> nn.Module:
    """A small model with weights so large that its hypotheses differ and end at different steps."""
    model = copy.deepcopy(_built(*arguments))
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def without_fairseq(model: nn.Module, *arguments: str, arch: str = ARCH) -> Model:
    """The same weights in this package's model for inference."""
    cfg = OmegaConf.to_container(parse(arch, *TINY, *LAYERS, *arguments), enum_to_str=True)
    options = ModelOptions.from_checkpoint({"cfg": cfg})
    return Model.from_state(options, model.state_dict())


def sample() -> dict[str, Any]:
    torch.manual_seed(5)
    sources = [torch.randint(4, 30, (length,)) for length in LENGTHS]
    dataset = TASK.build_dataset_for_inference(sources, LENGTHS)
    return dataset.collater([dataset[i] for i in range(len(dataset))])


def hypotheses(models: list[nn.Module], *, seed: int = 0, **options: Any) -> list[Any]:
    """What fairseq's generator finds: for every sentence, every hypothesis."""
    given = {key: options.pop(key) for key in ("prefix_tokens", "constraints") if key in options}
    options = {"beam": 6, "max_len_b": 12, **options}
    if "constraints" in given:
        options["constraints"] = "unordered"
    if "print_alignment" in options:
        options["print_alignment"] = "soft"
    generator = TASK.build_generator(models, GenerationConfig(**options))
    batch = sample()
    torch.manual_seed(seed)
    return TASK.inference_step(generator, models, batch, **given)


def assert_alike(got: list[Any], want: list[Any]) -> None:
    for ours, theirs in zip(got, want, strict=True):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert a["tokens"].tolist() == b["tokens"].tolist()
            for key in ("score", "positional_scores", "attention"):
                torch.testing.assert_close(a[key], b[key], atol=1e-5, rtol=1e-5)
