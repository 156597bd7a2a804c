"""The context gate of Context-Gated Convolution (Lin et al., ECCV 2020, section 3.2).

Shape letters: B batch, c input channels, o output channels, d latent size, g groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_cgc.core.plain import is_autocast_on, is_proxy, is_recorded
from fairseq_cgc.core.pooling import POOLS, pool_to_grid
from fairseq_cgc.support.errors import UserError


class ContextGate(nn.Module):
    """A gate for every weight of a convolution kernel, computed from the whole input.

    The input of each channel is pooled to a fixed grid and encoded to d numbers (E). Branch 1
    decodes them to the kernel's positions (D_c); branch 2 first mixes channels within groups (I),
    then decodes (D_o). The gate is the sigmoid of their sum (equation 1).

    With ``channel_interaction=False`` only branch 1 remains and the gate fits a depthwise kernel,
    ``channels x 1 x kernel``, as for lightweight convolution, whose heads are the channels
    (section 4.4).

    Args:
        in_channels: c.
        out_channels: o; equal to c without channel interaction.
        kernel_size: one entry per spatial dimension (1, 2 or 3 of them); a number means 1-D.
        channel_interaction: whether branch 2 exists.
        grid_size: pooled positions per dimension; the kernel's own size by default.
        latent_size: d; ``prod(kernel_size) // 2 + 1`` by default.
        channels_per_group: c / g. Where it does not divide c, or g does not divide o, the largest
            smaller number for which both hold, or else the smallest larger one; c where c is
            smaller. ``None`` means one group (g = 1).
        branches: ``"both"``, or ``"in"`` (G1 only) or ``"out"`` (G2 only) as in Table 3a.
        combine: ``"sum"`` or ``"product"`` of the branches before the sigmoid.
        norm: ``"batch"`` (a scale and a shift per channel, statistics over batch and latent
            positions), ``"layer"`` (over the d latent numbers of each channel) or ``"heads"``
            (one LayerNorm over the c x d, or o x d, numbers of an input).
        shared_norm: one normalisation of the encoded context for both branches.
        shared_encoder: one E for both branches.
        shared_decoder: one D for both branches.
        pool: ``"avg"`` or ``"max"``.
        init: ``"kaiming"`` or ``"xavier"``.

    Raises:
        UserError: for a value outside what is listed above.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        *,
        channel_interaction: bool = True,
        grid_size: Sequence[int] | None = None,
        latent_size: int | None = None,
        channels_per_group: int | None = 16,
        branches: str = "both",
        combine: str = "sum",
        norm: str = "batch",
        shared_norm: bool = False,
        shared_encoder: bool = True,
        shared_decoder: bool = False,
        pool: str = "avg",
        init: str = "kaiming",
    ) -> None:
        super().__init__()
        self.kernel_size = (kernel_size,) if isinstance(kernel_size, int) else tuple(kernel_size)
        self.grid_size = tuple(grid_size) if grid_size is not None else self.kernel_size
        positions = prod(self.kernel_size)
        latent = latent_size if latent_size is not None else positions // 2 + 1
        for name, value, allowed in (
            ("branches", branches, ("both", "in", "out")),
            ("combine", combine, ("sum", "product")),
            ("norm", norm, ("batch", "layer", "heads")),
            ("pool", pool, tuple(POOLS)),
            ("init", init, ("kaiming", "xavier")),
            ("len(kernel_size)", len(self.kernel_size), (1, 2, 3)),
            ("len(grid_size)", len(self.grid_size), (len(self.kernel_size),)),
        ):
            if value not in allowed:
                raise UserError(f"{name} is {value!r}, but must be one of {allowed}")
        for name, sizes in (
            ("in_channels", (in_channels,)),
            ("out_channels", (out_channels,)),
            ("kernel_size", self.kernel_size),
            ("grid_size", self.grid_size),
            ("latent_size", (latent,)),
            ("channels_per_group", () if channels_per_group is None else (channels_per_group,)),
        ):
            if any(size < 1 for size in sizes):
                shown = sizes if len(sizes) > 1 else sizes[0]
                raise UserError(f"{name} is {shown}, but must be at least 1")
        if not channel_interaction and (in_channels != out_channels or branches != "both"):
            raise UserError(
                "without channel_interaction the only branch is G1: out_channels must equal "
                f"in_channels ({in_channels}), but is {out_channels}; branches must be 'both', "
                f"but is {branches!r}"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.channel_interaction = channel_interaction
        self.branches, self.combine, self.init, self.norm = branches, combine, init, norm
        self._pool_function = POOLS[pool][len(self.kernel_size) - 1]
        has_in = branches != "out"
        has_out = channel_interaction and branches != "in"

        def make_norm(channels: int) -> nn.Module:
            if norm == "batch":
                return nn.BatchNorm1d(channels, dtype=_wide(torch.get_default_dtype()))
            return nn.LayerNorm((channels, latent) if norm == "heads" else latent)

        def matrix(outputs: int, inputs: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(outputs, inputs))

        # Names: E is encoder, D_c in_decoder, D_o out_decoder, I interaction. A part that both
        # branches share is registered once, under the name of branch 1.
        grid = prod(self.grid_size)
        self.encoder = matrix(latent, grid)
        self.in_norm = make_norm(in_channels) if has_in or shared_norm else None
        self.in_decoder = matrix(positions, latent) if has_in or shared_decoder else None
        own = has_out and has_in
        self.out_encoder = matrix(latent, grid) if own and not shared_encoder else None
        self.out_norm = make_norm(in_channels) if has_out and not shared_norm else None
        self.out_decoder = matrix(positions, latent) if has_out and not shared_decoder else None
        self.interaction: nn.Parameter | None = None
        self.interaction_norm: nn.Module | None = None
        if has_out:
            width = _group_width(in_channels, out_channels, channels_per_group)
            self.groups = in_channels // width
            self.interaction = matrix(out_channels // self.groups, width)
            self.interaction_norm = make_norm(out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise every linear map, none of which has a bias (section 4.1)."""
        for parameter in self.parameters(recurse=False):  # without the norms
            if self.init == "kaiming":
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """The gate of x, B x c x spatial (or already pooled to the grid).

        Returns:
            B x o x c x kernel, values in (0, 1); B x c x 1 x kernel without channel interaction.
        """
        g1, g2 = self.branch_logits(x)
        if not self.channel_interaction:
            assert g1 is not None
            return torch.sigmoid(g1).unsqueeze(2)
        g1 = g1.unsqueeze(1) if g1 is not None else None  # B x 1 x c x kernel
        g2 = g2.unsqueeze(2) if g2 is not None else None  # B x o x 1 x kernel
        if g1 is None or g2 is None:
            logits = g1 if g1 is not None else g2
            assert logits is not None
            shape = (len(logits), self.out_channels, self.in_channels, *self.kernel_size)
            return torch.sigmoid(logits.expand(shape))
        return torch.sigmoid(g1 + g2 if self.combine == "sum" else g1 * g2)

    def pool(self, x: Tensor) -> Tensor:
        """Pool B x c x spatial to B x c x grid, which is what E encodes."""
        if len(self.grid_size) == 3 and (is_proxy(x) or x.device.type == "cpu"):
            x = x.to(self._wide_dtype(x))  # torch sums 3-D bins in half precision
        return pool_to_grid(x, self.grid_size, self._pool_function)

    def branch_logits(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The branches before they are joined, in float32 at least, under autocast too.

        Returns:
            G1, B x c x kernel, and G2, B x o x kernel; None for a branch that is off.
        """
        if not is_proxy(x) and is_autocast_on(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self.branch_logits(x)
        # A recorded computation is run on other sizes and must pool; pooling twice changes nothing.
        if is_recorded(x) or x.shape[2:] != self.grid_size:
            x = self.pool(x)
        # Sums over the grid may exceed float16's range, and the norms enlarge small differences
        # that it cannot represent.
        x = x.flatten(2).to(self._wide_dtype(x))  # B x c x grid
        latent = _linear(x, self.encoder)  # B x c x d
        g1 = g2 = None
        if self.branches != "out":
            assert self.in_norm is not None and self.in_decoder is not None
            g1 = _linear(F.relu(_normalise(latent, self.in_norm)), self.in_decoder)
            g1 = g1.unflatten(2, self.kernel_size)
        if self.channel_interaction and self.branches != "in":
            if self.out_encoder is not None:
                latent = _linear(x, self.out_encoder)
            g2 = self._output_branch(latent).unflatten(2, self.kernel_size)
        return g1, g2

    def _wide_dtype(self, x: Tensor) -> torch.dtype:
        """The dtype that the gate is computed in: float32, or float64 for float64 input."""
        # A proxy has no dtype, and parameters are proxies where x is one.
        wide = _wide((next(self.parameters()) if is_proxy(x) else self.encoder).dtype)
        # Batch statistics have the dtype that the module was made in or moved to.
        if self.norm == "batch" or is_proxy(x):
            return wide
        return torch.promote_types(wide, x.dtype)

    def _output_branch(self, latent: Tensor) -> Tensor:
        """Encoded context, B x c x d, to G2, B x o x prod(kernel)."""
        norm = self.out_norm or self.in_norm
        decoder = self.out_decoder if self.out_decoder is not None else self.in_decoder
        assert norm is not None and decoder is not None
        assert self.interaction is not None and self.interaction_norm is not None
        grouped = F.relu(_normalise(latent, norm)).unflatten(1, (self.groups, -1))
        # B x g x c/g x d to B x o x d
        mixed = (self.interaction.to(grouped.dtype) @ grouped).flatten(1, 2)
        return _linear(F.relu(_normalise(mixed, self.interaction_norm)), decoder)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ContextGate:
        """Keep batch statistics in float32 where a model is converted to half precision.

        Variances of inputs of a few hundred are beyond float16's range.
        """

        def to_float32(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            is_narrow = moved.is_floating_point() and moved.dtype != _wide(moved.dtype)
            return tensor.to(moved.device, torch.float32) if is_narrow else moved

        super()._apply(fn, recurse=False)
        for child in self.children() if recurse else ():
            child._apply(to_float32 if isinstance(child, nn.modules.batchnorm._BatchNorm) else fn)
        return self

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *others: Any, **options: Any
    ) -> None:
        for name, child in self.named_children():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                for key in child.state_dict(prefix=f"{prefix}{name}."):
                    value = state_dict.get(key)
                    if value is not None and value.is_floating_point():  # as in _apply
                        state_dict[key] = value.detach().to(_wide(value.dtype))
        self._check_interaction(state_dict, f"{prefix}interaction")
        super()._load_from_state_dict(state_dict, prefix, *others, **options)

    def _check_interaction(self, state_dict: dict[str, Any], name: str) -> None:
        """Refuse a checkpoint whose I has groups of another width."""
        if self.interaction is None or name not in state_dict:
            return
        expected, found = self.interaction.shape, state_dict[name].shape
        if found == expected or len(found) != 2:
            return
        rows, width = found
        if rows * self.in_channels == self.out_channels * width:
            raise UserError(
                f"{name} is {rows} x {width} in the checkpoint, but {expected[0]} x {expected[1]} "
                "in the model, because the default width of I's groups has changed or "
                "channels_per_group differs: a gate made with "
                f"channels_per_group={width} fits"
            )

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"grid_size={self.grid_size}, branches={self.branches!r}, combine={self.combine!r}"
        )


def is_called(gate: nn.Module) -> bool:
    """Whether a convolution must call its gate, instead of computing the gate's branches itself.

    It must call any other module than a :class:`ContextGate`, and a gate with hooks, which may
    change its inputs, outputs or parameters (pruning and sharding use hooks too).
    """
    # torch has no public way to ask for hooks.
    return bool(
        type(gate).forward is not ContextGate.forward
        or "forward" in vars(gate)
        or gate._forward_pre_hooks
        or gate._forward_hooks
        or gate._backward_pre_hooks
        or gate._backward_hooks
        or nn.modules.module._has_any_global_hook()
    )


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x, weight.to(x.dtype))


def _normalise(x: Tensor, norm: nn.Module) -> Tensor:
    """Normalise in x's dtype, whatever the dtype of the norm's parameters."""
    if isinstance(norm, nn.LayerNorm):
        scale, shift = norm.weight.to(x.dtype), norm.bias.to(x.dtype)
        return F.layer_norm(x, norm.normalized_shape, scale, shift, norm.eps)
    if is_proxy(x):
        return norm(x)
    buffers = dict(norm.named_buffers(recurse=False))
    tensors = {**dict(norm.named_parameters(recurse=False)), **buffers}
    cast = {
        name: tensor.to(x.dtype)
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and tensor.dtype != x.dtype
    }
    if not cast:
        return norm(x)
    out = torch.func.functional_call(norm, cast, (x,))
    for name in cast.keys() & buffers.keys():
        buffers[name].copy_(cast[name])  # the batch statistics
    return out


def _group_width(in_channels: int, out_channels: int, channels_per_group: int | None) -> int:
    """c / g, as :class:`ContextGate` says."""
    if channels_per_group is None or in_channels < channels_per_group:
        return in_channels
    widths = [*range(channels_per_group, 0, -1), *range(channels_per_group + 1, in_channels + 1)]
    return next(
        width
        for width in widths
        if in_channels % width == 0 and out_channels % (in_channels // width) == 0
    )
