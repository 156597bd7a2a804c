"""The options of a trained model that inference depends on, read from its checkpoint."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from fairseq_cgc.support.errors import UserError

#: An option that may be None, and the option whose value it then has.
FALLBACKS = (
    ("encoder_conv_dim", "encoder_embed_dim"),
    ("decoder_embed_dim", "encoder_embed_dim"),
    ("decoder_conv_dim", "decoder_embed_dim"),
    ("decoder_ffn_embed_dim", "encoder_ffn_embed_dim"),
    ("decoder_input_dim", "decoder_embed_dim"),
    ("decoder_output_dim", "decoder_embed_dim"),
)
_CHOICES = {
    "encoder_conv_type": ("lightweight", "dynamic"),
    "decoder_conv_type": ("lightweight", "dynamic"),
    "decoder_gate": ("none", "source"),
}
_MOST_LAYERS = 1000


@dataclass(frozen=True)
class ModelOptions:
    """The options of ``lightconv_cgc`` and fairseq's ``lightconv`` that inference depends on."""

    encoder_embed_dim: int
    encoder_conv_dim: int
    encoder_ffn_embed_dim: int
    encoder_attention_heads: int
    encoder_kernel_size_list: tuple[int, ...]
    encoder_normalize_before: bool
    encoder_glu: bool
    encoder_learned_pos: bool
    decoder_embed_dim: int
    decoder_conv_dim: int
    decoder_ffn_embed_dim: int
    decoder_input_dim: int
    decoder_output_dim: int
    decoder_attention_heads: int
    decoder_kernel_size_list: tuple[int, ...]
    decoder_normalize_before: bool
    decoder_glu: bool
    decoder_learned_pos: bool
    max_source_positions: int
    max_target_positions: int
    encoder_conv_type: str = "lightweight"
    decoder_conv_type: str = "lightweight"
    encoder_gate_target: str = "none"
    encoder_gate_norm: str = "latent"
    decoder_gate: str = "none"
    weight_softmax: bool = True
    share_decoder_input_output_embed: bool = False
    share_all_embeddings: bool = False
    no_token_positional_embeddings: bool = False
    adaptive_softmax_cutoff: tuple[int, ...] | None = None

    @classmethod
    def from_checkpoint(cls, state: Mapping[str, Any]) -> ModelOptions:
        """Read the options that a checkpoint of ``fairseq-train`` brings.

        Raises:
            UserError: if it is of another architecture, or an option is missing or wrong.
        """
        values = _model_config(state)
        if not is_lightconv(state):
            name = values.get("_name") or values.get("arch")
            raise UserError(
                f"the checkpoint is of architecture {name!r}, but must be lightconv_cgc or "
                "fairseq's lightconv"
            )
        for option, other in FALLBACKS:
            if values.get(option) is None:
                values[option] = values.get(other)
        for side in ("encoder", "decoder"):
            option = f"{side}_kernel_size_list"
            sizes = _whole_numbers(option, values.get(option))
            values[option] = sizes * _layers(values, side) if len(sizes) == 1 else sizes
        if values.get("adaptive_softmax_cutoff") is not None:
            option = "adaptive_softmax_cutoff"
            values[option] = _whole_numbers(option, values[option])
        if values.get("share_all_embeddings"):
            values["share_decoder_input_output_embed"] = True
        return cls.from_values(values)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> ModelOptions:
        """Options from a mapping that may hold more.

        Raises:
            UserError: naming the first option that is missing or has a wrong value.
        """
        found: dict[str, Any] = {}
        for option in fields(cls):
            value = values.get(option.name, option.default)
            if value is MISSING:
                raise UserError(f"the model's options lack {option.name}")
            if isinstance(value, list):
                value = tuple(value)
            allowed = _CHOICES.get(option.name)
            fits = value in allowed if allowed else _KINDS[str(option.type)][1](value)
            if not fits:
                must = " or ".join(allowed) if allowed else _KINDS[str(option.type)][0]
                raise UserError(f"{option.name} is {value!r}, but must be {must}")
            found[option.name] = value
        return cls(**found)


def _is_positive(value: Any) -> bool:
    return type(value) is int and value > 0


def _are_positive(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) > 0 and all(map(_is_positive, value))


#: Type of a field -> what its values must be, and whether one is.
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "int": ("a positive whole number", _is_positive),
    "bool": ("true or false", lambda value: value is None or value in (0, 1)),
    "str": ("a word", lambda value: isinstance(value, str)),
    "tuple[int, ...]": ("a list of positive whole numbers", _are_positive),
    "tuple[int, ...] | None": (
        "a list of positive whole numbers",
        lambda value: value is None or _are_positive(value),
    ),
}


def is_lightconv(state: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is of ``lightconv_cgc`` or fairseq's ``lightconv``."""
    values = _model_config(state)
    return str(values.get("_name") or values.get("arch")).startswith("lightconv")


def _model_config(state: Mapping[str, Any]) -> dict[str, Any]:
    """The model's part of the options; older checkpoints keep all options in one namespace."""
    config = state.get("cfg")
    model = config.get("model") if isinstance(config, Mapping) else None
    model = model if model is not None else state.get("args")
    if model is None:
        raise UserError("the checkpoint has no options of its model")
    values = dict(model if isinstance(model, Mapping) else getattr(model, "__dict__", {}))
    task = config.get("task") if isinstance(config, Mapping) else None
    for name in ("max_source_positions", "max_target_positions"):
        if not isinstance(values.get(name), int):
            values[name] = (dict(task) if isinstance(task, Mapping) else {}).get(name, 1024)
    return values


def _layers(values: Mapping[str, Any], side: str) -> int:
    layers = values.get(f"{side}_layers", 1)
    if not (_is_positive(layers) and layers <= _MOST_LAYERS):
        raise UserError(f"{side}_layers is {layers!r}, but must be from 1 to {_MOST_LAYERS}")
    return int(layers)


def _whole_numbers(option: str, value: Any) -> tuple[int, ...]:
    """A list, or a string such as ``[3, 7] * 2`` without the product, as whole numbers."""
    try:
        value = ast.literal_eval(value) if isinstance(value, str) else value
        numbers = tuple(value) if not isinstance(value, int) else (value,)
        if numbers and all(type(number) is int for number in numbers):
            return numbers
    except (TypeError, ValueError, SyntaxError):
        pass
    raise UserError(f"{option} is {value!r}, but must be a list of whole numbers")
