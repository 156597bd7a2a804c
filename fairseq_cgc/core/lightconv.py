"""Lightweight convolution, plain and with kernels gated by the whole sentence (section 4.4)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fairseq_cgc.core import gpu as kernels
from fairseq_cgc.core.functional import choose_method, light_convolution, needs_unfolded
from fairseq_cgc.core.gate import ContextGate, is_called
from fairseq_cgc.core.plain import to_autocast_dtype
from fairseq_cgc.core.pooling import mask_and_average, zero_padding
from fairseq_cgc.core.sentence_gate import TARGETS, gate_sentences, make_sentence_gate
from fairseq_cgc.support.errors import UserError


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
    """At least float32 whatever the model's dtype, as in fairseq."""
    return weight.to(torch.promote_types(weight.dtype, torch.float32))


# Symbolic tracing has no tensors, so functions that inspect them become single nodes of its graph.
for _function in (_check_inputs, _widen, light_convolution, mask_and_average, zero_padding):
    fx.wrap(_function.__name__)


class LightConv(nn.Module):
    """Lightweight convolution with "same" padding (Wu et al., ICLR 2019).

    Each head has a kernel that its C / H channels share. Outputs, parameter names and shapes are
    those of fairseq's ``LightweightConv1dTBC`` with ``padding_l=kernel_size // 2``.

    Args:
        channels: C.
        kernel_size: K, odd.
        num_heads: H; divides C.
        weight_dropout: DropConnect probability.
        weight_softmax: normalise each kernel by a softmax.
        bias: add a bias of C.

    Attributes:
        weight: H x 1 x K.
        weight_dropout_module: has the probability ``p`` of DropConnect, active in training mode.

    Raises:
        UserError: for an even kernel size, a number of heads that does not divide the channels, or
            a dropout outside 0 to 1.
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
        """Convolve x, T x B x C, into the same shape; values at padding are meaningless.

        Args:
            padding_mask: B x T, True at padding (fairseq's ``encoder_padding_mask``).

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

    The gate of a kernel of three taps hardly depends on the sentence: its LayerNorm over two
    numbers leaves little more than their order (8 distinct gates per head over 200 sentences,
    200 for 31 taps). A kernel of one tap has no gate at all.

    The other arguments are those of :class:`LightConv`.

    Args:
        gate_target: ``"kernel"`` or ``"logits"``.
        gate_norm: the gate's LayerNorm is over the d latent numbers of each head (``"latent"``, as
            in the paper) or over all H x d of the sentence (``"heads"``).

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
        if gate_target not in TARGETS:
            raise UserError(f"gate_target must be one of {tuple(TARGETS)}, but is {gate_target!r}")
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
        modulate = TARGETS[self.gate_target].modulate
        return x, modulate(weight, gate, self._normalise).squeeze(2)

    def _convolve(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        gate = self.gate
        # The fused kernel bypasses the gate module, so it is skipped when the gate was replaced or
        # has hooks.
        if (
            needs_unfolded(x)
            or choose_method(x, self.kernel_size) != "triton"
            or not TARGETS[self.gate_target].is_fused
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

        Its LayerNorm was over one number, of which it leaves only the shift: the gate was the
        constant sigmoid(D relu(shift)). Without a softmax, the weight is multiplied by it.

        Args:
            state: changed in place.
            prefix: of this module's names in it.

        Returns:
            A float64 scalar by which the convolution's output must still be multiplied, or None.

        Raises:
            UserError: if the gate depends on the sentence (``--encoder-gate-norm heads``).
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
        modulate = TARGETS[self.gate_target].modulate
        if self.weight_softmax:  # the softmax of one logit is 1
            factor = modulate(torch.zeros_like(gate), gate, self._normalise)
            return None if factor == 1 else factor
        weight = state[f"{prefix}weight"]
        state[f"{prefix}weight"] = modulate(_widen(weight), gate, self._normalise).to(weight.dtype)
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


def fold_constant_gates(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Remove the gates of kernels of one tap from an older model's state; outputs stay the same.

    A gate's factor goes into the weight of ``linear2``, the projection that follows the convolution
    ``conv`` in an encoder layer.

    Args:
        model: the model to be loaded.
        state: of the whole model; changed in place.

    Raises:
        UserError: as :meth:`CGLightConv.take_constant_gate`.
    """
    for name, module in model.named_modules():
        conv, linear = getattr(module, "conv", None), getattr(module, "linear2", None)
        if isinstance(conv, CGLightConv) and isinstance(linear, nn.Linear):
            prefix = f"{name}." if name else ""
            factor = conv.take_constant_gate(state, f"{prefix}conv.")
            key = f"{prefix}linear2.weight"
            if factor is not None and key in state:
                state[key] = (state[key] * factor).to(state[key].dtype)
