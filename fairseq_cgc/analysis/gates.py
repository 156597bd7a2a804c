"""Record and draw the gates of a translation model, for one sentence or for whole corpora.

Shape letters: N sentences, L gated layers, H heads, K kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_cgc.analysis.projection import Projection, equal_bins, explained, project, without
from fairseq_cgc.core import CGLightConv, UserError
from fairseq_cgc.inference.dictionary import PAD
from fairseq_cgc.support.figures import as_written, new_figure, save_figure

#: Name of a convolution in the model -> its gates, one tensor, B x H x K, for each call.
Gates = dict[str, list[Tensor]]


@contextmanager
def record_gates(model: nn.Module) -> Iterator[Gates]:
    """Record the gates of every :class:`CGLightConv` while the model runs.

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
            if isinstance(module, CGLightConv) and module.gate is not None:
                gates[name] = []
                hooks.enter_context(module.gate.register_forward_hook(recorder(gates[name])))
        if not gates:
            raise UserError(f"{type(model).__name__} has no gated convolution")
        yield gates


def draw_gates(gates: dict[str, Tensor], title: str, output: Path) -> None:
    """Draw which taps of its kernels each head opens: a panel for a layer, a row for a head.

    Args:
        gates: name of a layer -> its gates for one sentence, H x K.
        title: of the figure, usually the sentence.
        output: PNG file to write.
    """
    rows = [gate.shape[0] for gate in gates.values()]
    figure = new_figure(9, 1.6 + sum(0.45 + 0.22 * heads for heads in rows))
    panels = figure.subplots(len(gates), 1, squeeze=False, height_ratios=[2 + h for h in rows])
    reach = max(gate.shape[1] for gate in gates.values()) // 2
    for panel, (name, gate) in zip(panels[:, 0], gates.items(), strict=True):
        heads, size = gate.shape
        edges = (-size / 2, size / 2, heads + 0.5, 0.5)
        image = panel.imshow(
            gate.numpy(), vmin=0, vmax=1, cmap="viridis", aspect="auto", extent=edges
        )
        # All layers share one scale, so that equal positions are below each other.
        panel.set_xlim(-reach - 0.5, reach + 0.5)
        panel.set_yticks(range(1, heads + 1))
        panel.set_title(f"{name}, kernel {size}", fontsize=9, loc="left")
        panel.tick_params(labelsize=8)
    panels[len(gates) // 2, 0].set_ylabel("head")
    panels[-1, 0].set_xlabel("position relative to the word (left: earlier)")
    figure.colorbar(image, ax=panels, label="gate (0: closed, 1: open)", shrink=0.8)
    figure.suptitle(as_written(title), fontsize=10, wrap=True)
    save_figure(figure, output)


_LENGTH_BINS = 10


@dataclass(frozen=True)
class SentenceGates:
    """Gates of N sentences.

    Attributes:
        gates: name of a layer -> N x (H * K).
        lengths: N, source subwords including the end of the sentence.
        corpus: N, positions in ``corpora``.
        corpora: names of the corpora.
    """

    gates: dict[str, Tensor]
    lengths: Tensor
    corpus: Tensor
    corpora: tuple[str, ...]

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
    return SentenceGates(gates, torch.cat(lengths), torch.cat(corpus), tuple(corpora))


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


def draw_sentence_gates(
    found: SentenceGates,
    shares: dict[str, dict[str, float | None]],
    title: str,
    output: Path,
) -> Projection:
    """Draw the gates along their first two principal components, and what explains them.

    Args:
        found: the gates of sentences.
        shares: from :func:`explained_shares`.
        title: of the figure.
        output: PNG file to write.

    Returns:
        The sentences as they were drawn.

    Raises:
        UserError: if there are fewer than three sentences.
    """
    projection = project(found.points())
    several = len(found.corpora) > 1
    figure = new_figure(15 if several else 10, 5)
    axes = figure.subplots(1, 3 if several else 2)
    figure.suptitle(title, fontsize=10)
    x, y = projection.points.T.numpy()
    size = max(1.5, min(12, 6000 / len(x)))
    # A few very long sentences must not use up the range of colours.
    image = axes[0].scatter(
        x, y, s=size, c=found.lengths.numpy(), cmap="viridis", linewidths=0,
        vmin=found.lengths.min().item(), vmax=found.lengths.double().quantile(0.99).item(),
    )  # fmt: skip
    figure.colorbar(image, ax=axes[0], label="source length (subwords)", extend="max")
    axes[0].set_title(f"{len(x)} sentences by length{_r2(shares['all']['length'])}", fontsize=9)
    if several:
        # In random order, or the last corpus would cover the others.
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        colours = [f"C{int(number) % 10}" for number in found.corpus[order]]
        axes[1].scatter(x[order], y[order], s=size, c=colours, linewidths=0)
        for number, name in enumerate(found.corpora):
            axes[1].scatter([], [], s=20, color=f"C{number % 10}", label=as_written(name))
        axes[1].legend(fontsize=8)
        axes[1].set_title(f"by corpus{_r2(shares['all']['corpus'])}", fontsize=9)
    for axis in axes[:-1]:
        axis.set_xlabel(f"component 1 ({100 * projection.shares[0]:.0f}% of the variance)")
        axis.set_ylabel(f"component 2 ({100 * projection.shares[1]:.0f}%)")
        axis.grid(alpha=0.2)
    _bars(axes[-1], shares)
    save_figure(figure, output)
    return projection


def _bars(axis: Any, shares: dict[str, dict[str, float | None]]) -> None:
    """Draw a group of bars for each layer, the first layer on top."""
    kinds = [k for k in next(iter(shares.values())) if shares["all"][k] is not None]
    names = list(shares)
    height = 0.8 / max(1, len(kinds))
    for number, kind in enumerate(kinds):
        places = [row + (number - (len(kinds) - 1) / 2) * height for row in range(len(names))]
        values = [shares[name][kind] or 0.0 for name in names]
        bars = axis.barh(places, values, height=height, label=kind, color=f"C{number + 3}")
        axis.bar_label(bars, fmt="%.3f", fontsize=6, padding=2)
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.invert_yaxis()
    axis.set_xlabel("adjusted R² of the gates (1: fully explained)")
    axis.set_xlim(right=1.1)  # room for the numbers
    axis.set_title("explained share of the variance, by layer", fontsize=9)
    axis.grid(alpha=0.3, axis="x")
    axis.set_axisbelow(True)
    axis.legend(fontsize=8)


def _r2(value: float | None) -> str:
    return "" if value is None else f" (R² {value:.2f})"
