"""Lightweight convolution, plain and with a kernel that the whole sentence gates (section 4.4)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fairseq_cgc.core import gpu as kernels
from fairseq_cgc.core.functional import choose_method, light_convolution, needs_unfolded
from fairseq_cgc.core.gate import ContextGate, is_called
from fairseq_cgc.core.plain import to_autocast_dtype
from fairseq_cgc.core.pooling import mask_and_average, pool_positions, zero_padding
from fairseq_cgc.support.errors import UserError

GATE_TARGETS = ("kernel", "logits")
GATE_NORMS = ("latent", "heads")


def _check_inputs(x: Tensor, padding_mask: Tensor | None, channels: int) -> Tensor | None:
    """The mask as booleans; raises a UserError if the shapes do not fit."""
    if not torch.jit.is_tracing():
        if x.dim() != 3 or x.shape[2] != channels:
            raise UserError(f"x must be T x B x {channels}, but is {tuple(x.shape)}")
        if padding_mask is not None and padding_mask.shape != (x.shape[1], x.shape[0]):
            raise UserError(
                f"padding_mask must be B x T = {(x.shape[1], x.shape[0])}, "
                f"but is {tuple(padding_mask.shape)}"
            )
    return None if padding_mask is None else padding_mask.bool()


def _widen(weight: Tensor) -> Tensor:
    """In float32 whatever the model's dtype, as fairseq does it; float64 stays."""
    return weight.to(torch.promote_types(weight.dtype, torch.float32))


def _pool(heads: Tensor, pooled_size: int, padding_mask: Tensor | None) -> Tensor:
    if heads.device.type == "cpu":
        # A LayerNorm over two or three numbers enlarges the rounding of sums whose order
        # depends on the batch. The cost of float64 is not noticeable here.
        heads = heads.double()
    return pool_positions(heads, pooled_size, padding_mask)


# Symbolic tracing has no tensors, so functions that inspect them become single nodes of its graph.
for _function in (_check_inputs, _pool, _widen, light_convolution, mask_and_average, zero_padding):
    fx.wrap(_function.__name__)


class LightConv(nn.Module):
    """Lightweight convolution with "same" padding (Wu et al., ICLR 2019).

    Each head owns a kernel that its C / H channels share. Outputs, parameters' names and shapes
    are those of fairseq's ``LightweightConv1dTBC`` with ``padding_l=kernel_size // 2``.

    Args:
        channels: C.
        kernel_size: K, odd.
        num_heads: H; divides C.
        weight_dropout: DropConnect probability.
        weight_softmax: normalise each kernel by a softmax.
        bias: add a bias of C.

    Attributes:
        weight: H x 1 x K.
        weight_dropout_module: holds the probability ``p`` of DropConnect and whether it is active.

    Raises:
        UserError: for an even kernel, heads that do not divide the channels, or a dropout
            outside 0 to 1.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        num_heads: int,
        *,
        weight_dropout: float = 0.0,
        weight_softmax: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise UserError(f"kernel_size must be odd and positive, but is {kernel_size}")
        if num_heads < 1 or channels % num_heads != 0:
            raise UserError(f"num_heads must divide channels ({channels}), but is {num_heads}")
        if not 0.0 <= weight_dropout <= 1.0:
            raise UserError(f"weight_dropout must be from 0 to 1, but is {weight_dropout}")
        self.channels, self.kernel_size, self.num_heads = channels, kernel_size, num_heads
        self.weight_softmax = weight_softmax
        self.weight_dropout_module: nn.Module = nn.Dropout(weight_dropout)
        self.weight = nn.Parameter(torch.empty(num_heads, 1, kernel_size))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Convolve.

        Args:
            x: T x B x C.
            padding_mask: B x T, True at padding (fairseq's ``encoder_padding_mask``).

        Returns:
            T x B x C; values at padded positions are meaningless.

        Raises:
            UserError: if the shapes do not fit.
        """
        padding_mask = _check_inputs(x, padding_mask, self.channels)
        out = self._convolve(x, padding_mask)
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def _convolve(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        x, kernel = self._input_and_kernel(x, padding_mask)
        return light_convolution(x, kernel, dropout=self._active_dropout(), training=True)

    @property
    def weight_dropout(self) -> float:
        """DropConnect probability."""
        return self.weight_dropout_module.p  # type: ignore[return-value]

    def _active_dropout(self) -> float:
        module: Any = self.weight_dropout_module
        # fairseq's FairseqDropout may stay active during inference (--retain-dropout).
        active = module.training or getattr(module, "apply_during_inference", False)
        return module.p if active else 0.0

    def _input_and_kernel(self, x: Tensor, padding_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """x, zero at padding, and the kernel, B or 1 x H x K."""
        kernel = self._normalise(_widen(self.weight))
        return zero_padding(x, padding_mask), kernel.view(1, self.num_heads, self.kernel_size)

    def _normalise(self, weight: Tensor) -> Tensor:
        return F.softmax(weight, dim=-1) if self.weight_softmax else weight

    def extra_repr(self) -> str:
        return (
            f"{self.channels}, kernel_size={self.kernel_size}, num_heads={self.num_heads}, "
            f"weight_dropout={self.weight_dropout}"
        )


class CGLightConv(LightConv):
    """Context-gated lightweight convolution with "same" padding.

    A :class:`ContextGate` computes one gate per sentence from the input pooled to H x 3K, and
    modulates the kernels (equation 2): ``softmax(weight) * gate`` for the gate target
    ``"kernel"``, ``softmax(weight * gate)`` for ``"logits"``. DropConnect follows. With a gate
    of ones it is a :class:`LightConv`.

    The gate of a kernel of three taps hardly depends on the sentence: its LayerNorm is over two
    numbers, which leaves little more than their order (8 distinct gates per head over 200
    sentences, 200 for 31 taps). A kernel of one tap has no gate at all.

    Args:
        channels: C.
        kernel_size: K, odd.
        num_heads: H; divides C.
        weight_dropout: DropConnect probability.
        weight_softmax: normalise each kernel by a softmax.
        gate_target: ``"kernel"`` or ``"logits"``.
        gate_norm: the gate's LayerNorm is over the d latent numbers of each head (``"latent"``, as
            in the paper) or over all H x d of the sentence (``"heads"``).
        bias: add a bias of C.

    Attributes:
        weight: H x 1 x K.
        gate: the :class:`ContextGate`, H x 3K to H x 1 x K; None for K = 1.

    Raises:
        UserError: for an unknown gate target or gate norm, or what :class:`LightConv` refuses.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        num_heads: int,
        *,
        weight_dropout: float = 0.0,
        weight_softmax: bool = True,
        gate_target: str = "kernel",
        gate_norm: str = "latent",
        bias: bool = False,
    ) -> None:
        super().__init__(
            channels,
            kernel_size,
            num_heads,
            weight_dropout=weight_dropout,
            weight_softmax=weight_softmax,
            bias=bias,
        )
        if gate_target not in GATE_TARGETS:
            raise UserError(f"gate_target must be one of {GATE_TARGETS}, but is {gate_target!r}")
        self.gate_target, self.gate_norm = gate_target, gate_norm
        gate = make_sentence_gate(num_heads, kernel_size, gate_norm)
        self.gate = gate if kernel_size > 1 else None

    def sentence_kernels(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """The modulated kernels, B x H x K in x's dtype, before DropConnect."""
        return self._input_and_kernel(x, padding_mask)[1].to(x.dtype)

    def _input_and_kernel(self, x: Tensor, padding_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """x, zero at padding, and the kernels, B x H x K; one kernel for all without a gate."""
        if self.gate is None:
            return super()._input_and_kernel(x, padding_mask)
        x, heads = mask_and_average(x, self.num_heads, padding_mask)
        weight = _widen(self.weight).unsqueeze(0)
        gate = gate_sentences(self.gate, heads, self.kernel_size, padding_mask).to(weight.dtype)
        if self.gate_target == "logits":
            weight = self._normalise(weight * gate)
        else:
            weight = self._normalise(weight) * gate
        return x, weight.squeeze(2)

    def _convolve(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        gate = self.gate
        # The fused kernel bypasses the gate module: not where it was replaced or has hooks.
        if (
            needs_unfolded(x)
            or choose_method(x, self.kernel_size) != "triton"
            or type(gate) is not ContextGate
            or is_called(gate)
            or not isinstance(gate.in_norm, nn.LayerNorm)
        ):
            return super()._convolve(x, padding_mask)
        assert gate.in_decoder is not None
        return kernels.cg_light_conv(
            to_autocast_dtype(x),
            padding_mask,
            self.weight,
            gate.encoder,
            gate.in_norm.weight,
            gate.in_norm.bias,
            gate.in_decoder,
            norm_eps=gate.in_norm.eps,
            weight_softmax=self.weight_softmax,
            gate_target=self.gate_target,
            dropout=self._active_dropout(),
        )

    def take_constant_gate(self, state: dict[str, Tensor], prefix: str) -> Tensor | None:
        """Remove from a state dict the gate that a kernel of one tap had in older checkpoints.

        A kernel without softmax is multiplied by it; after a softmax, a single logit does not
        matter.

        Args:
            state: changed in place.
            prefix: of this module's names in it.

        Returns:
            What the convolution's output is still to be multiplied by, a float64 scalar; None if
            the outputs are the same without.

        Raises:
            UserError: if the gate depends on the sentence.
        """
        parts = [key for key in state if key.startswith(f"{prefix}gate.")]
        if self.gate is not None or self.kernel_size > 1 or not parts:
            return None
        found = {key[len(prefix) :]: state.pop(key) for key in parts}
        shift, decoder = found["gate.in_norm.bias"].double(), found["gate.in_decoder"].double()
        if shift.numel() > 1:
            raise UserError(
                f"{prefix}gate is for a kernel of one tap with gate_norm 'heads', but kernels of "
                "one tap have no gate: use larger kernels"
            )
        gate = torch.sigmoid(decoder * shift.relu()).squeeze()
        if self.weight_softmax:
            return gate if self.gate_target == "kernel" else None
        weight = state[f"{prefix}weight"]
        state[f"{prefix}weight"] = (_widen(weight) * gate).to(weight.dtype)
        return None

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *others: Any, **options: Any
    ) -> None:
        factor = self.take_constant_gate(state_dict, prefix)
        if factor is not None:
            raise UserError(
                f"{prefix}gate is a constant that multiplies the output by {float(factor):.6g}, "
                "and kernels of one tap have no gate any more: multiply the weight of the linear "
                f"layer that follows by it, and load the state without {prefix}gate"
            )
        super()._load_from_state_dict(state_dict, prefix, *others, **options)

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, gate_target={self.gate_target!r}, "
            f"gate_norm={self.gate_norm!r}"
        )


def make_sentence_gate(num_heads: int, kernel_size: int, gate_norm: str) -> ContextGate:
    """The gate of H kernels, H x 3K to H x 1 x K (section 4.4).

    Args:
        num_heads: H.
        kernel_size: K.
        gate_norm: one of :data:`GATE_NORMS`.

    Raises:
        UserError: for another gate norm.
    """
    if gate_norm not in GATE_NORMS:
        raise UserError(f"gate_norm must be one of {GATE_NORMS}, but is {gate_norm!r}")
    return ContextGate(
        num_heads,
        num_heads,
        kernel_size,
        channel_interaction=False,
        grid_size=(3 * kernel_size,),
        norm="layer" if gate_norm == "latent" else gate_norm,
        init="xavier",
    )


def gate_sentences(
    gate: nn.Module, heads: Tensor, kernel_size: int, padding_mask: Tensor | None
) -> Tensor:
    """Pool each sentence and compute its gate.

    Args:
        gate: from :func:`make_sentence_gate`.
        heads: T x B x H, zero at padding, from :func:`mask_and_average`.
        kernel_size: K.
        padding_mask: B x T, True at padding.

    Returns:
        B x H x 1 x K.
    """
    return gate(_pool(heads, 3 * kernel_size, padding_mask))


def gate_by_source(gate: ContextGate, source: Tensor, padding_mask: Tensor | None) -> Tensor:
    """The gates of a decoder's kernels, from what the encoder made of each sentence.

    Args:
        gate: from :func:`make_sentence_gate`.
        source: T x B x C, the encoder's output; H divides C.
        padding_mask: B x T, True at padding.

    Returns:
        B x H x K.
    """
    dtype = torch.promote_types(source.dtype, torch.float32)
    heads = source.unflatten(2, (gate.in_channels, -1)).mean(-1, dtype=dtype)
    heads = zero_padding(heads, padding_mask)
    return gate_sentences(gate, heads, gate.kernel_size[0], padding_mask).squeeze(2)
