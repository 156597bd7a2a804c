from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import toy
from tinyrun import TinyRun

from fairseq_cgc.inference.beams import Hypothesis
from fairseq_cgc.inference.binarised import language_pair_of, read_sentences, split_files
from fairseq_cgc.inference.dictionary import Dictionary
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.inference.trained_model import language_pair
from fairseq_cgc.inference.translator import Translator
from fairseq_cgc.mt.evaluate.translated_split import TranslatedSplit, translate_split
from fairseq_cgc.support.errors import UserError

BEAM_3 = SearchOptions(beam=3, max_len_a=0.0, cpu=True)


@pytest.fixture(scope="module")
def translator(run: TinyRun) -> Translator:
    return Translator(run.save_dir / "checkpoint_best.pt", run.data_dir, BEAM_3)


def translated(
    translator: Translator, run: TinyRun, output: Path, **how: object
) -> TranslatedSplit:
    how = {"inputs": [run.save_dir / "checkpoint_best.pt"], "subwords": "subword_nmt", **how}
    return translate_split(translator, run.data_dir, "test", output, progress=False, **how)


def test_splits_are_found_in_both_directions(tmp_path: Path) -> None:
    for name in ("test.de-en.de.bin", "test.de-en.en.bin", "valid.de-en.de.bin"):
        (tmp_path / name).touch()
    forward = [path.name for path in split_files(tmp_path, "test", ("de", "en"))]
    backward = [path.name for path in split_files(tmp_path, "test", ("en", "de"))]
    assert forward == ["test.de-en.de.bin", "test.de-en.en.bin"]
    assert backward == forward[::-1]
    with pytest.raises(UserError, match="no split 'train' for de to en; it has test, valid"):
        split_files(tmp_path, "train", ("de", "en"))


def test_language_pair_of_the_checkpoint_counts_first(tmp_path: Path) -> None:
    (tmp_path / "train.de-en.de.bin").touch()
    named = {"args": argparse.Namespace(source_lang="en", target_lang="de")}
    assert language_pair(named, tmp_path) == ("en", "de")
    unnamed = {"cfg": {"task": {"source_lang": None, "target_lang": None}}}
    assert language_pair(unnamed, tmp_path) == ("de", "en")


def test_language_pair_of_no_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no binarised data"):
        language_pair({}, tmp_path)
    with pytest.raises(UserError, match="--data .*missing is not a folder"):
        language_pair({}, tmp_path / "missing")


@pytest.mark.slow
def test_binarised_sentences_are_fairseqs(run: TinyRun, tmp_path: Path) -> None:
    from fairseq.data import indexed_dataset

    binary = split_files(run.data_dir, "test", ("de", "en"))[0]
    theirs = indexed_dataset.make_dataset(str(binary.with_suffix("")), "mmap")
    ours = read_sentences(binary)
    assert len(ours) == len(theirs) == 37
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert language_pair_of(run.data_dir) == ("de", "en")
    index = binary.with_suffix(".idx")
    for name, content, message in (
        (".bin", binary.read_bytes()[:-1], "damaged"),
        (".idx", index.read_bytes()[:-1], "damaged"),
        (".idx", b"TNTIDX" + index.read_bytes(), "not an index of .* --dataset-impl mmap"),
    ):
        for suffix, whole in ((".bin", binary), (".idx", index)):
            (tmp_path / f"x{suffix}").write_bytes(whole.read_bytes())
        (tmp_path / f"x{name}").write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_sentences(tmp_path / "x.bin")
    with pytest.raises(UserError, match="cannot be read"):
        read_sentences(tmp_path / "missing.bin")


@pytest.mark.slow
def test_a_split_is_translated_as_fairseq_generate_does(
    run: TinyRun, translator: Translator, tmp_path: Path
) -> None:
    result = toy.succeed(
        toy.fairseq(
            "generate", run.data_dir, "--path", run.save_dir / "checkpoint_best.pt",
            "--beam", "3", "--post-process", "subword_nmt", "--cpu",
        )
    )  # fmt: skip
    found: dict[str, dict[int, list[str]]] = {"S": {}, "T": {}, "H": {}}
    for line in result.stdout.split("\n"):
        kind, _, rest = line.partition("-")
        if kind in found and rest[:1].isdigit():
            number, *values = rest.split("\t")
            found[kind][int(number)] = values
    generation = translated(translator, run, tmp_path / "out.jsonl")
    assert generation.sources == [found["S"][i][0] for i in range(37)]
    assert generation.references == [found["T"][i][0] for i in range(37)]
    assert "<<unk>>" in generation.references[-1]
    assert generation.hypotheses == [found["H"][i][1] for i in range(37)]
    want = [float(found["H"][i][0]) * math.log(2) for i in range(37)]
    assert generation.scores == pytest.approx(want, abs=1e-5)
    assert generation.sentences_per_second is not None


@pytest.mark.slow
def test_what_is_there_is_not_translated_again(
    run: TinyRun, translator: Translator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "new" / "out.jsonl"
    generation = translated(translator, run, output)
    assert [path.name for path in output.parent.iterdir()] == ["out.jsonl"]
    header, *lines = output.read_text(encoding="utf-8").splitlines()
    assert json.loads(header)["options"]["beam"] == 3
    assert len(lines) == 37 and set(json.loads(lines[0])) == {
        "sentence", "hypothesis", "score", "seconds",
    }  # fmt: skip

    searched: list[int] = []
    search = translator.search

    def counted(sources: list[torch.Tensor], *more: object) -> object:
        searched.append(len(sources))
        return search(sources, *more)

    monkeypatch.setattr(translator, "search", counted)
    assert translated(translator, run, output) == generation
    assert searched == []
    # A killed run leaves whole lines and half of one.
    output.rename(output.with_name(".out.jsonl.partial"))
    half = "\n".join([header, *lines[:20], lines[20][:9]])
    output.with_name(".out.jsonl.partial").write_text(half, encoding="utf-8")
    again = translated(translator, run, output)
    assert searched == [17] and again.hypotheses == generation.hypotheses
    # Other settings, other translations.
    monkeypatch.setattr(translator, "options", dataclasses.replace(BEAM_3, batch_size=5))
    translated(translator, run, output)
    assert searched == [17, 37]


class OnGpu:
    """Translates every sentence into the same, as if on one of several GPUs."""

    languages = ("de", "en")
    options = BEAM_3
    source = target = Dictionary("abc")

    def __init__(self, number: int) -> None:
        self.device = torch.device("cuda", number)
        self.searched = 0

    def cut(self, tokens: torch.Tensor, name: str) -> torch.Tensor:
        return tokens

    def search(self, sources: list[torch.Tensor]) -> Iterator[tuple[int, list[Hypothesis]]]:
        for place, _ in enumerate(sources):
            self.searched += 1
            yield place, [Hypothesis([4, 2], -1.0, [-1.0, -1.0], None)]


def test_what_another_gpu_has_translated_is_not_translated_again(tmp_path: Path) -> None:
    from fairseq.data import indexed_dataset

    prefix = str(tmp_path / "test.de-en.de")
    builder = indexed_dataset.make_builder(f"{prefix}.bin", "mmap", vocab_size=7)
    builder.add_item(torch.tensor([5, 6, 2]))
    builder.finalize(f"{prefix}.idx")
    first, second = translators = [OnGpu(0), OnGpu(1)]
    texts = [
        translate_split(
            one, tmp_path, "test", tmp_path / "out.jsonl", inputs=[], subwords=None, progress=False
        )
        for one in translators
    ]
    assert texts[0] == texts[1]
    assert (first.searched, second.searched) == (1, 0)


@pytest.mark.slow
def test_output_that_cannot_be_written_is_told(
    run: TinyRun, translator: Translator, tmp_path: Path
) -> None:
    (tmp_path / ".out.jsonl.partial").mkdir()
    with pytest.raises(UserError, match="out.jsonl.partial: cannot be written"):
        translated(translator, run, tmp_path / "out.jsonl")
