"""The systems of a table: their options at the sizes of a protocol, and what is published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fairseq_cgc.mt.reproduce.protocol import Protocol, as_option, read_config
from fairseq_cgc.support.errors import UserError

BASELINE = "lightconv"
#: The four of Table 6.
TABLE_6 = ("transformer", "lightconv", "dynamic", "cgc")


@dataclass(frozen=True)
class Published:
    """A figure of a paper."""

    bleu: float
    """Tokenised BLEU-4, 0 to 100."""
    beam: int
    parameters: str = ""


@dataclass(frozen=True)
class System:
    """One row of the table."""

    name: str
    options: Callable[[Protocol], list[str]]
    """Its architecture as options of ``fairseq-train``."""
    published: Mapping[str, Published] = field(default_factory=dict)
    """Protocol -> Table 6 of the paper, or Table 2 of "Good for Misconceived Reasons" for
    Multi30k's test_2016_flickr."""
    has_gates: bool = False


def _transformer(protocol: Protocol) -> list[str]:
    if protocol.name == "iwslt14_de_en":
        # The paper's Transformer shares the decoder's embeddings (39.47M parameters).
        return ["--arch", "transformer_iwslt_de_en", "--share-decoder-input-output-embed"]
    return [
        *("--arch", "transformer", "--encoder-embed-dim", "128", "--encoder-ffn-embed-dim", "256"),
        *("--encoder-layers", "4", "--decoder-layers", "4"),
        *("--encoder-attention-heads", "4", "--decoder-attention-heads", "4"),
    ]


def _dynamic(protocol: Protocol) -> list[str]:
    sizes = [
        word
        for key, value in read_config(f"model/{protocol.architecture}").items()
        if key not in ("defaults", "_name")
        for word in as_option(key, str(value) if isinstance(value, bool) else value)
    ]
    kinds = ["--encoder-conv-type", "dynamic", "--decoder-conv-type", "lightweight"]
    return ["--arch", "lightconv", *sizes, *kinds]


def _ours(*options: str) -> Callable[[Protocol], list[str]]:
    """This package's model."""
    return lambda protocol: ["--arch", protocol.architecture, *options]


#: All systems, by their keys. A new one is an entry here.
SYSTEMS = {
    "transformer": System(
        "Transformer",
        _transformer,
        {
            "iwslt14_de_en": Published(34.41, 6, "39.47M"),
            "multi30k": Published(41.02, 5),
        },
    ),
    # fairseq's LightConv on this package's convolution.
    "lightconv": System(
        "LightConv",
        _ours("--encoder-gate-target", "none"),
        {"iwslt14_de_en": Published(34.84, 6, "38.14M")},
    ),
    "dynamic": System(
        "LightConv + dynamic encoder",
        _dynamic,
        {"iwslt14_de_en": Published(35.03, 6, "38.44M")},
    ),
    "cgc": System(
        "LightConv + CGC encoder",
        _ours(),
        {"iwslt14_de_en": Published(35.21, 6, "38.15M")},
        has_gates=True,
    ),
    "cgc-heads": System(
        "LightConv + CGC encoder (norm over all heads)",
        _ours("--encoder-gate-norm", "heads"),
        has_gates=True,
    ),
    "cgc-source": System(
        "LightConv + CGC encoder, decoder gated by the source",
        _ours("--decoder-gate", "source"),
        has_gates=True,
    ),
    "cgc-logits": System(
        "LightConv + CGC encoder (gate on logits)",
        _ours("--encoder-gate-target", "logits"),
        has_gates=True,
    ),
}


def system_options(system: str, protocol: Protocol) -> list[str]:
    """The architecture of ``system`` as options of ``fairseq-train``.

    Raises:
        UserError: if there is no such system.
    """
    if system not in SYSTEMS:
        raise UserError(f"--systems has {system!r}, but must be of {', '.join(SYSTEMS)}")
    return SYSTEMS[system].options(protocol)


def published(system: str, protocol: str, split: str, beam: int) -> Published | None:
    """What a score is compared with: papers report the test split, at one beam."""
    known = SYSTEMS[system].published.get(protocol)
    return known if known is not None and (split, beam) == ("test", known.beam) else None
