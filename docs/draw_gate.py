"""Draw docs/images/gate.svg: how a sentence gates the kernels of its own convolution.

python docs/draw_gate.py
"""

from __future__ import annotations

import math
from pathlib import Path

from svg import Picture

OUTPUT = Path(__file__).parent / "images" / "gate.svg"
_BLUE, _ORANGE, _GREY = "#ddf4ff", "#ffe8cc", "#f6f8fa"
_KERNEL, _GATE = "#0969da", "#bc4c00"


def draw() -> str:
    """The picture as SVG."""
    picture = Picture(
        980, 330, "A lightweight convolution whose kernels are gated by the whole sentence"
    )
    top, bottom = 85, 235
    picture.box(80, bottom, 120, 70, ["sentence X", "T × C, H heads"], _GREY)
    # The gate: what CGC adds.
    picture.box(215, top, 130, 70, ["pool", "mean of each head", "H × 3K"], _ORANGE)
    picture.box(375, top, 130, 70, ["encode E", "LayerNorm, ReLU", "H × d"], _ORANGE)
    picture.box(535, top, 130, 70, ["decode D", "sigmoid", "H × K"], _ORANGE)
    picture.text(375, 30, "context gate, computed once for each sentence", "bold")
    # LightConv.
    picture.box(275, bottom, 130, 70, ["weight W", "softmax over taps", "H × K"], _BLUE)
    picture.box(535, bottom, 44, 44, ["×"], _GREY)
    picture.box(770, bottom, 150, 70, ["lightweight", "convolution"], _BLUE)
    picture.box(915, bottom, 90, 70, ["output", "T × C"], _GREY)
    # The shades are examples: a softmax that peaks in the middle, a gate, and their product.
    kernel = [[math.exp(-((k - 3) ** 2) / width) for k in range(7)] for width in (9, 3, 6, 2)]
    gate = [[1 / (1 + math.exp(-s * (k - 3))) for k in range(7)] for s in (1, -0.8, -0.3, 0.6)]
    pairs = [zip(*rows, strict=True) for rows in zip(kernel, gate, strict=True)]
    picture.grid(395, bottom - 20, kernel, 10, _KERNEL)
    picture.text(430, bottom + 36, "kernels")
    picture.grid(500, 143, gate, 10, _GATE)
    picture.text(605, 168, "gate G")
    picture.grid(590, bottom - 20, [[a * b for a, b in row] for row in pairs], 10, _KERNEL)
    picture.text(625, bottom + 36, "kernels of this sentence")

    picture.arrow([(80, bottom - 35), (80, top), (150, top)], _GATE)
    picture.arrow([(280, top), (310, top)], _GATE)
    picture.arrow([(440, top), (470, top)], _GATE)
    picture.arrow([(535, top + 35), (535, 141)], _GATE)
    picture.arrow([(535, 184), (535, bottom - 22)], _GATE)
    picture.arrow([(340, bottom), (393, bottom)])
    picture.arrow([(467, bottom), (513, bottom)])
    picture.arrow([(557, bottom), (588, bottom)])
    picture.arrow([(662, bottom), (695, bottom)])
    picture.arrow([(845, bottom), (870, bottom)])
    picture.arrow([(80, bottom + 35), (80, 312), (770, 312), (770, bottom + 35)])
    return str(picture)


if __name__ == "__main__":
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(draw(), encoding="utf-8")
    print(OUTPUT)
