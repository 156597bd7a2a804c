from __future__ import annotations

from pathlib import Path

import pytest

from fairseq_cgc.inference.text.pipeline import (
    TextPipeline,
    detokenize,
    find_pipeline,
    subwords_in,
)
from fairseq_cgc.support.errors import UserError


def make_pipeline(folder: Path, tokenizer: str = "moses") -> TextPipeline:
    pipeline = TextPipeline(
        source_lang="de",
        target_lang="en",
        tokenizer=tokenizer,
        normalize=True,
        lowercase=True,
        subwords="sentencepiece",
        subword_model="sentencepiece.bpe.model",
        joined_dictionary=True,
    )
    pipeline.save(folder)
    return pipeline


def test_pipeline_turns_to_the_models_direction(tmp_path: Path) -> None:
    assert find_pipeline(tmp_path, ("de", "en")) is None
    make_pipeline(tmp_path)
    for pair in (("de", "en"), ("en", "de")):
        pipeline = find_pipeline(tmp_path, pair)
        assert pipeline is not None
        assert (pipeline.source_lang, pipeline.target_lang) == pair
        assert pipeline.file("x") == tmp_path / "x"
    with pytest.raises(UserError, match="translates de to fr, but .* holds de and en"):
        find_pipeline(tmp_path, ("de", "fr"))


def test_detokenize_takes_joined_subwords(tmp_path: Path) -> None:
    lines = ["he said : &quot; hello , world ! &quot;", ""]
    moses = detokenize(make_pipeline(tmp_path), lines)
    assert list(moses) == ['he said: "hello, world!"', ""]
    assert list(detokenize(make_pipeline(tmp_path, "none"), lines)) == lines
    assert list(detokenize(None, lines)) == lines


@pytest.mark.parametrize(
    "entries, kind",
    [
        (["the", "ca@@", "t", "\u2581"], "subword_nmt"),
        (["the", "cat"], "subword_nmt"),
        (["\u2581the", "\u2581ca", "t", "@@"], "sentencepiece"),
    ],
)
def test_subwords_by_the_dictionary(tmp_path: Path, entries: list[str], kind: str) -> None:
    text = "".join(f"{entry} 7\n" for entry in entries)
    (tmp_path / "dict.en.txt").write_text(text, encoding="utf-8")
    assert subwords_in(tmp_path, "en") == kind
