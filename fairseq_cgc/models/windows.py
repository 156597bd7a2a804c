"""The decoder's lightweight convolutions word by word, without copying their last inputs.

N is the rows of a step: the sentences of the batch times the beam. Other letters as in
``core.functional``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


class Windows:
    """The last K inputs of every hypothesis, for several convolutions with as many heads.

    An input is written once and never moved. What beam search reorders is only in which row each
    hypothesis finds its inputs: a few numbers for all convolutions together.

    Args:
        kernels: of each convolution, after the softmax: 1 x H x K, or S x H x K for a kernel for
            each of S sentences, whose rows follow each other, N / S of each.
        channels: C.
        rows: N of the first step.
        room: the most rows that are expected; there may be more.
    """

    # Of each convolution, and of each K: what depends on N.
    _weights: dict[int, Tensor]
    _offsets: dict[int, Tensor]

    def __init__(self, kernels: Sequence[Tensor], channels: int, rows: int, room: int) -> None:
        self._kernels = list(kernels)
        like, widest = kernels[0], max(kernel.shape[2] for kernel in kernels)
        # K x room x C: inputs of step t lie in slot t % K. Before the first step lie zeros.
        self.inputs = [like.new_zeros(k.shape[2], 0, channels) for k in kernels]
        # N x the largest K, oldest first: the row of a slot where a hypothesis finds its input.
        self.rows = torch.zeros(rows, widest, dtype=torch.long, device=like.device)
        self._heads = torch.arange(like.shape[1], device=like.device).unsqueeze(1)
        self._steps = 0
        self._make_room(room)

    def begin_step(self) -> None:
        """Let the oldest inputs fall out; :meth:`convolve` follows once for every convolution."""
        newest = self._numbers[: len(self.rows)].unsqueeze(1)
        self.rows = torch.cat([self.rows[:, 1:], newest], 1)
        self._steps += 1
        self._places = {width: self._find(width) for width in self._slots}

    def convolve(self, number: int, x: Tensor) -> Tensor:
        """Append ``x``, N x C, and give the output at this step, N x C, of that convolution."""
        kernel, inputs = self._kernels[number], self.inputs[number]
        sentences, heads, width = kernel.shape
        rows, channels = x.shape
        inputs[(self._steps - 1) % width, :rows] = x
        weights = self._weights.get(number)
        if weights is None:
            weights = self._weights[number] = kernel.repeat_interleave(
                rows // sentences, 0
            ).flatten()
            self._offsets[width] = torch.arange(0, len(weights), width, device=x.device)
        # One weighted sum for each row and head, of inputs read where they lie.
        output = F.embedding_bag(
            self._places[width],
            inputs.view(-1, channels // heads),
            self._offsets[width],
            per_sample_weights=weights,
            mode="sum",
        )
        return output.view(rows, channels)

    def reorder(self, new_order: Tensor, sentences: Tensor | None = None) -> None:
        """Let row i go on from what was row ``new_order[i]``; there may be more rows or fewer.

        Args:
            new_order: N.
            sentences: the sentences whose kernels go on, from :meth:`Source.reorder`.
        """
        if sentences is not None and any(len(kernel) > 1 for kernel in self._kernels):
            self._kernels = [
                kernel.index_select(0, sentences) if len(kernel) > 1 else kernel
                for kernel in self._kernels
            ]
            self._weights = {}
        if len(new_order) > len(self._numbers):
            self._make_room(len(new_order))
        if len(new_order) != len(self.rows):
            self._weights, self._offsets = {}, {}
        self.rows = self.rows.index_select(0, new_order)

    def _find(self, width: int) -> Tensor:
        """Where the last K inputs lie: in ``inputs`` as rows of C / H, N x H x K in one line."""
        first = self._steps % width
        places = self.rows[:, -width:] + self._slots[width][first : first + width]
        return torch.add(self._heads, places.unsqueeze(1), alpha=len(self._heads)).flatten()

    def _make_room(self, room: int) -> None:
        device = self.rows.device
        self.inputs = [F.pad(x, (0, 0, 0, room - x.shape[1])) for x in self.inputs]
        self._numbers = torch.arange(room, device=device)
        # The first rows of the slots, twice around.
        self._slots = {
            len(x): torch.arange(len(x), device=device).repeat(2) * room for x in self.inputs
        }
        self._weights, self._offsets = {}, {}
