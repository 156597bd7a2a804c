"""Context-Gated Convolution as a drop-in for torch's convolutions (section 3).

Shape letters: B batch, c input channels, o output channels, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from fairseq_cgc.core.gate import ContextGate, is_called
from fairseq_cgc.core.gated_convolution import gated_convolution
from fairseq_cgc.core.modulated_kernels import grouped_kernels, kernels_of_gate
from fairseq_cgc.core.plain import is_proxy, to_autocast_dtype
from fairseq_cgc.core.sample_convolution import convolve_samples
from fairseq_cgc.core.sample_methods import Geometry
from fairseq_cgc.support.errors import UserError


class GateSwitches(TypedDict, total=False):
    """The arguments that a convolution passes to its :class:`ContextGate`."""

    grid_size: Sequence[int] | None
    latent_size: int | None
    channels_per_group: int | None
    branches: str
    combine: str
    norm: str
    shared_norm: bool
    shared_encoder: bool
    shared_decoder: bool
    pool: str
    init: str


class _CGConv(_ConvNd):
    """The convolutions of 1, 2 and 3 dimensions; a base class before torch's own."""

    gate: ContextGate
    #: Whether to use plain torch operations: see :mod:`fairseq_cgc.core.plain`.
    plain = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        plain: bool = False,
        **switches: Unpack[GateSwitches],
    ) -> None:
        # nn.ConvNd's, whose arguments differ from those of _ConvNd.
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,  # type: ignore[arg-type]
            stride,  # type: ignore[arg-type]
            padding,  # type: ignore[arg-type]
            dilation,  # type: ignore[arg-type]
            groups,  # type: ignore[arg-type]
            bias,  # type: ignore[arg-type]
            padding_mode,  # type: ignore[arg-type]
            device,  # type: ignore[arg-type]
            dtype,  # type: ignore[arg-type]
        )
        self.gate = gate_for(self, **switches)
        self.plain = plain

    def forward(self, x: Tensor) -> Tensor:
        """Convolve each sample with its own kernel.

        Args:
            x: B x c x spatial, or c x spatial for one sample.

        Returns:
            B x o x spatial (or o x spatial) in x's dtype, or in autocast's.

        Raises:
            UserError: if x has another number of channels or dimensions, or is smaller than the
                kernel.
        """
        dims = len(self.kernel_size)
        # A proxy has no sizes and stands for a batch; in a trace, sizes are tensors.
        has_sizes = not (is_proxy(x) or torch.jit.is_tracing())
        if not is_proxy(x):
            is_wrong = has_sizes and x.shape[-dims - 1 :][:1] != (self.in_channels,)
            if is_wrong or x.dim() not in (dims + 1, dims + 2):
                spatial = " x ".join(("D", "H", "W")[-dims:]) if dims > 1 else "L"
                raise UserError(
                    f"x must be B x {self.in_channels} x {spatial}, with or without the B, "
                    f"but is {tuple(x.shape)}"
                )
            if x.dim() == dims + 1:
                return self.forward(x.unsqueeze(0)).squeeze(0)
        if has_sizes and x.shape[0] == 0:  # no context, so batch statistics stay
            return super().forward(x)
        prepared, geometry = self._prepare(x)
        if not has_sizes or is_called(self.gate):
            kernels = self._grouped_kernels(x)
            out = convolve_samples(prepared, kernels, self.kernel_size, geometry, plain=self.plain)
        else:
            branches, combine = self.branch_logits(x), self.gate.combine
            out = gated_convolution(
                prepared, self.weight, *branches, geometry, combine=combine, plain=self.plain
            )
        if self.bias is not None:
            out = out + self.bias.to(out.dtype).view(-1, *[1] * dims)
        return out

    def sample_kernels(self, x: Tensor) -> Tensor:
        """The modulated kernels of a batch, B x o x c/G x kernel (equation 2).

        While training this updates the gate's batch statistics, as the forward pass does.
        """
        return self._grouped_kernels(x).flatten(1, 2).unflatten(3, self.kernel_size)

    def _grouped_kernels(self, x: Tensor) -> Tensor:
        """The modulated kernels as B x G x o/G x c/G x prod(kernel)."""
        if not is_called(self.gate):
            return grouped_kernels(
                self.weight, *self.branch_logits(x), self.groups, self.gate.combine
            )
        gate = self._for_samples(self.gate(self._context(x)))
        shape = (self.out_channels, self.in_channels, *self.kernel_size)
        if not is_proxy(gate) and gate.shape[1:] != shape:
            raise UserError(
                f"the gate must be B x {' x '.join(map(str, shape))}, but is {tuple(gate.shape)}"
            )
        return kernels_of_gate(self.weight, gate, self.groups)

    def branch_logits(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The gate's branches for x: G1, B x c x kernel, and G2, B x o x kernel; None if off."""
        g1, g2 = self.gate.branch_logits(self._context(x))
        return (
            None if g1 is None else self._for_samples(g1),
            None if g2 is None else self._for_samples(g2),
        )

    def _context(self, x: Tensor) -> Tensor:
        """The gate's input."""
        return x

    def _for_samples(self, gate: Tensor) -> Tensor:
        """A gate or branch for each sample of x, from what the gate returned."""
        return gate

    def _prepare(self, x: Tensor) -> tuple[Tensor, Geometry]:
        """x in the convolution's dtype, with the padding that the geometry cannot express."""
        if not is_proxy(x):
            x = to_autocast_dtype(x)
        pads = self._reversed_padding_repeated_twice  # of the last dimension first, both sides
        padding, after = tuple(pads[::-2]), tuple(pads[-2::-2])
        if self.padding_mode != "zeros" or padding != after:  # "same" may need one more after
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            x, padding = F.pad(x, pads, mode=mode), (0,) * len(padding)
        return x, Geometry(self.stride, padding, self.dilation, self.groups)


class CGConv1d(_CGConv, nn.Conv1d):
    """``nn.Conv1d`` with a context gate; see :class:`CGConv2d`."""


class CGConv2d(_CGConv, nn.Conv2d):
    """``nn.Conv2d`` whose kernel is modulated for each sample by the whole input (equation 2).

    A drop-in: the same arguments in the same order, then those of :class:`ContextGate` by name;
    the same ``weight`` and ``bias``, so that weights of ``nn.Conv2d`` load. The gate's parameters
    are under ``gate``. With a gate of ones it is ``nn.Conv2d``.

    ``gate`` may be replaced by any module from x to a gate, B x o x c x kernel. Then, and where
    ``gate`` has hooks (pruning adds one), the gates of a whole batch are in memory at once.

    ``plain`` asks for plain torch operations, which need the memory of all kernels and windows of
    a batch; export, tracing and second derivatives use them anyway.

    With ``groups``, the gate is that of the convolution without groups, at the weights that exist:
    a weight from input channel i to output channel h is multiplied by ``sigmoid(G1[i] + G2[h])``
    in either case.

    Raises:
        UserError: for a 1 x 1 kernel, which has no gate, or what :class:`ContextGate` refuses.
    """


class CGConv3d(_CGConv, nn.Conv3d):
    """``nn.Conv3d`` with a context gate; see :class:`CGConv2d`."""


def gate_for(conv: _ConvNd, **switches: Unpack[GateSwitches]) -> ContextGate:
    """A new gate for a convolution, on its weight's device and in its dtype.

    Raises:
        UserError: for a 1 x 1 kernel, or a switch that is unknown or has a wrong value.
    """
    if prod(conv.kernel_size) == 1:
        raise UserError(
            f"kernel_size must be larger than 1, but is {conv.kernel_size}: a pointwise "
            f"convolution has no gate, use nn.Conv{len(conv.kernel_size)}d"
        )
    for name in switches:
        if name not in GateSwitches.__annotations__:
            allowed = ", ".join(GateSwitches.__annotations__)
            raise UserError(f"{name!r} is no switch of the gate, which has {allowed}")
    with conv.weight.device:
        gate = ContextGate(conv.in_channels, conv.out_channels, conv.kernel_size, **switches)
    return gate.to(conv.weight.dtype).train(conv.training)
