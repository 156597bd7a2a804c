from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tinyrun import TinyRun, make_pairs, tiny_run

from fairseq_cgc.core.errors import UserError
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.mt.evaluation import Model, evaluate
from fairseq_cgc.mt.generation import run_generation
from fairseq_cgc.mt.trained import detokenize
from fairseq_cgc.mt.translator import Translator

pytestmark = pytest.mark.slow

BEAM_3 = SearchOptions(beam=3, cpu=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    return tiny_run(tmp_path_factory)


@pytest.fixture(scope="module")
def translator(run: TinyRun) -> Translator:
    return Translator(run.save_dir / "checkpoint_best.pt", run.data_dir, BEAM_3)


def test_raw_text_gives_what_fairseq_generate_gives(
    run: TinyRun, translator: Translator, tmp_path: Path
) -> None:
    generation = run_generation(
        run.save_dir / "checkpoint_best.pt",
        run.data_dir,
        tmp_path / "generate.log",
        ("de", "en"),
        options=BEAM_3,
        post_process="subword_nmt",
        progress=False,
    )
    source = run.raw["de"].read_text(encoding="utf-8").splitlines()
    translations = list(translator.translate(source))
    assert translations == list(detokenize(translator.pipeline, generation.decoded))
    assert len(set(translations)) > 10


def test_one_line_for_every_line_in_order(translator: Translator) -> None:
    sentences = [source for source, _ in make_pairs(9, seed=9)]
    lines = [sentences[0], "", *sentences[1:5], "   ", *sentences[5:], ""]
    expected = [next(translator.translate([line]), "") if line.strip() else "" for line in lines]
    assert len(set(expected)) > 4
    for buffer_size in (1, 4, 100):
        assert list(translator.translate(lines, buffer_size=buffer_size)) == expected
    for changes in ({"batch_size": 2}, {"max_tokens": 1}):
        translator_2 = _with_options(translator, **changes)
        assert list(translator_2.translate(lines)) == expected
    assert list(translator.translate([])) == []
    with pytest.raises(UserError, match="--buffer-size must be from 1 to 1000000, but is 0"):
        translator.translate([], buffer_size=0)


def _with_options(translator: Translator, **changes: object) -> Translator:
    """The same model, loaded once, with other options."""
    other = object.__new__(Translator)
    other.__dict__.update(translator.__dict__)
    other.options = dataclasses.replace(translator.options, **changes)
    return other


def test_batches_keep_their_limits(translator: Translator) -> None:
    sources = [torch.zeros(length) for length in (5, 1, 30, 4, 6, 5, 12)]
    small = _with_options(translator, max_tokens=20, batch_size=3)
    # Index 1 is an empty line; index 2 is longer than the limit, and so alone.
    assert list(small._batches(sources)) == [[3, 0, 5], [4], [6], [2]]


def test_memory_does_not_grow_with_the_input(translator: Translator) -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield "Der Hund sieht den Ball."

    translations = translator.translate(endless(), buffer_size=8)
    for _ in range(20):
        next(translations)
    assert taken <= 24


def test_too_long_line_is_cut_with_a_warning(
    translator: Translator, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ["Der Hund sieht den Ball.", "Der Hund sieht den Ball. " * 40]
    with caplog.at_level(logging.WARNING):
        translations = list(translator.translate(lines, first_line=11))
    assert len(translations) == 2 and translations[1]
    (warning,) = [record.getMessage() for record in caplog.records if "line" in record.getMessage()]
    subwords = len(next(translator.pipeline.encode([lines[1]], "de")).split())
    assert warning.startswith(f"line 12 has {subwords} subwords, but the model takes 63")


def test_long_input_may_have_a_long_translation(translator: Translator) -> None:
    translator._search([torch.full((150,), 5)], [0])
    assert translator._generator.max_len_b == 300
    translator._search([torch.tensor([5, 2])], [0])
    assert translator._generator.max_len_b == 200


def test_fewer_bits_for_raw_text_and_for_fairseq_generate_alike(
    run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = run.save_dir / "checkpoint_best.pt"
    int8 = dataclasses.replace(BEAM_3, precision="int8", batch_size=1)
    with pytest.raises(UserError, match="--precision int8 is for lightconv_cgc models"):
        Translator(checkpoint, run.data_dir, int8)
    with pytest.raises(UserError, match="--precision int8 is for lightconv_cgc models"):
        evaluate(Model(checkpoint, []), run.data_dir, options=int8, output=tmp_path / "no")

    # The same weights as a model of ours.
    state = torch.load(checkpoint, weights_only=True)
    state["cfg"]["model"].arch = state["cfg"]["model"]._name = "lightconv_cgc"
    state["cfg"]["model"].encoder_gate_target = "none"
    ours = tmp_path / "ours.pt"
    torch.save(state, ours)
    monkeypatch.setenv("FAIRSEQ_CGC_PRECISION", "bfloat16")  # an option goes before it
    scores = {}
    for options in (dataclasses.replace(int8, precision="float32"), int8):
        translator = Translator(ours, run.data_dir, options)
        quantized = type(translator.model.decoder.layers[0].fc1) is not torch.nn.Linear
        assert quantized == (options is int8)
        assert translator.model.decoder.embed_tokens.weight.dtype == torch.float32
        source = run.raw["de"].read_text(encoding="utf-8").splitlines()
        log = tmp_path / "generate.log"  # not taken for that of another precision
        generation = run_generation(
            ours, run.data_dir, log, ("de", "en"),
            options=options, post_process="subword_nmt", progress=False,
        )  # fmt: skip
        assert list(translator.translate(source)) == list(
            detokenize(translator.pipeline, generation.decoded)
        )
        scores[options.precision] = generation.scores
    assert scores["int8"] != scores["float32"]
    assert scores["int8"] == pytest.approx(scores["float32"], abs=0.3)


def test_data_must_fit_the_model(run: TinyRun, tmp_path: Path) -> None:
    checkpoint = run.save_dir / "checkpoint_best.pt"
    data = tmp_path / "data"
    shutil.copytree(run.data_dir, data)
    with (data / "dict.en.txt").open("a", encoding="utf-8") as stream:
        stream.write("more 1\n")
    with pytest.raises(UserError, match="checkpoint_best.pt does not fit .*data: "):
        Translator(checkpoint, data, BEAM_3)
    (data / "dict.en.txt").unlink()
    with pytest.raises(UserError, match="has no dictionary dict.en.txt"):
        Translator(checkpoint, data, BEAM_3)
    (data / "preparation.json").unlink()
    with pytest.raises(UserError, match="has no preparation.json"):
        Translator(checkpoint, data, BEAM_3)


def test_checkpoint_must_be_one(run: TinyRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing.pt"):
        Translator(tmp_path / "missing.pt", run.data_dir, BEAM_3)
    state = torch.load(run.save_dir / "checkpoint_best.pt", weights_only=True)
    state["cfg"]["model"].arch = state["cfg"]["model"]._name = "somebody_elses_model"
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(UserError, match="unknown architecture 'somebody_elses_model'"):
        Translator(tmp_path / "other.pt", run.data_dir, BEAM_3)


@pytest.mark.parametrize("content", ["no count\n", "a 1\na 2\n", "a b\n", b"\xff\xfe"], ids=repr)
def test_a_damaged_dictionary_is_told(run: TinyRun, tmp_path: Path, content: str | bytes) -> None:
    data = tmp_path / "data"
    shutil.copytree(run.data_dir, data)
    content = content.encode() if isinstance(content, str) else content
    (data / "dict.de.txt").write_bytes(content)
    with pytest.raises(UserError, match="data: its dictionaries cannot be read"):
        Translator(run.save_dir / "checkpoint_best.pt", data, BEAM_3)


def test_a_folder_that_fairseq_takes_for_two(run: TinyRun, tmp_path: Path) -> None:
    data = tmp_path / "da:ta"
    shutil.copytree(run.data_dir, data)
    with pytest.raises(UserError, match="da:ta: fairseq takes ':' for the end of a path"):
        Translator(run.save_dir / "checkpoint_best.pt", data, BEAM_3)
