from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tinyrun import TinyRun, make_pairs
from torch import Tensor

from fairseq_cgc.inference.beams import Hypothesis
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.inference.text.pipeline import TextPipeline, detokenize, find_pipeline
from fairseq_cgc.inference.text.subwords import MODEL_FILES, Subwords, learn
from fairseq_cgc.inference.trained_model import TrainedModel, load_dictionary
from fairseq_cgc.inference.translator import Translator
from fairseq_cgc.mt.evaluate.translated_split import translate_split
from fairseq_cgc.support.checkpoints import safe_load
from fairseq_cgc.support.errors import UserError

pytestmark = pytest.mark.slow

BEAM_3 = SearchOptions(beam=3, cpu=True)


@pytest.fixture(scope="module")
def translator(run: TinyRun) -> Translator:
    return Translator(run.save_dir / "checkpoint_best.pt", run.data_dir, BEAM_3)


def test_raw_text_gives_what_the_binarised_split_gives(
    run: TinyRun, translator: Translator, tmp_path: Path
) -> None:
    generation = translate_split(
        translator, run.data_dir, "test", tmp_path / "out.jsonl",
        inputs=[], subwords="subword_nmt", progress=False,
    )  # fmt: skip
    source = run.raw["de"].read_text(encoding="utf-8").splitlines()
    translations = list(translator.translate(source))
    assert translations == list(detokenize(translator.pipeline, generation.hypotheses))
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
    assert list(small.batches(sources)) == [[3, 0, 5], [4], [6], [2]]


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
    subwords = len(translator.pipeline.encoder("de")(lines[1]).split())
    assert warning.startswith(f"line 12 has {subwords} subwords, but the model takes 63")


def test_fewer_bits_change_scores_a_little(run: TinyRun) -> None:
    scores = {}
    for precision in ("float32", "int8", "bfloat16"):
        options = dataclasses.replace(BEAM_3, precision=precision, nbest=2)
        translator = Translator(run.save_dir / "checkpoint_best.pt", run.data_dir, options)
        (found,) = translator.nbest(["Der Hund sieht den Ball."])
        assert len(found) == 2 and found[0].score >= found[1].score
        scores[precision] = found[0].score
        assert found[0].source[-1] == found[0].subwords[-1] == "</s>"
        assert len(found[0].subword_scores) == len(found[0].subwords)
        assert sum(found[0].subword_scores) / len(found[0].subwords) == pytest.approx(
            found[0].score, abs=1e-4
        )
    assert len(set(scores.values())) == 3
    assert list(scores.values()) == pytest.approx([scores["float32"]] * 3, abs=0.1)


def test_attention_on_request(run: TinyRun) -> None:
    checkpoint = run.save_dir / "checkpoint_best.pt"
    translator = Translator(checkpoint, run.data_dir, BEAM_3, keep_attention=True)
    for (found,) in translator.nbest(["Der Hund sieht den Ball.", "Der Ball."]):
        assert found.attention is not None
        assert found.attention.shape == (len(found.subwords), len(found.source))
        torch.testing.assert_close(found.attention.sum(1), torch.ones(len(found.subwords)))


def test_several_models_translate_together(run: TinyRun) -> None:
    checkpoint = run.save_dir / "checkpoint_best.pt"
    lines = run.raw["de"].read_text(encoding="utf-8").splitlines()
    alone = Translator(checkpoint, run.data_dir, BEAM_3)
    twice = Translator([checkpoint, checkpoint], run.data_dir, BEAM_3)
    assert list(twice.translate(lines)) == list(alone.translate(lines))


def test_models_that_do_not_translate_together_are_told(run: TinyRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the list of checkpoints is empty"):
        Translator([], run.data_dir)
    checkpoint = run.save_dir / "checkpoint_best.pt"
    exported = tmp_path / "exported"
    exported.mkdir()
    (exported / "model.json").touch()
    with pytest.raises(UserError, match="exported is an exported model: an ensemble is of checkpo"):
        Translator([checkpoint, exported], run.data_dir)
    state = safe_load(checkpoint)
    task = state["cfg"]["task"]
    task["source_lang"], task["target_lang"] = task["target_lang"], task["source_lang"]
    torch.save(state, tmp_path / "back.pt")
    with pytest.raises(UserError, match="back.pt translates en to de, but .*best.pt de to en"):
        Translator([checkpoint, tmp_path / "back.pt"], run.data_dir, BEAM_3)


def test_a_model_whose_training_diverged_is_told(run: TinyRun, tmp_path: Path) -> None:
    state = safe_load(run.save_dir / "checkpoint_best.pt")
    state["model"]["encoder.layers.0.fc1.bias"][0] = float("nan")
    torch.save(state, tmp_path / "nan.pt")
    translator = Translator(tmp_path / "nan.pt", run.data_dir, BEAM_3)
    assert list(translator.translate([""])) == [""]
    with pytest.raises(UserError, match="source tokens has no translation: either the model's w"):
        list(translator.translate(["Der Hund sieht den Ball."]))


def test_one_string_is_not_taken_for_lines(translator: Translator) -> None:
    with pytest.raises(UserError, match="lines is one string, but must be a list"):
        translator.translate("Der Hund sieht den Ball.")


def test_data_must_fit_the_model(run: TinyRun, tmp_path: Path) -> None:
    checkpoint = run.save_dir / "checkpoint_best.pt"
    data = tmp_path / "data"
    shutil.copytree(run.data_dir, data)
    with (data / "dict.en.txt").open("a", encoding="utf-8") as stream:
        stream.write("more 1\n")
    with pytest.raises(UserError, match="decoder dictionary has .* types, but the data"):
        Translator(checkpoint, data, BEAM_3)
    (data / "dict.en.txt").unlink()
    with pytest.raises(UserError, match="has no dictionary dict.en.txt"):
        Translator(checkpoint, data, BEAM_3)
    shutil.copy(run.data_dir / "dict.en.txt", data)
    (data / "preparation.json").unlink()
    with pytest.raises(UserError, match=f"{data} has no preparation.json"):
        Translator(checkpoint, data, BEAM_3).translate(["x"])
    with pytest.raises(UserError, match="is a checkpoint: give the data that it was trained on"):
        Translator(checkpoint)


def test_a_model_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none: there is no such checkpoint or exported folder"):
        Translator(tmp_path / "none")


class _Repeats(Translator):
    """Translates every sentence into itself, without a model."""

    def _load(self, paths: Sequence[Path], data_dir: Path | None) -> TrainedModel:
        assert data_dir is not None
        dictionary = load_dictionary(data_dir, "de")
        pipeline = find_pipeline(data_dir, ("de", "en"))
        models: list[Any] = [None]
        return TrainedModel(models, ("de", "en"), dictionary, dictionary, pipeline, 100)

    def _make_search(self, trained: TrainedModel, keep_attention: bool) -> Any:
        return None

    def search(self, sources: Sequence[Tensor], prefixes: Any = None) -> Iterator[Any]:
        for number, source in enumerate(sources):
            yield number, [Hypothesis(source.tolist(), 0.0, [], None)]


@pytest.mark.parametrize("kind", ["subword_nmt", "sentencepiece"])
def test_the_subword_model_is_read_once(tmp_path: Path, kind: str) -> None:
    lines = ["der mann sieht den ball", "den mann sieht der ball"]
    text, model = tmp_path / "text", tmp_path / MODEL_FILES[kind]
    text.write_text("\n".join(lines * 3) + "\n", encoding="utf-8")
    learn(kind, [text], 24, model)
    pieces = sorted(
        {piece for line in lines for piece in Subwords.load(model).encode(line).split()}
    )
    (tmp_path / "dict.de.txt").write_text("".join(f"{piece} 1\n" for piece in pieces), "utf-8")
    TextPipeline(
        "de", "en", tokenizer="none", normalize=False, lowercase=True, subwords=kind,
        subword_model=model.name, joined_dictionary=True,
    ).save(tmp_path)  # fmt: skip
    translator = _Repeats(tmp_path / "model", tmp_path, BEAM_3)
    assert list(translator.translate(lines)) == lines
    model.unlink()
    assert list(translator.translate(lines)) == lines


def test_checkpoint_must_be_one(run: TinyRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing.pt"):
        Translator(tmp_path / "missing.pt", run.data_dir, BEAM_3)
    state = torch.load(run.save_dir / "checkpoint_best.pt", weights_only=True)
    state["cfg"]["model"].arch = state["cfg"]["model"]._name = "somebody_elses_model"
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(UserError, match="architecture 'somebody_elses_model', but must be"):
        Translator(tmp_path / "other.pt", run.data_dir, BEAM_3)


@pytest.mark.parametrize("content", ["nocount\n", "a 1\na 2\n", "a b\n", b"\xff\xfe"], ids=repr)
def test_a_damaged_dictionary_is_told(run: TinyRun, tmp_path: Path, content: str | bytes) -> None:
    data = tmp_path / "data"
    shutil.copytree(run.data_dir, data)
    content = content.encode() if isinstance(content, str) else content
    (data / "dict.de.txt").write_bytes(content)
    with pytest.raises(UserError, match="dict.de.txt: (line|not UTF-8)"):
        Translator(run.save_dir / "checkpoint_best.pt", data, BEAM_3)
