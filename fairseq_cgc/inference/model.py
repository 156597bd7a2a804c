"""A trained LightConv model with any gate, built from fairseq's parameters without fairseq."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fairseq_cgc.core.lightconv import fold_constant_gates
from fairseq_cgc.inference.decoder import Decoder
from fairseq_cgc.inference.encoder import Encoder
from fairseq_cgc.inference.model_options import ModelOptions
from fairseq_cgc.inference.precision import PRECISIONS, Int8Linear, use_int8_layers
from fairseq_cgc.support.errors import UserError


class Model(nn.Module):
    """Encoder and decoder of a trained model.

    Args:
        options: the options of the checkpoint.
        source_types: size of the source dictionary.
        target_types: size of the target dictionary.
    """

    def __init__(self, options: ModelOptions, source_types: int, target_types: int) -> None:
        super().__init__()
        self.options = options
        self.encoder = Encoder(options, source_types)
        self.decoder = Decoder(options, target_types)

    @classmethod
    def from_state(
        cls, options: ModelOptions, state: Mapping[str, Tensor], *, precision: str = PRECISIONS[0]
    ) -> Model:
        """Build a model from its weights, in eval mode.

        Args:
            options: the options of the model.
            state: the weights by fairseq's names; a shared embedding need occur only once.
            precision: the precision of the weights.

        Raises:
            UserError: if a weight is missing, unknown or of another shape; the message names it.
        """
        state = _in_todays_form(state)
        tied = tied_weights(options)
        for name, original in tied:
            if original in state and (precision != "int8" or "embed_tokens" in name):
                state.setdefault(name, state[original])
        tables = [f"{side}.embed_tokens.weight" for side in ("encoder", "decoder")]
        for name in tables:
            if name not in state or state[name].dim() != 2:
                raise UserError(f"the weights lack the matrix {name}")
        try:
            with torch.device("meta"):
                model = cls(options, *(len(state[name]) for name in tables))
                if precision == "int8":
                    use_int8_layers(model)
                else:  # 8-bit weights came after the last gates of this kind
                    fold_constant_gates(model, state)
        except (RuntimeError, TypeError) as error:  # torch's, of sizes that no tensor has
            reason = str(error).partition("\n")[0]
            raise UserError(f"the model's options describe no possible model ({reason})") from error
        _check_fit(model.state_dict(), state)
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        state = {
            name: value.to(dtype) if value.is_floating_point() else value
            for name, value in state.items()
        }
        model.load_state_dict(state, assign=True)
        for name, original in tied:
            module = model.get_submodule(name.removesuffix(".weight"))
            if not isinstance(module, Int8Linear):
                module.weight = model.get_parameter(original)
        return model.requires_grad_(False).eval()


def tied_weights(options: ModelOptions) -> list[tuple[str, str]]:
    """Shared weights, as pairs of the name of the second use and that of the first."""
    tied = []
    if options.share_all_embeddings:
        tied.append(("decoder.embed_tokens.weight", "encoder.embed_tokens.weight"))
    if options.share_decoder_input_output_embed and options.adaptive_softmax_cutoff is None:
        tied.append(("decoder.output_projection.weight", "decoder.embed_tokens.weight"))
    return tied


def _has_gates(state: Mapping[str, Tensor]) -> bool:
    return any(".gate." in name for name in state)


def _check_fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    if _has_gates(own) and not _has_gates(state):
        raise UserError(
            "the checkpoint has no gates: it is not of the model that its options describe"
        )
    what = "the weights do not fit the model's options"
    if own.keys() != state.keys():
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        first = f"{missing[0]} is missing" if missing else f"{unknown[0]} is unknown"
        raise UserError(f"{what}: {first} ({len(missing)} missing, {len(unknown)} unknown in all)")
    for name, value in state.items():
        if value.shape != own[name].shape:
            raise UserError(
                f"{what}: {name} is {tuple(value.shape)}, but must be {tuple(own[name].shape)}"
            )
        are_floats = value.is_floating_point() and own[name].is_floating_point()
        if not are_floats and value.dtype != own[name].dtype:
            raise UserError(f"{what}: {name} has numbers of type {value.dtype}")


def _in_todays_form(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert checkpoints of fairseq before 0.10, and of its CUDA layers, to today's form."""
    # Sinusoids are computed, and fairseq's dynamic convolution has a bias that it does not use.
    left_out = ("version", "_float_tensor", "embed_positions.weights", "conv.conv_bias")
    renamed = {
        "decoder.output_projection.weight" if name == "decoder.embed_out" else name: value
        for name, value in state.items()
        if not name.endswith(left_out)
    }
    return {
        name: value.unsqueeze(1) if name.endswith("conv.weight") and value.dim() == 2 else value
        for name, value in renamed.items()
    }
