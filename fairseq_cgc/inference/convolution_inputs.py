"""The inputs of a decoder's convolutions, kept from step to step of a search.

Shape letters: S sentences, N rows of a step (sentences times beam, in the order of the sentences),
C channels, H heads, K kernel width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


class ConvolutionInputs:
    """The last K inputs of every row, for the lightweight convolutions of all layers.

    Each input is written once and never moved. Beam search reorders only the numbers of the rows
    where each hypothesis finds its inputs, for all layers together.

    Args:
        kernels: each layer's kernels after the softmax, 1 x H x K for all sentences or S x H x K;
            None for a dynamic convolution.
        widths: each layer's K.
        num_heads: H.
        zeros: N x C, the inputs before the first step, in the dtype of the inputs.
    """

    def __init__(
        self,
        kernels: Sequence[Tensor | None],
        widths: Sequence[int],
        num_heads: int,
        zeros: Tensor,
    ) -> None:
        self._kernels = list(kernels)
        # K x rows x C: the inputs of step t lie in slot t % K.
        self._inputs = [zeros.expand(width, -1, -1).contiguous() for width in widths]
        self._heads = torch.arange(num_heads, device=zeros.device).unsqueeze(1)
        # N x the largest K, oldest first: the row of each slot that holds the hypothesis's input.
        self._rows = self._heads.new_zeros(len(zeros), max(widths))
        self._steps = 0
        self._make_room(len(zeros))

    def is_dynamic(self, number: int) -> bool:
        """Whether a layer predicts its kernels from its input at each step."""
        return self._kernels[number] is None

    def begin_step(self) -> None:
        """Drop the oldest inputs; then call :meth:`convolve` once for each layer."""
        newest = self._numbers[: len(self._rows)].unsqueeze(1)
        self._rows = torch.cat([self._rows[:, 1:], newest], 1)
        self._steps += 1
        self._places = {width: self._find(width) for width in self._slots}

    def convolve(self, number: int, x: Tensor, kernels: Tensor | None = None) -> Tensor:
        """Append the newest inputs of a layer and convolve.

        Args:
            number: the layer's place in the decoder.
            x: N x C.
            kernels: N x H x K for a dynamic convolution, else None.

        Returns:
            N x C.
        """
        inputs = self._inputs[number]
        width, rows, channels = len(inputs), *x.shape
        inputs[(self._steps - 1) % width, :rows] = x
        places = self._places[width]
        offsets = self._offsets.get(width)
        if offsets is None:
            offsets = torch.arange(0, len(places), width, device=x.device)
            self._offsets[width] = offsets
        # One weighted sum for each row and head, of inputs read where they lie.
        output = F.embedding_bag(
            places,
            inputs.view(-1, channels // len(self._heads)),
            offsets,
            per_sample_weights=self._weights_of(number, rows)
            if kernels is None
            else kernels.flatten(),
            mode="sum",
        )
        return output.view(rows, channels)

    def reorder(self, rows: Tensor, sentences: Tensor | None) -> None:
        """Continue the search from other rows.

        Args:
            rows: N; row i continues the former row ``rows[i]``.
            sentences: the sentences that remain, in their new order; None if all remain in order.
        """
        if len(rows) > len(self._numbers):
            self._make_room(len(rows))
        if sentences is not None or len(rows) != len(self._rows):
            self._forget_rows()
        if sentences is not None:
            self._kernels = [
                k if k is None or len(k) == 1 else k.index_select(0, sentences)
                for k in self._kernels
            ]
        self._rows = self._rows.index_select(0, rows)

    def _weights_of(self, number: int, rows: int) -> Tensor:
        """The kernels of all rows, flat; made once for a number of rows."""
        weights = self._weights.get(number)
        if weights is None:
            kernels = self._kernels[number]
            assert kernels is not None
            repeats = rows // len(kernels)
            weights = self._weights[number] = kernels.repeat_interleave(repeats, 0).flatten()
        return weights

    def _find(self, width: int) -> Tensor:
        """Which vectors of C / H numbers hold the last K inputs: N x H x K, flat."""
        first = self._steps % width
        places = self._rows[:, -width:] + self._slots[width][first : first + width]
        return torch.add(self._heads, places.unsqueeze(1), alpha=len(self._heads)).flatten()

    def _make_room(self, rows: int) -> None:
        device = self._rows.device
        self._inputs = [F.pad(x, (0, 0, 0, rows - x.shape[1])) for x in self._inputs]
        self._numbers = torch.arange(rows, device=device)
        # The first row of each slot, twice around.
        self._slots = {
            len(x): torch.arange(len(x), device=device).repeat(2) * rows for x in self._inputs
        }
        self._forget_rows()

    def _forget_rows(self) -> None:
        """Drop what depends on the number of rows, per layer and per K."""
        self._weights: dict[int, Tensor] = {}
        self._offsets: dict[int, Tensor] = {}
