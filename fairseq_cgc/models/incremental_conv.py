"""The decoder's lightweight convolution: all positions at once, or word by word.

Word by word, the last K inputs are not copied at every step.

N is the rows of a step: the sentences of the batch times the beam. Other letters as in
``core.functional``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from fairseq.modules.lightweight_convolution import LightweightConv1dTBC
from torch import Tensor

from fairseq_cgc.core import light_convolution

_STATE = "window"


class Window:
    """The last K inputs of every hypothesis.

    An input is written once and never moved. What beam search reorders is only where each
    hypothesis finds its inputs: numbers instead of vectors.

    Args:
        kernel: H x K, after the softmax.
        x: the first input, N x C; only its size and type count.
    """

    def __init__(self, kernel: Tensor, x: Tensor) -> None:
        self.kernel = kernel
        # The input of step t lies in slot t % K.
        self.inputs = x.new_empty(kernel.shape[1], *x.shape)
        # N x H x min(steps, K), oldest first: where in ``inputs``, seen as rows of C / H numbers.
        self.places = torch.empty(len(x), len(kernel), 0, dtype=torch.long, device=x.device)
        self.steps = 0
        self._weights = kernel[:0]

    def push(self, x: Tensor) -> None:
        """Append ``x``, N x C, where the oldest input was."""
        heads, width = self.kernel.shape
        if len(x) > self.inputs.shape[1]:
            self._grow(len(x))
        slot = self.steps % width
        self.inputs[slot, : len(x)] = x
        first = slot * self.inputs.shape[1] * heads
        new = torch.arange(first, first + len(x) * heads, device=x.device)
        kept = self.places[:, :, 1:] if self.places.shape[2] == width else self.places
        self.places = torch.cat([kept, new.view(len(x), heads, 1)], 2)
        self.steps += 1

    def convolve(self) -> Tensor:
        """The convolution's output at the last step, N x C."""
        rows, heads, filled = self.places.shape
        if self._weights.shape != (rows * heads, filled):
            self._weights = self.kernel[:, -filled:].repeat(rows, 1)
        # One weighted sum for each row and head, of inputs read where they lie.
        output = F.embedding_bag(
            self.places.view(rows * heads, filled),
            self.inputs.view(-1, self.inputs.shape[2] // heads),
            per_sample_weights=self._weights,
            mode="sum",
        )
        return output.view(rows, -1)

    def reorder(self, new_order: Tensor) -> None:
        """Let row i go on from what was row ``new_order[i]``; there may be more rows or fewer."""
        self.places = self.places.index_select(0, new_order)

    def _grow(self, rows: int) -> None:
        """Make room for more rows than there were at first."""
        heads, width = self.kernel.shape
        channels, filled = self.inputs.shape[2], self.places.shape[2]
        inputs = self.inputs.new_empty(width, rows, channels)
        slots = torch.arange(self.steps - filled, self.steps, device=inputs.device) % width
        inputs[slots] = self.inputs.view(-1, channels)[self.places[:, 0].t() // heads]
        first_of_row = torch.arange(rows * heads, device=inputs.device).view(rows, heads, 1)
        self.places = first_of_row + slots * (rows * heads)
        self.inputs = inputs


class IncrementalLightConv(LightweightConv1dTBC):
    """fairseq's lightweight convolution, computed by this package.

    All positions at once are one :func:`~fairseq_cgc.core.light_convolution`; a generation goes
    over a :class:`Window`. The kernel's softmax is taken once a generation: it lives in the
    incremental state with the window, so that it cannot outlive the weights that it was made of.
    """

    def forward(
        self,
        x: Tensor,
        incremental_state: dict[str, Any] | None = None,
        unfold: bool = False,
    ) -> Tensor:
        """Convolve; arguments and result (T x B x C) are fairseq's."""
        if incremental_state is None and not unfold:
            return self._add_bias(self._convolve_all(x))
        window = self.get_incremental_state(incremental_state, _STATE)
        if window is None:
            if not self._can_use_window(x, incremental_state):
                return super().forward(x, incremental_state, unfold)
            window = Window(self._normalized_kernel(), x[0])
            self.set_incremental_state(incremental_state, _STATE, window)
        window.push(x[0])
        return self._add_bias(window.convolve().unsqueeze(0))

    def _convolve_all(self, x: Tensor) -> Tensor:
        dropout = self.weight_dropout_module
        return light_convolution(
            x,
            self._wide_kernel().unsqueeze(0),
            padding_l=self.padding_l,
            dropout=dropout.p,
            training=dropout.training or dropout.apply_during_inference,
        )

    def _add_bias(self, x: Tensor) -> Tensor:
        return x if self.bias is None else x + self.bias

    def _can_use_window(self, x: Tensor, incremental_state: dict[str, Any] | None) -> bool:
        """Whether a generation begins, without gradients and DropConnect (--retain-dropout)."""
        dropout = self.weight_dropout_module
        return (
            incremental_state is not None
            and self._get_input_buffer(incremental_state) is None
            and len(x) == 1
            and not torch.is_grad_enabled()
            and not (dropout.p > 0 and (dropout.training or dropout.apply_during_inference))
        )

    def _normalized_kernel(self) -> Tensor:
        return self._wide_kernel().to(self.weight.dtype)

    def _wide_kernel(self) -> Tensor:
        """H x K in float32 (as fairseq takes its softmax) where the weight is not wider."""
        kernel = self.weight.flatten(1)
        dtype = torch.promote_types(kernel.dtype, torch.float32)
        if not self.weight_softmax:
            return kernel.to(dtype)
        return kernel.softmax(1, dtype=torch.float32).to(dtype)

    def reorder_incremental_state(
        self, incremental_state: dict[str, Any], new_order: Tensor
    ) -> None:
        """Reorder the hypotheses.

        Args:
            incremental_state: of this generation.
            new_order: row i goes on from what was row ``new_order[i]``.
        """
        window = self.get_incremental_state(incremental_state, _STATE)
        if window is None:
            super().reorder_incremental_state(incremental_state, new_order)
        else:
            window.reorder(new_order)
