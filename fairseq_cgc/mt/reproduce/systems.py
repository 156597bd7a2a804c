"""The systems of Table 6 at the sizes of a protocol, their parameters, and what is published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

import fairseq_cgc.models  # noqa: F401  (registers the architectures)
from fairseq_cgc.models.config import architecture_values
from fairseq_cgc.mt.reproduce.protocol import Protocol, as_option
from fairseq_cgc.support.errors import UserError

BASELINE = "lightconv"
#: Key -> name in tables.
SYSTEMS = {
    "transformer": "Transformer",
    "lightconv": "LightConv",
    "dynamic": "LightConv + dynamic encoder",
    "cgc": "LightConv + CGC encoder",
    "cgc-heads": "LightConv + CGC encoder (norm over all heads)",
    "cgc-source": "LightConv + CGC encoder, decoder gated by the source",
    "cgc-logits": "LightConv + CGC encoder (gate on logits)",
}
#: The four of Table 6.
TABLE_6 = ("transformer", "lightconv", "dynamic", "cgc")

_TRANSFORMER = {
    # The paper's Transformer shares the decoder's embeddings (39.47M parameters).
    "iwslt14_de_en": ["--arch", "transformer_iwslt_de_en", "--share-decoder-input-output-embed"],
    "multi30k": [
        *("--arch", "transformer", "--encoder-embed-dim", "128", "--encoder-ffn-embed-dim", "256"),
        *("--encoder-layers", "4", "--decoder-layers", "4"),
        *("--encoder-attention-heads", "4", "--decoder-attention-heads", "4"),
    ],
}
#: The systems that are this package's model.
_GATES = {
    # fairseq's LightConv on this package's convolution.
    "lightconv": ["--encoder-gate-target", "none"],
    "cgc": [],
    "cgc-heads": ["--encoder-gate-norm", "heads"],
    "cgc-source": ["--decoder-gate", "source"],
    "cgc-logits": ["--encoder-gate-target", "logits"],
}


@dataclass(frozen=True)
class Published:
    """A figure of a paper."""

    bleu: float
    """Tokenised BLEU-4, 0 to 100."""
    beam: int
    parameters: str = ""


#: Protocol -> system -> what was published under it: Table 6 of the paper, and Table 2 of
#: "Good for Misconceived Reasons" for Multi30k's test_2016_flickr.
PUBLISHED = {
    "iwslt14_de_en": {
        "transformer": Published(34.41, 6, "39.47M"),
        "lightconv": Published(34.84, 6, "38.14M"),
        "dynamic": Published(35.03, 6, "38.44M"),
        "cgc": Published(35.21, 6, "38.15M"),
    },
    "multi30k": {"transformer": Published(41.02, 5)},
}


def system_options(system: str, protocol: Protocol) -> list[str]:
    """The architecture of ``system`` as options of ``fairseq-train``.

    Raises:
        UserError: if there is no such system.
    """
    if system not in SYSTEMS:
        raise UserError(f"--systems has {system!r}, but must be of {', '.join(SYSTEMS)}")
    if system == "transformer":
        return _TRANSFORMER[protocol.name]
    if system in _GATES:
        return ["--arch", protocol.architecture, *_GATES[system]]
    sizes = [
        word
        for key, value in architecture_values(protocol.architecture).items()
        for word in as_option(key, str(value) if isinstance(value, bool) else value)
    ]
    kinds = ["--encoder-conv-type", "dynamic", "--decoder-conv-type", "lightweight"]
    return ["--arch", "lightconv", *sizes, *kinds]


def count_parameters(data_dir: Path, train_options: Sequence[str]) -> int:
    """Build the model, without training it, and count its parameters once where tied.

    Args:
        data_dir: folder with the dictionaries; nothing else of it is read.
        train_options: options of ``fairseq-train``, languages and architecture among them.
    """
    parser = options.get_training_parser()
    args = options.parse_args_and_arch(parser, input_args=[str(data_dir), *train_options])
    cfg = convert_namespace_to_omegaconf(args)
    with torch.random.fork_rng(devices=[]):
        model = tasks.setup_task(cfg.task).build_model(cfg.model)
    return sum(parameter.numel() for parameter in model.parameters())
