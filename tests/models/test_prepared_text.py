"""Raw text and languages of fairseq's commands: ``--tokenizer prepared``, and what is not named."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import pytest
import torch
from fairseq import options
from fairseq.data import encoders
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

import fairseq_cgc.models  # noqa: F401  (registers the tokenizer)
from fairseq_cgc.core import UserError
from fairseq_cgc.inference.text.pipeline import TextPipeline
from fairseq_cgc.inference.text.subwords import learn

RAW = ["Der Mann  sieht „den Ball“ , z. B. rot-weiß &amp; groß!", "", "DIE FRAU"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder that looks like prepared and binarised data, German to English."""
    (tmp_path / "text").write_text("der mann sieht den ball der frau\n" * 3, encoding="utf-8")
    learn("subword_nmt", [tmp_path / "text"], 8, tmp_path / "code")
    (tmp_path / "train.de-en.de.bin").touch()
    TextPipeline(
        source_lang="de",
        target_lang="en",
        tokenizer="moses",
        normalize=True,
        lowercase=True,
        subwords="subword_nmt",
        subword_model="code",
        joined_dictionary=True,
    ).save(tmp_path)
    return tmp_path


def parse(data: Path, *arguments: str) -> argparse.Namespace:
    parser = options.get_interactive_generation_parser()
    return options.parse_args_and_arch(parser, [str(data), *arguments])


def model(path: Path, source: str | None, target: str | None, *, flat: bool = False) -> str:
    """A checkpoint that knows its languages, as today's fairseq writes it or as before 0.10."""
    languages = {"source_lang": source, "target_lang": target}
    state = {"args": argparse.Namespace(**languages)} if flat else {"cfg": {"task": languages}}
    torch.save({**state, "model": {"w": torch.zeros(3)}}, path)
    return str(path)


def tokenizer(data: Path, *arguments: str):
    args = parse(data, "--tokenizer", "prepared", *arguments)
    return encoders.build_tokenizer(convert_namespace_to_omegaconf(args).tokenizer)


@pytest.mark.parametrize("lang", ["de", "en"])
def test_raw_text_becomes_what_the_data_was_made_of(lang, data):
    other = "en" if lang == "de" else "de"
    prepared, pipeline = tokenizer(data, "-s", lang, "-t", other), TextPipeline.load(data)
    encoded = list(map(prepared.encode, RAW))
    assert encoded == list(map(pipeline.encoder(lang), RAW))
    assert encoded[2] == encoded[2].lower() != ""
    subwords = "s@@ ie , z. B. &quot; rot-weiß &quot;"
    assert prepared.decode(subwords).startswith("sie, z. B. ")


def test_languages_are_the_datas_where_nothing_else_says(data):
    args = parse(data)
    assert (args.source_lang, args.target_lang) == ("de", "en")
    args = parse(data, "-s", "en")
    assert (args.source_lang, args.target_lang) == ("en", "de")


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("arguments", [[], ["--tokenizer", "moses"], ["-t", "de"]])
def test_languages_are_the_models(arguments, flat, data):
    path = model(data / "model.pt", "en", "de", flat=flat)
    args = parse(data, "--path", f"{path}:{data / 'other.pt'}", *arguments)
    assert (args.source_lang, args.target_lang) == ("en", "de")
    cfg = convert_namespace_to_omegaconf(args)
    if "moses" in arguments:
        assert (cfg.tokenizer.source_lang, cfg.tokenizer.target_lang) == ("en", "de")


def test_models_of_unnamed_languages_have_the_datas(data):
    args = parse(data, "--path", model(data / "model.pt", None, None))
    assert (args.source_lang, args.target_lang) == ("de", "en")


def test_other_languages_are_told(data):
    with pytest.raises(UserError, match=r"--source-lang is fr, but .* has de to en"):
        parse(data, "-s", "fr")
    path = model(data / "model.pt", "en", "de")
    with pytest.raises(UserError, match=r"--target-lang is en, but .*model\.pt has en to de"):
        parse(data, "--path", path, "-t", "en")


def test_unknown_languages_are_told(data):
    (data / "train.de-en.de.bin").unlink()
    with pytest.raises(UserError, match="give --source-lang and --target-lang"):
        parse(data)
    with pytest.raises(UserError, match="give --source-lang and --target-lang"):
        parse(data / "none", "--tokenizer", "moses")


def test_folders_without_a_description_are_told(data):
    (data / "preparation.json").unlink()
    with pytest.raises(UserError, match=r"has no preparation\.json"):
        tokenizer(data)


@pytest.mark.parametrize(
    ("arguments", "warnings"),
    [([], 1), (["--tokenizer", "moses"], 1), (["--tokenizer", "prepared"], 0)],
)
def test_raw_text_that_would_be_mistranslated_is_told(arguments, warnings, data, caplog):
    with caplog.at_level(logging.WARNING):
        parse(data, *arguments)
    assert caplog.text.count("for raw text, give --tokenizer prepared") == warnings
