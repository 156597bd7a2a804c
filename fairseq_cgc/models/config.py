"""Options of the LightConv + CGC model, their checks, and the named architectures.

Options that fairseq's LightConv has keep its names, meaning and defaults, except that both
convolution types are lightweight. Values that differ per architecture live in one place,
``fairseq_cgc/config/model/ARCHITECTURE.yaml``: ``--arch`` reads them here, and
``fairseq-hydra-train model=ARCHITECTURE`` reads the same files.
"""

import argparse
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, List, Optional  # noqa: UP035

import yaml
from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass.utils import gen_parser_from_dataclass
from omegaconf import II

from fairseq_cgc.core import GATE_NORMS, GATE_TARGETS, UserError
from fairseq_cgc.inference.model_options import FALLBACKS
from fairseq_cgc.support.options import demand, option_of

CONFIG_DIR = Path(__file__).resolve().parent.parent / "config"
#: The value of --encoder-gate-target and --decoder-gate without gates.
NO_GATE = "none"


def _option(default: Any, help: str) -> Any:
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


# fairseq makes command-line options from these annotations: they must be types, not strings,
# and of the typing module.
# ruff: noqa: UP006, UP045
@dataclass
class LightConvCGCConfig(FairseqDataclass):
    """Options of :class:`LightConvCGCModel`; ``None`` means "as stated in the help"."""

    dropout: float = _option(0.1, "dropout probability")
    attention_dropout: float = _option(0.0, "dropout probability of attention weights")
    relu_dropout: float = _option(0.0, "dropout probability after the feed-forward ReLU")
    input_dropout: float = _option(0.1, "dropout probability of a convolution block's input")
    weight_dropout: Optional[float] = _option(
        None, "DropConnect probability of convolution kernels (default: --attention-dropout)"
    )
    encoder_embed_path: Optional[str] = _option(None, "file of pre-trained encoder embeddings")
    encoder_embed_dim: int = _option(512, "encoder width")
    encoder_conv_dim: Optional[int] = _option(
        None, "channels of the encoder's convolutions (default: --encoder-embed-dim)"
    )
    encoder_ffn_embed_dim: int = _option(2048, "width of the encoder's feed-forward layers")
    encoder_layers: int = _option(7, "number of encoder layers")
    encoder_attention_heads: int = _option(8, "heads of the encoder's convolutions")
    encoder_normalize_before: bool = _option(False, "layer norm before each encoder block")
    encoder_learned_pos: bool = _option(False, "learned encoder positions")
    encoder_kernel_size_list: List[int] = _option(
        [3, 7, 15, 31, 31, 31, 31],
        "odd kernel size of each encoder layer, or one for all; the gate of a kernel of 3 hardly "
        "depends on the sentence (8 distinct values per head over 200 sentences; of 31: 200), and "
        "a kernel of 1 has none",
    )
    encoder_glu: bool = _option(True, "gated linear unit before each encoder convolution")
    encoder_gate_target: str = _option(
        "kernel",
        "what the context gate multiplies: 'kernel' (after the softmax), 'logits' (before it), or "
        "'none': no gate, fairseq's LightConv on this package's convolution",
    )
    encoder_gate_norm: str = _option(
        "latent",
        "what the layer norm of the gates spans, also of the decoder's: 'latent' (the latent "
        "numbers of each head, as in the paper) or 'heads' (those of all heads of the sentence)",
    )
    decoder_embed_path: Optional[str] = _option(None, "file of pre-trained decoder embeddings")
    decoder_embed_dim: Optional[int] = _option(None, "decoder width (default: --encoder-embed-dim)")
    decoder_conv_dim: Optional[int] = _option(
        None, "channels of the decoder's convolutions (default: --decoder-embed-dim)"
    )
    decoder_ffn_embed_dim: Optional[int] = _option(
        None, "width of the decoder's feed-forward layers (default: --encoder-ffn-embed-dim)"
    )
    decoder_input_dim: Optional[int] = _option(
        None, "width of the decoder's input embedding (default: --decoder-embed-dim)"
    )
    decoder_output_dim: Optional[int] = _option(
        None, "width of the decoder's output (default: --decoder-embed-dim)"
    )
    decoder_layers: int = _option(6, "number of decoder layers")
    decoder_attention_heads: int = _option(8, "heads of the decoder's convolutions and attention")
    decoder_normalize_before: bool = _option(False, "layer norm before each decoder block")
    decoder_learned_pos: bool = _option(False, "learned decoder positions")
    decoder_kernel_size_list: List[int] = _option(
        [3, 7, 15, 31, 31, 31], "kernel size of each decoder layer, or one for all"
    )
    decoder_glu: bool = _option(True, "gated linear unit before each decoder convolution")
    decoder_conv_type: str = _option("lightweight", "'lightweight' or 'dynamic'")
    decoder_gate: str = _option(
        "none",
        "what gates the decoder's kernels, after their softmax: 'none' (as in the paper) or "
        "'source' (the encoder's output; not with --decoder-conv-type dynamic)",
    )
    weight_softmax: bool = _option(True, "normalise each convolution kernel by a softmax")
    share_decoder_input_output_embed: bool = _option(
        False, "share the decoder's input and output embeddings"
    )
    share_all_embeddings: bool = _option(
        False, "share encoder, decoder and output embeddings (needs a joined dictionary)"
    )
    no_token_positional_embeddings: bool = _option(False, "no positional embeddings")
    adaptive_softmax_cutoff: Optional[List[int]] = _option(
        None, "cutoffs of an adaptive softmax (for --criterion adaptive_loss)"
    )
    adaptive_softmax_dropout: float = _option(0.0, "dropout of the adaptive softmax's tails")
    init_from_lightconv: Optional[str] = _option(
        None, "start from this checkpoint of fairseq's LightConv; only the gates are new"
    )
    max_source_positions: int = II("task.max_source_positions")
    max_target_positions: int = II("task.max_target_positions")


def add_arguments(parser: Any) -> None:
    """Add the options to an argparse parser or group, without defaults.

    Switches that are on by default take a value (``--encoder-glu 0``), as in fairseq's
    LightConv; fairseq would turn them into flags that switch off. It skips what is there.
    """
    for item in fields(LightConvCGCConfig):
        if item.default is not True and item.default_factory is not True:
            continue
        option = option_of(item.name)
        parser.add_argument(option, type=_boolean, metavar="BOOL", help=item.metadata["help"])
    gen_parser_from_dataclass(parser, LightConvCGCConfig(), delete_default=True)


def _boolean(text: str) -> bool:
    values = {"1": True, "true": True, "0": False, "false": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"must be true, false, 1 or 0, but is {text!r}")
    return values[text.lower()]


def architectures() -> list[str]:
    """Names of the architectures beside ``lightconv_cgc`` itself."""
    names = {path.stem for path in (CONFIG_DIR / "model").glob("*.yaml")}
    return sorted(names - {"lightconv_cgc"})


def architecture_values(name: str) -> dict[str, Any]:
    """What the architecture ``name`` sets: option to value."""
    values = yaml.safe_load((CONFIG_DIR / "model" / f"{name}.yaml").read_text(encoding="utf-8"))
    return {option: values[option] for option in values if option not in ("defaults", "_name")}


def resolve(cfg: Any) -> argparse.Namespace:
    """Check the options and replace every ``None`` that stands for another option's value.

    Args:
        cfg: a :class:`LightConvCGCConfig` or anything with its attributes.

    Returns:
        A new namespace, in the form that fairseq's LightConv reads.

    Raises:
        UserError: naming the option, its value and what is allowed.
    """
    options = [f for f in fields(LightConvCGCConfig) if not f.name.startswith("_")]
    # A checkpoint from before an option was added does not have it, and behaves as its default.
    args = argparse.Namespace(**{f.name: getattr(cfg, f.name, f.default) for f in options})
    for name, other in (("weight_dropout", "attention_dropout"), *FALLBACKS):
        if getattr(args, name) is None:
            setattr(args, name, getattr(args, other))
    _check_numbers(args)
    # The decoder's attention reads the encoder's output as it is.
    same_width = args.decoder_embed_dim == args.encoder_embed_dim
    allowed = f"--encoder-embed-dim, which is {args.encoder_embed_dim}"
    demand(args, "decoder_embed_dim", same_width, allowed)
    for side in ("encoder", "decoder"):
        sizes, layers = getattr(args, f"{side}_kernel_size_list"), getattr(args, f"{side}_layers")
        sizes = list(sizes) * layers if len(sizes) == 1 else list(sizes)
        setattr(args, f"{side}_kernel_size_list", sizes)
        _check_kernel_sizes(side, sizes, layers)
        heads = getattr(args, f"{side}_attention_heads")
        for dim in ("conv_dim", "embed_dim")[: 2 if side == "decoder" else 1]:
            width = getattr(args, f"{side}_{dim}")
            if width % heads != 0:
                raise UserError(
                    f"--{side}-attention-heads is {heads}, but must divide "
                    f"--{side}-{dim.replace('_', '-')}, which is {width}"
                )
    _check_choice(args, "encoder_gate_target", *GATE_TARGETS, NO_GATE)
    _check_choice(args, "encoder_gate_norm", *GATE_NORMS)
    _check_choice(args, "decoder_conv_type", "lightweight", "dynamic")
    _check_choice(args, "decoder_gate", NO_GATE, "source")
    if args.decoder_gate != NO_GATE and args.decoder_conv_type != "lightweight":
        raise UserError(
            f"--decoder-gate is {args.decoder_gate!r}, but with --decoder-conv-type "
            f"{args.decoder_conv_type} must be {NO_GATE!r}"
        )
    if args.share_all_embeddings:
        _check_shared_embeddings(args)
        args.share_decoder_input_output_embed = True
    if args.share_decoder_input_output_embed and args.decoder_output_dim != args.decoder_input_dim:
        raise UserError(
            f"--decoder-output-dim is {args.decoder_output_dim}, but with a shared embedding must "
            f"be --decoder-input-dim, which is {args.decoder_input_dim}"
        )
    args.encoder_conv_type = "lightweight"
    # fairseq's LightConv reads these but offers no option for them.
    args.tie_adaptive_weights = args.tie_adaptive_proj = False
    args.adaptive_softmax_factor = 4
    return args


def _check_numbers(args: argparse.Namespace) -> None:
    for name, value in vars(args).items():
        if name.endswith("dropout"):
            demand(args, name, 0.0 <= value <= 1.0, "from 0 to 1")
        if name.endswith(("_dim", "_layers", "_heads")):
            demand(args, name, value >= 1, "at least 1")


def _check_kernel_sizes(side: str, sizes: list[int], layers: int) -> None:
    option = f"--{side}-kernel-size-list"
    if len(sizes) != layers:
        raise UserError(
            f"{option} has {len(sizes)} entries ({sizes}), but --{side}-layers is {layers}; "
            "give one entry per layer, or one for all"
        )
    for size in sizes:
        if size < 1:
            raise UserError(f"{option} is {sizes}, but its entries must be at least 1")
        if side == "encoder" and size % 2 == 0:
            raise UserError(f"{option} is {sizes}, but its entries must be odd; {size} is even")


def _check_choice(args: argparse.Namespace, name: str, *allowed: str) -> None:
    value = getattr(args, name)
    if value not in allowed:
        raise UserError(f"{option_of(name)} is {value!r}, but must be one of {', '.join(allowed)}")


def _check_shared_embeddings(args: argparse.Namespace) -> None:
    if args.encoder_embed_dim != args.decoder_input_dim:
        raise UserError(
            f"--share-all-embeddings needs --decoder-input-dim ({args.decoder_input_dim}) equal "
            f"to --encoder-embed-dim ({args.encoder_embed_dim})"
        )
    if args.decoder_embed_path not in (None, args.encoder_embed_path):
        raise UserError(
            f"--share-all-embeddings allows no --decoder-embed-path ({args.decoder_embed_path}) "
            f"other than --encoder-embed-path ({args.encoder_embed_path})"
        )
