"""The protocols are files that fairseq-hydra-train reads too; here they become options."""

from __future__ import annotations

import pytest
from fairseq import options

import fairseq_cgc.models  # noqa: F401  (registers the architectures)
from fairseq_cgc.mt.fairseq_commands import as_words, merge_options
from fairseq_cgc.mt.reproduce.protocol import as_option, load_protocol


def test_table_6_is_trained_as_the_paper_says() -> None:
    protocol = load_protocol("iwslt14_de_en")
    assert merge_options(protocol.train_options) == {
        "--log-interval": ["100"],
        "--task": ["translation"],
        "--source-lang": ["de"],
        "--target-lang": ["en"],
        "--dropout": ["0.3"],
        "--attention-dropout": ["0.1"],
        "--max-tokens": ["4000"],
        "--criterion": ["label_smoothed_cross_entropy"],
        "--label-smoothing": ["0.1"],
        "--optimizer": ["adam"],
        "--adam-betas": ["(0.9, 0.98)"],
        "--weight-decay": ["0.0001"],
        "--lr-scheduler": ["inverse_sqrt"],
        "--warmup-updates": ["4000"],
        "--warmup-init-lr": ["1e-07"],
        "--lr": ["0.0005"],
        "--clip-norm": ["0.0"],
        "--max-update": ["50000"],
        "--keep-last-epochs": ["10"],
    }
    assert (protocol.architecture, protocol.last_epochs) == ("lightconv_cgc_iwslt_de_en", 10)
    assert (protocol.beam, protocol.lenpen) == (6, 1.0)


def test_multi30k_is_trained_as_published() -> None:
    protocol = load_protocol("multi30k")
    settings = merge_options(protocol.train_options)
    assert settings["--share-all-embeddings"] == []
    assert [settings[f"--{name}"] for name in ("max-tokens", "update-freq")] == [["4096"], ["2"]]
    assert [settings[f"--{name}"] for name in ("lr", "clip-norm")] == [["0.005"], ["25.0"]]
    assert [settings[f"--{name}"] for name in ("patience", "max-update")] == [["10"], ["8000"]]
    assert settings["--warmup-updates"] == ["2000"]
    assert "--weight-decay" not in settings
    assert (protocol.source_lang, protocol.target_lang) == ("en", "de")
    assert (protocol.beam, protocol.lenpen, protocol.last_epochs) == (5, 1.0, 10)


@pytest.mark.parametrize("name", ["iwslt14_de_en", "multi30k"])
def test_fairseq_reads_the_options_with_the_types_of_the_file(name: str) -> None:
    protocol = load_protocol(name)
    parser = options.get_training_parser()
    arguments = ["DATA", "--arch", protocol.architecture, *protocol.train_options]
    args = options.parse_args_and_arch(parser, input_args=arguments)
    assert args.adam_betas == "(0.9, 0.98)"
    assert getattr(args, "weight_dropout", 0.0) == (0.1 if name == "iwslt14_de_en" else 0.0)
    assert args.update_freq == ([1] if name == "iwslt14_de_en" else [2])
    assert args.lr == ([0.0005] if name == "iwslt14_de_en" else [0.005])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, ["--a-b"]),
        ([3, 7], ["--a-b", "3,7"]),
        ([0.5], ["--a-b", "0.5"]),
        (1e-7, ["--a-b", "1e-07"]),
        ("adam", ["--a-b", "adam"]),
    ],
)
def test_values_become_words(value: object, words: list[str]) -> None:
    assert as_option("a_b", value) == words


def test_later_options_replace_earlier_ones() -> None:
    words = ["--lr", "1", "--cpu", "--betas", "(0.9, 0.98)", "--lr=2", "--cpu"]
    merged = merge_options(words)
    assert merged == {"--lr": ["2"], "--cpu": [], "--betas": ["(0.9, 0.98)"]}
    assert as_words(merged) == ["--lr", "2", "--cpu", "--betas", "(0.9, 0.98)"]
