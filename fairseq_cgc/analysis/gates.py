"""The gates that a sentence opens, recorded and drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fairseq_cgc.core import CGLightConv, UserError
from fairseq_cgc.support.figures import new_figure, save_figure

#: Name of the convolution within the model to its gates, one tensor B x H x K a call.
Gates = dict[str, list[Tensor]]


@contextmanager
def record_gates(model: nn.Module) -> Iterator[Gates]:
    """Record the gates of every :class:`CGLightConv` while the model runs.

    Args:
        model: any module that contains such convolutions.

    Yields:
        A dictionary that fills up with every forward pass inside the ``with`` block.

    Raises:
        UserError: if the model has no gated convolution.
    """
    found = {
        name: m.gate
        for name, m in model.named_modules()
        if isinstance(m, CGLightConv) and m.gate is not None
    }
    if not found:
        raise UserError(f"{type(model).__name__} has no gated convolution")
    gates: Gates = {name: [] for name in found}

    def recorder(name: str) -> Any:
        def record(module: nn.Module, inputs: Any, gate: Tensor) -> None:
            gates[name].append(gate.detach().float().cpu().squeeze(2))  # B x H x 1 x K

        return record

    handles = [gate.register_forward_hook(recorder(name)) for name, gate in found.items()]
    try:
        yield gates
    finally:
        for handle in handles:
            handle.remove()


def draw_gates(gates: dict[str, Tensor], title: str, output: Path) -> None:
    """Draw which taps of its kernels each head opens: one panel a layer, one row a head.

    Args:
        gates: a layer's name to its gates for one sentence, H x K.
        title: what stands above, usually the sentence.
        output: PNG file to write.

    Raises:
        UserError: if matplotlib is missing.
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
        # One scale for all layers: a tap stands below its namesake in the layer above.
        panel.set_xlim(-reach - 0.5, reach + 0.5)
        panel.set_yticks(range(1, heads + 1))
        panel.set_title(f"{name}, kernel {size}", fontsize=9, loc="left")
        panel.tick_params(labelsize=8)
    panels[len(gates) // 2, 0].set_ylabel("head")
    panels[-1, 0].set_xlabel("position seen, relative to the word (left: earlier)")
    figure.colorbar(image, ax=panels, label="gate (0: closed, 1: open)", shrink=0.8)
    figure.suptitle(title, fontsize=10, wrap=True)
    save_figure(figure, output)
