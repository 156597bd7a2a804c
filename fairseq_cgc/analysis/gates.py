"""Record the gates of a translation model, for one sentence or for whole corpora.

Shape letters: N sentences, L gated layers, H heads, K kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_cgc.analysis.projection import equal_bins, explained, without
from fairseq_cgc.core import ContextGate, UserError
from fairseq_cgc.inference.dictionary import PAD

#: Name of a convolution in the model -> its gates, one tensor, B x H x K, for each call.
Gates = dict[str, list[Tensor]]


@contextmanager
def record_gates(model: nn.Module) -> Iterator[Gates]:
    """Record the gates of sentences while the model runs, those of a gated decoder too.

    Args:
        model: any module that contains such convolutions.

    Yields:
        A dictionary; every forward pass inside the ``with`` block adds to it.

    Raises:
        UserError: if the model has no gated convolution.
    """
    gates: Gates = {}

    def recorder(found: list[Tensor]) -> Any:
        def record(module: nn.Module, inputs: Any, gate: Tensor) -> None:
            found.append(gate.detach().float().cpu().squeeze(2))  # B x H x 1 x K

        return record

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            gate = getattr(module, "gate", None)
            if isinstance(gate, ContextGate) and not gate.channel_interaction:
                gates[name] = []
                hooks.enter_context(gate.register_forward_hook(recorder(gates[name])))
        if not gates:
            raise UserError("the model has no gates: it must be LightConv with gated convolutions")
        yield gates


def layer_label(name: str, kernel_size: int) -> str:
    """A layer in words: ``encoder layer 3 (K = 15)`` for ``encoder.layers.2.conv``.

    ``name`` is that of a convolution in a translation model or in its encoder.
    """
    found = re.fullmatch(r"(?:(encoder|decoder)\.)?layers\.(\d+)\.conv", name)
    words = f"{found[1] or 'encoder'} layer {int(found[2]) + 1}" if found else name
    return f"{words} (K = {kernel_size})"


_LENGTH_BINS = 10


@dataclass(frozen=True)
class SentenceGates:
    """Gates of N sentences.

    Attributes:
        gates: name of a layer -> N x (H * K).
        lengths: N, source subwords including the end of the sentence.
        corpus: N, positions in ``corpora``.
        corpora: names of the corpora.
        labels: name of a layer -> the layer in words; names without words stand for themselves.
    """

    gates: dict[str, Tensor]
    lengths: Tensor
    corpus: Tensor
    corpora: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)

    def points(self) -> Tensor:
        """The gates of all layers side by side, N x D."""
        return torch.cat(list(self.gates.values()), 1)


def sentence_gates(
    encoder: nn.Module,
    corpora: Sequence[str],
    batches: Iterable[tuple[Tensor, Tensor, int]],
    layer: str | None = None,
) -> SentenceGates:
    """Run an encoder over corpora and record its gates.

    Args:
        encoder: called with tokens and their padding mask; in evaluation mode.
        corpora: names of the corpora.
        batches: tokens, B x T, lengths, B, and the position of the corpus in ``corpora``.
        layer: only this gated convolution.

    Raises:
        UserError: if there is no gated convolution, none with this name, or no sentence.
    """
    lengths, corpus = [], []
    with record_gates(encoder) as recorded, torch.inference_mode():
        if layer is not None and layer not in recorded:
            raise UserError(f"--layer is {layer!r}, but must be one of {', '.join(recorded)}")
        device = next(encoder.parameters()).device
        for tokens, of_batch, number in batches:
            tokens = tokens.to(device)
            encoder(tokens, tokens.eq(PAD))
            lengths.append(of_batch.cpu())
            corpus.append(torch.full((len(of_batch),), number))
    if not lengths:
        raise UserError("there are no sentences to record gates of")
    gates = {
        name: torch.cat(found).flatten(1)
        for name, found in recorded.items()
        if layer is None or name == layer
    }
    labels = {name: layer_label(name, recorded[name][0].shape[-1]) for name in gates}
    return SentenceGates(gates, torch.cat(lengths), torch.cat(corpus), tuple(corpora), labels)


def gates_by_length(found: SentenceGates) -> dict[str, dict[str, float]]:
    """For each layer, the mean gate of the shortest and of the longest fifth of the sentences.

    Also the mean difference between the gates of both fifths, and how many sentences have gates of
    their own, to three decimals.
    """
    low, high = found.lengths.double().quantile(torch.tensor([0.2, 0.8], dtype=torch.double))
    short, long = found.lengths <= low, found.lengths >= high
    return {
        name: {
            "short": gates[short].mean().item(),
            "long": gates[long].mean().item(),
            "difference": (gates[short].mean(0) - gates[long].mean(0)).abs().mean().item(),
            "distinct": len((1000 * gates).round().unique(dim=0)),
        }
        for name, gates in found.gates.items()
    }


def explained_shares(found: SentenceGates) -> dict[str, dict[str, float | None]]:
    """The adjusted R^2 of length and corpus, for ``all`` layers together and for each layer.

    ``length`` groups the sentences by length into ten groups of about equal size. ``corpus given
    length`` first subtracts the mean of its length group from each sentence, so it is 0 for
    corpora that differ in the length of their sentences alone. A value is ``None`` if all
    sentences are in one group.
    """
    bins = equal_bins(found.lengths, _LENGTH_BINS)
    several = len(found.corpus.unique()) > 1
    shares = {}
    for name, points in {"all": found.points(), **found.gates}.items():
        by_length = explained(points, bins) if len(bins.unique()) > 1 else None
        shares[name] = {
            "length": by_length,
            "corpus": explained(points, found.corpus) if several else None,
            "corpus given length": (
                explained(without(points, bins), found.corpus) if several else None
            ),
        }
    return shares
