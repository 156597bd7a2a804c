"""LightConv with any gate, for inference: fairseq's parameters without fairseq.

Shape letters: B sentences, T positions, C channels, H heads, K kernel width, N rows of a decoding
step (the sentences times the beam), V types of the target dictionary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_cgc.core import CGLightConv, LightConv, UserError
from fairseq_cgc.core.lightconv import fold_constant_gates
from fairseq_cgc.core.pooling import zero_padding
from fairseq_cgc.core.sentence_gate import make_sentence_gate
from fairseq_cgc.inference.decoding import DecoderState, decode_layer, predicted_kernels
from fairseq_cgc.inference.dictionary import PAD
from fairseq_cgc.inference.model_options import ModelOptions
from fairseq_cgc.inference.precision import PRECISIONS, Int8Linear, use_int8_layers


class EncoderOutput(NamedTuple):
    """``states`` is T x B x C; ``padding_mask`` is B x T, True at padding, or None."""

    states: Tensor
    padding_mask: Tensor | None


class Model(nn.Module):
    """Encoder and decoder of a trained model.

    Args:
        options: of the checkpoint.
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
        """Build the model that weights belong to, in eval mode.

        Args:
            options: of the model.
            state: its weights by fairseq's names; those of a shared embedding may be there once.
            precision: that the weights are in.

        Raises:
            UserError: naming the first weight that is missing, unknown or of another shape.
        """
        state = _in_todays_form(state)
        tied = tied_weights(options)
        for name, original in tied:
            if original in state and (precision != "int8" or "embed_tokens" in name):
                state.setdefault(name, state[original])
        tables = [f"{side}.embed_tokens.weight" for side in ("encoder", "decoder")]
        for name in tables:
            if name not in state:
                raise UserError(f"the weights lack {name}")
        with torch.device("meta"):
            model = cls(options, *(len(state[name]) for name in tables))
            if precision == "int8":
                use_int8_layers(model)
            else:  # 8-bit weights are younger than the last gates of this kind
                fold_constant_gates(model, state)
        _check_fit(model.state_dict(), state)
        if precision == PRECISIONS[0]:
            state = {name: value.float() for name, value in state.items()}
        model.load_state_dict(state, assign=True)
        for name, original in tied:
            module = model.get_submodule(name.removesuffix(".weight"))
            if not isinstance(module, Int8Linear):
                module.weight = model.get_parameter(original)
        return model.requires_grad_(False).eval()


def tied_weights(options: ModelOptions) -> list[tuple[str, str]]:
    """Pairs of weights that are one: the name of the second use, then that of the first."""
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
        raise UserError("the checkpoint has no gates: it is not of the model its options describe")
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


def _in_todays_form(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo what differs in checkpoints of fairseq's CUDA layers and of fairseq before 0.10."""
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


class Encoder(nn.Module):
    """The encoder: embeddings, positions, layers of convolution and feed-forward blocks."""

    def __init__(self, options: ModelOptions, types: int) -> None:
        super().__init__()
        width = options.encoder_embed_dim
        self.embed_tokens = nn.Embedding(types, width, PAD)
        self.embed_positions = _positions(options, "encoder", width)
        self.layers = nn.ModuleList(
            EncoderLayer(options, size) for size in options.encoder_kernel_size_list
        )
        self.layer_norm = nn.LayerNorm(width) if options.encoder_normalize_before else None

    def forward(self, tokens: Tensor, padding_mask: Tensor | None) -> EncoderOutput:
        """Encode a batch.

        Args:
            tokens: B x T, padded on the right.
            padding_mask: B x T, True at padding; None if nothing is padded.
        """
        x = self.embed_tokens(tokens.t()) * math.sqrt(self.embed_tokens.embedding_dim)
        if self.embed_positions is not None:
            x += self.embed_positions.rows(len(x), x).unsqueeze(1)
        for layer in self.layers:
            x = layer(x, padding_mask)
        return EncoderOutput(x if self.layer_norm is None else self.layer_norm(x), padding_mask)


class EncoderLayer(nn.Module):
    """fairseq's LightConv encoder layer with any of this package's convolutions."""

    def __init__(self, options: ModelOptions, kernel_size: int) -> None:
        super().__init__()
        width, channels = options.encoder_embed_dim, options.encoder_conv_dim
        self.normalize_before = options.encoder_normalize_before
        self.linear1 = nn.Linear(width, channels * (2 if options.encoder_glu else 1))
        self.act = nn.GLU() if options.encoder_glu else None
        self.conv = _encoder_convolution(options, kernel_size)
        self.linear2 = nn.Linear(channels, width)
        self.fc1 = nn.Linear(width, options.encoder_ffn_embed_dim)
        self.fc2 = nn.Linear(options.encoder_ffn_embed_dim, width)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """``x`` and the result are T x B x C; ``padding_mask`` is B x T, True at padding."""
        norm_first = self.normalize_before
        inputs = self.linear1(self.layer_norm1(x) if norm_first else x)
        if self.act is not None:
            inputs = self.act(inputs)
        x = x + self.linear2(self.conv(inputs, padding_mask))
        x = x if norm_first else self.layer_norm1(x)
        x = x + self.fc2(torch.relu_(self.fc1(self.layer_norm2(x) if norm_first else x)))
        return x if norm_first else self.layer_norm2(x)


class Decoder(nn.Module):
    """The decoder, one position at a time."""

    def __init__(self, options: ModelOptions, types: int) -> None:
        super().__init__()
        width = options.decoder_embed_dim
        own, out = options.decoder_input_dim, options.decoder_output_dim
        self.max_positions, self.scale = options.max_target_positions, math.sqrt(width)
        self.embed_tokens = nn.Embedding(types, own, PAD)
        self.project_in_dim = nn.Linear(own, width, bias=False) if own != width else None
        self.embed_positions = _positions(options, "decoder", width)
        self.layers = nn.ModuleList(
            DecoderLayer(options, size) for size in options.decoder_kernel_size_list
        )
        self.layer_norm = nn.LayerNorm(width) if options.decoder_normalize_before else None
        self.project_out_dim = nn.Linear(width, out, bias=False) if out != width else None
        self.output_projection: nn.Module | None = None
        self.adaptive_softmax: AdaptiveSoftmax | None = None
        if options.adaptive_softmax_cutoff is not None:
            self.adaptive_softmax = AdaptiveSoftmax(types, out, options.adaptive_softmax_cutoff)
        else:
            self.output_projection = nn.Linear(out, types, bias=False)

    def begin(self, encoded: EncoderOutput) -> DecoderState:
        """The state before the first step, one row a sentence."""
        return DecoderState(self.layers, encoded.states, encoded.padding_mask)

    def step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """The scores of the next token.

        Args:
            tokens: N, the newest token of every row.
            state: of :meth:`begin`; advanced by one position.

        Returns:
            N x V, logits; log-probabilities with an adaptive softmax, to which a log-softmax does
            nothing.
        """
        x = self.embed_tokens(tokens) * self.scale
        if self.project_in_dim is not None:
            x = self.project_in_dim(x)
        if self.embed_positions is not None:
            x += self.embed_positions.rows(state.steps + 1, x)[state.steps]
        state.begin_step()
        for number, layer in enumerate(self.layers):
            x = decode_layer(layer, number, x, state)
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        if self.project_out_dim is not None:
            x = self.project_out_dim(x)
        if self.adaptive_softmax is not None:
            return self.adaptive_softmax(x)
        assert self.output_projection is not None
        return self.output_projection(x)


class DecoderLayer(nn.Module):
    """Parameters of fairseq's LightConv decoder layer; :func:`decode_layer` computes it."""

    def __init__(self, options: ModelOptions, kernel_size: int) -> None:
        super().__init__()
        width, channels = options.decoder_embed_dim, options.decoder_conv_dim
        heads = options.decoder_attention_heads
        self.normalize_before = options.decoder_normalize_before
        self.linear1 = nn.Linear(width, channels * (2 if options.decoder_glu else 1))
        self.act = nn.GLU() if options.decoder_glu else None
        convolution = DynamicConv if options.decoder_conv_type == "dynamic" else DecoderLightConv
        self.conv = convolution(channels, kernel_size, heads, weight_softmax=options.weight_softmax)
        if options.decoder_gate == "source" and kernel_size > 1:
            self.conv.gate = make_sentence_gate(heads, kernel_size, options.encoder_gate_norm)
        self.linear2 = nn.Linear(channels, width)
        self.conv_layer_norm = nn.LayerNorm(width)
        self.encoder_attn = EncoderAttention(width, options.encoder_embed_dim, heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, options.decoder_ffn_embed_dim)
        self.fc2 = nn.Linear(options.decoder_ffn_embed_dim, width)
        self.final_layer_norm = nn.LayerNorm(width)


class EncoderAttention(nn.Module):
    """Parameters of multi-head attention to the encoder's output."""

    def __init__(self, width: int, encoder_width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, width // num_heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(encoder_width, width)
        self.v_proj = nn.Linear(encoder_width, width)
        self.out_proj = nn.Linear(width, width)


class DecoderLightConv(nn.Module):
    """Parameters of the decoder's lightweight convolution, whose kernels may be of any width.

    Args:
        channels: C; not needed for the parameters.
        kernel_size: K.
        num_heads: H.
        weight_softmax: normalise each kernel by a softmax.
    """

    def __init__(
        self, channels: int, kernel_size: int, num_heads: int, *, weight_softmax: bool = True
    ) -> None:
        super().__init__()
        self.kernel_size, self.num_heads = kernel_size, num_heads
        self.weight_softmax = weight_softmax
        self.weight = nn.Parameter(torch.empty(num_heads, 1, kernel_size))


class DynamicConv(nn.Module):
    """Dynamic convolution: every position predicts its own kernels (Wu et al., ICLR 2019).

    Args:
        channels: C.
        kernel_size: K.
        num_heads: H; divides C.
        weight_softmax: normalise each kernel by a softmax.
    """

    def __init__(
        self, channels: int, kernel_size: int, num_heads: int, *, weight_softmax: bool = True
    ) -> None:
        super().__init__()
        self.kernel_size, self.num_heads = kernel_size, num_heads
        self.weight_softmax = weight_softmax
        self.weight_linear = nn.Linear(channels, num_heads * kernel_size, bias=False)

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Convolve with as many zeros on both sides; T x B x C as the result."""
        x = zero_padding(x, padding_mask)
        kernels = predicted_kernels(self, x).unsqueeze(-2)  # T x B x H x 1 x K
        heads = x.unflatten(2, (self.num_heads, -1))
        out = torch.zeros_like(heads)
        for tap in range(self.kernel_size):
            shift = tap - self.kernel_size // 2  # output t reads input t + shift
            left, right = max(0, -shift), len(x) - max(0, shift)
            if left < right:
                out[left:right] += (
                    kernels[left:right, ..., tap] * heads[left + shift : right + shift]
                )
        return out.flatten(2)


class AdaptiveSoftmax(nn.Module):
    """Log-probabilities by frequency class: rare types have smaller matrices (Grave et al., 2017).

    Args:
        types: V.
        width: of the input.
        cutoffs: where each class of types ends; V itself may be missing.
    """

    _FACTOR = 4  # by which each class's width is smaller than the last one's

    def __init__(self, types: int, width: int, cutoffs: tuple[int, ...]) -> None:
        super().__init__()
        self.cutoffs = list(cutoffs) if cutoffs[-1] == types else [*cutoffs, types]
        sizes = [b - a for a, b in zip(self.cutoffs, self.cutoffs[1:], strict=False)]
        self.head = nn.Linear(width, self.cutoffs[0] + len(sizes), bias=False)
        self.tail = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, width // self._FACTOR ** (i + 1), bias=False),
                nn.Identity(),  # fairseq's dropout stands here
                nn.Linear(width // self._FACTOR ** (i + 1), size, bias=False),
            )
            for i, size in enumerate(sizes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """N x C to N x V."""
        head = self.head(x).log_softmax(-1)
        first = self.cutoffs[0]
        parts = [head[:, :first]]
        for i, tail in enumerate(self.tail):
            parts.append(tail(x).log_softmax(-1) + head[:, first + i : first + i + 1])
        return torch.cat(parts, 1)


class Sinusoids(nn.Module):
    """Fixed embeddings of positions, in the form of tensor2tensor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self._table = torch.empty(0)

    def rows(self, count: int, like: Tensor) -> Tensor:
        """The embeddings of the first ``count`` positions, count x C, as ``like`` has numbers."""
        table = self._table
        if len(table) < count or table.device != like.device or table.dtype != like.dtype:
            table = self._table = self._make(max(count, 256)).to(like)
        return table[:count]

    def _make(self, count: int) -> Tensor:
        half = self.width // 2
        rates = torch.exp(torch.arange(half).float() * -(math.log(10000) / (half - 1)))
        # The number of the first position is that after the padding's.
        angles = torch.arange(PAD + 1, PAD + 1 + count).float().unsqueeze(1) * rates
        table = torch.cat([angles.sin(), angles.cos()], 1)
        return F.pad(table, (0, self.width - table.shape[1]))


class LearnedPositions(nn.Embedding):
    """A table of learned embeddings of positions, after rows that the padding takes."""

    def rows(self, count: int, like: Tensor) -> Tensor:
        """The embeddings of the first ``count`` positions, count x C."""
        return self.weight[PAD + 1 : PAD + 1 + count]


def _positions(options: ModelOptions, side: str, width: int) -> LearnedPositions | Sinusoids | None:
    if options.no_token_positional_embeddings:
        return None
    if not getattr(options, f"{side}_learned_pos"):
        return Sinusoids(width)
    longest = getattr(
        options, "max_source_positions" if side == "encoder" else "max_target_positions"
    )
    return LearnedPositions(longest + PAD + 1, width)


def _encoder_convolution(options: ModelOptions, kernel_size: int) -> nn.Module:
    shape = (options.encoder_conv_dim, kernel_size, options.encoder_attention_heads)
    if options.encoder_conv_type == "dynamic":
        return DynamicConv(*shape, weight_softmax=options.weight_softmax)
    if options.encoder_gate_target == "none":
        return LightConv(*shape, weight_softmax=options.weight_softmax)
    return CGLightConv(
        *shape,
        weight_softmax=options.weight_softmax,
        gate_target=options.encoder_gate_target,
        gate_norm=options.encoder_gate_norm,
    )
