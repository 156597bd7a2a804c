"""Grad-CAM++ heat maps before and after a convolution, and of its gate's context (Fig. 4).

The paper does not say how it shows the context. Here it is Grad-CAM++ of the pooled grid that the
gate encodes, with gradients through the gate alone: it shows the regions whose content opens or
closes weights in favour of the class.

Shape letters: B batch, C channels, H x W a feature map's size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fairseq_cgc.analysis.layers import find_layer
from fairseq_cgc.core import CGConv2d, ContextGate, UserError
from fairseq_cgc.support.figures import as_written, new_figure, save_figure

BEFORE, CONTEXT, AFTER = "before", "context", "after"
_TITLES = {BEFORE: "before the layer", CONTEXT: "context of its gate", AFTER: "after the layer"}


def grad_cam_plus_plus(maps: Tensor, gradients: Tensor) -> Tensor:
    """The heat map L of each sample, without the factor exp(S).

    Args:
        maps: A, B x C x H x W. Where maps are signed (an image before the stem), a negative sum
            counts as zero, because the weights would otherwise have any size and sign.
        gradients: g, of the same shape.

    Returns:
        B x H x W, not negative.
    """
    total = maps.sum((2, 3), keepdim=True).clamp(min=0)
    rising = gradients.clamp(min=0)
    # Where g is positive, a = 1 / (2 + total g); elsewhere the factor relu(g) is zero.
    weights = (rising / (2 + total * rising)).sum((2, 3), keepdim=True)
    return (weights * maps).sum(1).clamp(min=0)


def relative(maps: Tensor) -> Tensor:
    """Divide each map, B x H x W, by its maximum; a map of zeros stays as it is."""
    largest = maps.amax((1, 2), keepdim=True)
    return torch.where(largest > 0, maps / largest, maps)


@dataclass(frozen=True)
class HeatMaps:
    """What a layer attends to for a class of each image.

    Attributes:
        layer: its name.
        classes: B, the class that is explained for each image.
        logits: B x classes.
        maps: ``before``, ``context`` (gated layers only) and ``after``, in this order. Each is
            B x H x W from 0 to 1, relative to its own maximum.
    """

    layer: str
    classes: Tensor
    logits: Tensor
    maps: dict[str, Tensor]


def heat_maps(
    model: nn.Module, layer: str | None, images: Tensor, classes: Tensor | None = None
) -> HeatMaps:
    """Run a model forward and backward, and compute the heat maps of a layer.

    ``before`` is the layer's input. ``after`` is the output of the first ReLU module that runs
    after the layer (normalisation, and at the end of a block the shortcut, come in between), or
    the layer's own output if there is none.

    Args:
        model: left in evaluation mode.
        layer: name of a 2-D convolution; ``None`` for the default of :func:`find_layer`.
        images: B x channels x height x width, standardised, on the model's device.
        classes: B, whose scores to explain; by default those with the highest score.

    Raises:
        UserError: if there is no such layer, or it does not run.
    """
    name, conv = find_layer(model, layer, nn.Conv2d)
    model.eval()
    with torch.enable_grad(), _capture(model, conv) as captured:
        logits = model(images.detach().requires_grad_())
        if BEFORE not in captured:
            raise UserError(
                f"{name} does not take part in the model's output: give another --layer"
            )
        classes = logits.argmax(1) if classes is None else classes.to(logits.device)
        score = logits.gather(1, classes.unsqueeze(1)).sum()  # samples do not mix: one sum for all
        tensors = {key: captured[key] for key in (BEFORE, CONTEXT, AFTER) if key in captured}
        gradients = torch.autograd.grad(
            score, list(tensors.values()), allow_unused=True, materialize_grads=True
        )
    maps = {}
    for (key, tensor), gradient in zip(tensors.items(), gradients, strict=True):
        heat = grad_cam_plus_plus(tensor.detach().float(), gradient.float())
        maps[key] = relative(heat).cpu()
    return HeatMaps(name, classes.cpu(), logits.detach().float().cpu(), maps)


@contextmanager
def _capture(model: nn.Module, conv: nn.Conv2d) -> Iterator[dict[str, Tensor]]:
    """Collect the tensors during a forward pass, as parts of its graph."""
    captured: dict[str, Tensor] = {}
    is_behind = False

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        captured[BEFORE] = inputs[0]

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal is_behind
        captured[AFTER], is_behind = output, True

    def rectified(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal is_behind
        if is_behind:
            captured[AFTER], is_behind = output, False

    def pool_before(gate: ContextGate, inputs: tuple[Tensor, ...]) -> Tensor:
        # The grid is a tensor of its own, never the input itself, whose gradients would be those
        # of the convolution too.
        captured[CONTEXT] = gate.pool(inputs[0])
        return captured[CONTEXT]

    with ExitStack() as hooks:
        hooks.enter_context(conv.register_forward_pre_hook(before))
        hooks.enter_context(conv.register_forward_hook(after))
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                hooks.enter_context(module.register_forward_hook(rectified))
        if isinstance(conv, CGConv2d):
            hooks.enter_context(conv.gate.register_forward_pre_hook(pool_before))
        yield captured


def draw_heat_maps(
    images: Tensor, heat: HeatMaps, labels: Sequence[str], title: str, output: Path
) -> None:
    """Draw each image with its heat maps laid over it, one row for an image.

    Args:
        images: uint8, B x 1 or 3 x height x width.
        heat: the maps of these images.
        labels: of the rows.
        title: of the figure.
        output: PNG file to write.
    """
    rows, columns = len(images), 2 + len(heat.maps)  # the labels, the image and its maps
    figure = new_figure(1.35 * columns + 0.9, 1.3 * rows + 1.2)
    axes = figure.subplots(rows, columns, squeeze=False)
    height, width = images.shape[-2:]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        axes[row, 0].text(1, 0.5, as_written(label), fontsize=8, ha="right", va="center")
        axes[row, 0].set_axis_off()
        for axis in axes[row, 1:]:
            axis.set_xticks([])
            axis.set_yticks([])
        pixels = image.expand(3, -1, -1).permute(1, 2, 0).numpy() / 255
        axes[row, 1].imshow(pixels)
        grey = pixels.mean(2)
        for axis, maps in zip(axes[row, 2:], heat.maps.values(), strict=True):
            # Grey without black, on which the colours could not be told apart.
            axis.imshow(grey, cmap="gray", vmin=-0.7, vmax=1)
            shown = axis.imshow(
                maps[row].numpy(), cmap="turbo", alpha=0.55, vmin=0, vmax=1, extent=extent,
                interpolation="bilinear",
            )  # fmt: skip
            if not maps[row].any():
                axis.text(0.5, 0.5, "all 0", transform=axis.transAxes, ha="center")
            axis.set_xlim(extent[:2])
            axis.set_ylim(extent[2:])
    axes[0, 1].set_title(f"image\n({height} x {width})", fontsize=9)
    for axis, (name, maps) in zip(axes[0, 2:], heat.maps.items(), strict=True):
        size = " x ".join(map(str, maps.shape[1:]))
        axis.set_title(f"{_TITLES[name]}\n({size})", fontsize=9)
    figure.colorbar(
        shown, ax=axes, label="Grad-CAM++, relative to\neach map's maximum",
        shrink=min(1.0, 4 / rows), aspect=25,
    )  # fmt: skip
    figure.suptitle(title, fontsize=10)
    save_figure(figure, output)
