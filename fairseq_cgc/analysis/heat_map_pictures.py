"""The picture of :class:`~fairseq_cgc.analysis.cam.HeatMaps`: a row for each image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from fairseq_cgc.analysis.cam import HeatMaps
from fairseq_cgc.support.figures import as_written, new_figure, save_figure

_TITLES = {"before": "before the layer", "context": "context of its gate", "after": "after it"}


def draw_heat_maps(
    images: Tensor, heat: HeatMaps, labels: Sequence[str], title: str, output: Path
) -> None:
    """Lay every map over its image.

    Args:
        images: uint8, B x 1 or 3 x height x width.
        heat: the maps of these images.
        labels: what stands beside each.
        title: above all.
        output: PNG file to write.

    Raises:
        UserError: if matplotlib is missing.
    """
    rows, columns = len(images), 2 + len(heat.maps)  # the first for the labels
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
            # Grey and without black, under which no colour could be told from another.
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
