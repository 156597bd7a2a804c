from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from fairseq_cgc.analysis.cam import HeatMaps, draw_heat_maps
from fairseq_cgc.analysis.class_distances import ClassDistances, draw_distances
from fairseq_cgc.analysis.curves import ImageLog, draw_image_curves
from fairseq_cgc.support.figures import as_written, new_figure

pytest.importorskip("matplotlib")

ODD = ["$x_$", "a $ b", r"$\frac$", r"\$5", "_hidden", "caf\udce9", "$$"]


def drawn_text(words: str) -> str:
    figure = new_figure(2, 1)
    (text,) = [figure.text(0.5, 0.5, words)]
    text.figure.canvas.draw()
    shown, is_formula = text._preprocess_math(words)
    assert not is_formula
    return shown


@pytest.mark.parametrize("words", ODD)
def test_words_are_drawn_as_they_are(words):
    shown = drawn_text(as_written(words))
    assert shown.removeprefix("\u200b") == words.replace("\udce9", "?")


@pytest.mark.parametrize("words", ODD)
def test_every_picture_of_images_takes_every_name(words, tmp_path: Path):
    output = tmp_path / "x.png"
    line = {"epoch": 1, "train_loss": 1, "train_top1": 50, "val_loss": 1, "val_top1": 40}
    heat = HeatMaps("l", torch.tensor([0]), torch.zeros(1, 2), {"after": torch.rand(1, 3, 3)})
    classes = (words, "other")
    distances = ClassDistances(
        classes, (2, 2), torch.rand(2, 2), torch.rand(2), torch.rand(2), torch.rand(2, 3, 3)
    )
    with warnings.catch_warnings(action="error"):  # of missing glyphs, labels left out
        draw_image_curves([ImageLog(words, [line])], output)
        draw_heat_maps(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), heat, [words], "title", output)
        draw_distances(distances, "title", output)


def test_a_name_with_an_underscore_is_in_the_legend():
    figure = new_figure(2, 1)
    axis = figure.subplots()
    axis.plot([1], [1], label=as_written("_run"))
    assert [text.get_text().lstrip("\u200b") for text in axis.legend().get_texts()] == ["_run"]
