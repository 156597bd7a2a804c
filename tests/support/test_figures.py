from __future__ import annotations

import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from figure_checks import HOSTILE, faults, shown_texts

from fairseq_cgc.analysis.cam import HeatMaps
from fairseq_cgc.analysis.cam_figure import Shown, draw_heat_maps
from fairseq_cgc.analysis.class_distances import ClassDistances
from fairseq_cgc.analysis.curves import ImageLog, draw_image_curves
from fairseq_cgc.analysis.distances_figure import draw_distances
from fairseq_cgc.analysis.gate_figures import draw_gates, draw_sentence_gates
from fairseq_cgc.analysis.gates import SentenceGates, explained_shares
from fairseq_cgc.core import UserError
from fairseq_cgc.mt.reproduce.scores_figure import draw_scores
from fairseq_cgc.mt.train.training_log import Point, TrainingLog, draw_curves
from fairseq_cgc.support import figures
from fairseq_cgc.support.figures import (
    SUFFIXES,
    add_legend,
    as_written,
    check_can_draw,
    drawing,
    fitted,
    text_width,
)

pytest.importorskip("matplotlib")

ODD = ["$x_$", "a $ b", r"$\frac$", r"\$5", "_hidden", "caf\udce9", "$$"]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are written."""
    found: list[Any] = []
    save = figures.save_figure

    def keep(figure: Any, output: Path) -> None:
        save(figure, output)
        found.append((figure, list(faults(figure)), [t.get_text() for t in shown_texts(figure)]))

    monkeypatch.setattr(figures, "save_figure", keep)
    return found


@pytest.mark.parametrize("words", ODD)
def test_words_are_drawn_as_they_are(words, tmp_path):
    with drawing(tmp_path / "x.png", 2, 1) as figure:
        text = figure.text(0.5, 0.5, as_written(words))
        figure.canvas.draw()
        shown, is_formula = text._preprocess_math(text.get_text())
    assert not is_formula
    assert shown.removeprefix("\u200b") == words.replace("\udce9", "?")


def test_a_name_with_an_underscore_is_in_the_legend(tmp_path):
    with drawing(tmp_path / "x.png", 2, 1) as figure:
        axis = figure.subplots()
        lines = axis.plot([1], [1])
        legend = add_legend(axis, lines, ["_run"])
    assert [text.get_text() for text in legend.get_texts()] == ["_run"]


def of_images(names: tuple[str, ...], output: Path) -> None:
    log = [
        {"epoch": e, "train_loss": 2 / e, "train_top1": 50, "val_loss": 3 / e, "val_top1": 40 + e}
        for e in range(1, 4)
    ]
    draw_image_curves([ImageLog(name, log) for name in names], output)


def of_translation(names: tuple[str, ...], output: Path) -> None:
    points = [Point(u, u, 5.0, 9 / u, None, 3.0 * u, None, None, None) for u in range(1, 5)]
    draw_curves([TrainingLog(name, points, [], points) for name in names], output)


def heat(samples: int, *shape: int, context: bool = True) -> HeatMaps:
    kinds = ("before", "context", "after") if context else ("before", "after")
    maps = {kind: torch.rand(samples, *shape) for kind in kinds}
    return HeatMaps("l", torch.zeros(samples), torch.zeros(samples, 2), maps)


def of_heat(names: tuple[str, ...], output: Path) -> None:
    notes = [f"99% {as_written(name)}" for name in names]
    number = len(names)
    models = [
        Shown(names[0], heat(number, 3, 3, context=False), notes),
        Shown(names[-1], heat(number, 3, 3), notes),
    ]
    labels = [f"{as_written(name)}\ntrue: {as_written(name)}" for name in names]
    draw_heat_maps(torch.zeros(number, 3, 8, 6, dtype=torch.uint8), models, labels, output)


def of_clips(names: tuple[str, ...], output: Path) -> None:
    words = [as_written(name) for name in (*names[:1], "x" * 99)]
    models = [Shown(name, heat(2, 2, 3, 3, context=False), words) for name in words]
    draw_heat_maps(torch.zeros(2, 3, 1, 8, 8, dtype=torch.uint8), models, words, output)


def distances(classes: tuple[str, ...], *kernel: int) -> ClassDistances:
    number = len(classes)
    return ClassDistances(
        *(classes, (2,) * number, torch.rand(number, number)),
        *(torch.rand(number), torch.rand(number), torch.rand(number, *kernel) + 1),
    )


def of_distances(names: tuple[str, ...], output: Path, *kernel: int) -> None:
    found = distances(names, *kernel)
    draw_distances([(names[0], found), (names[-1], found)], output)


def of_corpora(names: tuple[str, ...], output: Path) -> None:
    number = 20 * len(names)
    gates = {name: torch.rand(number, 6) for name in ("layers.0.conv", "layers.1.conv")}
    corpus = torch.arange(number) % len(names)
    labels = {"layers.0.conv": as_written(names[0])}
    found = SentenceGates(gates, torch.randint(3, 30, (number,)), corpus, names, labels)
    draw_sentence_gates(found, explained_shares(found), output)


def of_gates(names: tuple[str, ...], output: Path) -> None:
    draw_gates({name: torch.rand(4, 5) for name in names}, output)


def of_scores(names: tuple[str, ...], output: Path) -> None:
    systems = ("transformer", "lightconv", "dynamic", "cgc")
    rows = [
        {"system": name, "beam": beam, "bleu": [40 + i, 40.5 + i, 41.2 - i]}
        for i, name in enumerate(systems)
        for beam in (5, 6)
    ]
    draw_scores({"protocol": "multi30k", "split": "test", "rows": rows}, output)


EVERY = {
    "images": of_images,
    "translation": of_translation,
    "heat maps": of_heat,
    "clips": of_clips,
    "distances": lambda names, output: of_distances(names, output, 3, 3),
    "distances of clips": lambda names, output: of_distances(names, output, 8, 3, 3),
    "corpora": of_corpora,
    "gates": of_gates,
    "scores": of_scores,
}


@pytest.mark.parametrize("kind", EVERY)
def test_every_picture_takes_every_name(kind, tmp_path, drawn):
    names = HOSTILE[4:10] if kind == "heat maps" else HOSTILE
    with warnings.catch_warnings(action="error"):  # of missing glyphs, labels left out
        EVERY[kind](names, tmp_path / "x.png")
    [(_, found, texts)] = drawn
    assert found == []
    if kind not in ("scores", "clips", "gates"):
        for name in (names[0], r"a\b%", "_run"):
            assert any(name in text for text in texts), name
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("suffix", [".pdf", ".svg"])
@pytest.mark.parametrize("kind", ["images", "heat maps", "distances", "corpora"])
def test_vector_pictures_are_the_same_each_time(kind, suffix, tmp_path):
    for name in ("x", "y"):
        torch.manual_seed(0)
        EVERY[kind](("$x_1$", "日本語\udce9"), tmp_path / f"{name}{suffix}")
    content = (tmp_path / f"x{suffix}").read_bytes()
    assert content == (tmp_path / f"y{suffix}").read_bytes()
    if suffix == ".svg":
        texts = [part.text for part in ElementTree.fromstring(content).iter() if part.text]
        assert any("$x_1$" in text for text in texts) and any("日本語" in text for text in texts)
    else:
        assert b"/FontFile2" in content and b"/CreationDate" not in content  # TrueType


def test_a_layout_that_one_pass_leaves_outside(tmp_path, drawn):
    found = distances(("right", "left", "opening", "closing"), 8, 3, 3)
    draw_distances([("m", replace(found, inter=4.8 * found.inter))], tmp_path / "x.png")
    assert drawn[0][1] == []


@pytest.mark.parametrize("number", [2, 9, 20, 21])
def test_kernels_of_few_and_many_classes(number, tmp_path, drawn):
    names = tuple(f"class number {i}" for i in range(number))
    draw_distances([("m", distances(names, 3, 3))], tmp_path / "x.png")
    [(figure, found, texts)] = drawn
    assert found == []
    if number <= 20:
        assert texts.count("class number 1") >= 2  # a row and a column


def test_a_png_has_300_dots_per_inch(tmp_path):
    image = pytest.importorskip("PIL.Image")
    with drawing(tmp_path / "x.png", 3.3, 1) as figure:
        figure.subplots()
    with image.open(tmp_path / "x.png") as found:
        assert found.size == (990, 300) and round(found.info["dpi"][0]) == 300


def test_the_style_is_gone_afterwards(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    with drawing(tmp_path / "x.png", 1, 1):
        assert dict(matplotlib.rcParams) != before
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", ["x.gif", "x", "png", "x.png.txt"])
def test_another_suffix_is_refused(name, tmp_path):
    with pytest.raises(UserError, match=rf"--out is .*{name}, but must end in .png, .pdf or .svg"):
        check_can_draw(tmp_path / name)
    for suffix in (*SUFFIXES, ".PDF"):
        check_can_draw(tmp_path / f"x{suffix}")


def test_a_long_name_is_cut_in_the_middle(tmp_path):
    with drawing(tmp_path / "x.png", 3, 1) as figure:
        for words in ("model-" * 40 + "seed-1", "日本語" * 60, "i" * 500):
            for inches in (0.2, 0.5, 2.0):
                shown = fitted(figure, words, inches)
                start, end = shown.split("…")
                assert words.startswith(start) and words.endswith(end)
                assert text_width(figure, shown) <= inches
                longer = f"{words[: len(start) + 1]}…{words[len(words) - len(end) - 1 :]}"
                assert text_width(figure, longer) > inches
        assert fitted(figure, "short", 1) == "short" and fitted(figure, "", 1) == ""


@pytest.fixture
def no_fonts() -> Iterator[Callable[[], None]]:
    """Forget which fonts have which characters, before and after."""
    from fairseq_cgc.support import fonts

    def forget() -> None:
        fonts._has.cache_clear()
        fonts._family_with.cache_clear()

    forget()
    yield forget
    forget()


def make_font(path: Path, characters: str) -> Path:
    """A TrueType font whose glyphs are squares."""
    builders = pytest.importorskip("fontTools.fontBuilder")
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    names = [".notdef", *(f"u{ord(c):04X}" for c in characters)]
    builder = builders.FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): f"u{ord(c):04X}" for c in characters})
    glyph = pen.glyph()
    builder.setupGlyf(dict.fromkeys(names, glyph))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=0)
    builder.setupNameTable({"familyName": "Squares Sans", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


@pytest.mark.parametrize("is_listed", [True, False])
def test_another_font_is_taken_for_what_the_first_lacks(
    is_listed, tmp_path, monkeypatch, no_fonts, caplog
):
    from matplotlib import font_manager

    manager = font_manager.fontManager
    monkeypatch.setattr(manager, "ttflist", list(manager.ttflist))
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    font = make_font(tmp_path / "squares.ttf", "日本")
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    if is_listed:
        manager.addfont(font)
    else:  # installed after matplotlib has made its list
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(broken), str(font)])
    with drawing(tmp_path / "x.svg", 2, 1) as figure:
        figure.text(0.1, 0.5, "a日本")
    assert caplog.text == ""
    assert "'Squares Sans'" in (tmp_path / "x.svg").read_text(encoding="utf-8")
    manager._findfont_cached.cache_clear()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_characters_that_no_font_has_are_named_in_one_line(
    suffix, tmp_path, monkeypatch, no_fonts, caplog
):
    from matplotlib import font_manager

    ours = [entry for entry in font_manager.fontManager.ttflist if entry.name == "DejaVu Sans"]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", ours)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    with warnings.catch_warnings(action="error"):
        of_images(("日本", "a本\U000e0067"), tmp_path / f"x{suffix}")
    [record] = caplog.records
    assert record.getMessage().endswith(
        "no installed font has 日 (U+65E5), 本 (U+672C): there are boxes instead"
    )
