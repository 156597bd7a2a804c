"""Mistakes at fairseq's commands: one line that names the option, run in this process."""

from __future__ import annotations

import argparse
import importlib
import logging
import shutil
import sys
from pathlib import Path

import pytest
import toy
from fairseq.criterions import CRITERION_REGISTRY
from fairseq.models import MODEL_REGISTRY
from omegaconf import OmegaConf

from fairseq_cgc.compat import starting
from fairseq_cgc.compat.commands import show_user_errors_in_one_line
from fairseq_cgc.compat.mistakes import explain
from fairseq_cgc.support.errors import UserError

pytestmark = pytest.mark.xdist_group("commands")

ADAPTIVE = ["--criterion", "adaptive_loss", "--adaptive-softmax-cutoff"]
LEGACY = ["--ddp-backend", "legacy_ddp"]
BLEU = ["--eval-bleu", "--eval-bleu-detok", "space"]


@pytest.fixture
def fail(toy_data, tmp_path, monkeypatch, capsys):
    """Runs a command of fairseq that must end in one line, and gives the line."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr("hydra._internal.utils.CompactHydraException", ())
    monkeypatch.chdir(toy.ROOT)
    logging.disable(logging.CRITICAL)

    def run(command: str, *arguments: str, data: Path = toy_data) -> str:
        argv = [f"fairseq-{command}", str(data), *map(str, arguments), "--cpu"]
        monkeypatch.setattr(sys, "argv", [*argv, "--user-dir", "fairseq_cgc"])
        show_user_errors_in_one_line()
        capsys.readouterr()
        try:
            importlib.import_module(f"fairseq_cli.{command}").cli_main()
        except Exception:
            sys.excepthook(*sys.exc_info())
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        return line

    yield run
    logging.disable(logging.NOTSET)


@pytest.fixture
def fail_to_train(fail, tmp_path):
    def run(*arguments: str, arch=("--arch", "lightconv_cgc_tiny"), leave_out="", **options) -> str:
        given = {
            "--optimizer": "adam", "--lr": "0.01", "--max-tokens": "400", "--num-workers": "0",
            "--encoder-embed-dim": "8", "--encoder-ffn-embed-dim": "8", "--max-update": "2",
            "--encoder-layers": "1", "--encoder-kernel-size-list": "[3]", "--decoder-layers": "1",
            "--decoder-kernel-size-list": "[3]", "--decoder-ffn-embed-dim": "8",
            "--save-dir": str(tmp_path / "save"),
        }  # fmt: skip
        given.pop(leave_out, None)
        base = [part for option in given.items() for part in option]
        return fail("train", *arch, *base, *arguments, **options)

    return run


@pytest.mark.parametrize("option", ["--optimizer", "--max-tokens"])
def test_a_needed_option_is_missing(option, fail_to_train):
    assert option in fail_to_train(leave_out=option)


def test_a_missing_architecture_is_named(fail):
    assert "--arch is missing" in fail("train")


def test_no_language_pair(fail_to_train, tmp_path):
    line = fail_to_train(data=tmp_path)
    assert "give --source-lang and --target-lang" in line and str(tmp_path) in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-tokens", "5"], "--max-tokens (or --max-tokens-valid) is 5, but a sentence is"),
        (["--max-tokens", "1"], "no sentence is left: all are longer than --max-tokens, 1"),
        (["--max-tokens", "0"], "--max-tokens is 0, but must be at least 1"),
        (["--max-source-positions", "5"], "--max-target-positions are (5, 1024); shorten it"),
        (["--required-batch-size-multiple", "0"], "--required-batch-size-multiple is 0"),
        (["--num-workers", "-1"], "--num-workers is -1, but must be at least 0"),
        (["--log-interval", "0"], "--log-interval is 0"),
        (["--update-freq", "2,0"], "--update-freq is 0, but must be at least 1"),
        (["--adam-betas", "0.9"], "--adam-betas is 0.9, but must be two numbers"),
        (["--adam-betas", "(0.9, 1.5)"], "--adam-betas is (0.9, 1.5)"),
        (["--fp16", "--bf16"], "--fp16 and --bf16 exclude each other"),
        (["--criterion", "adaptive_loss", *LEGACY], "--adaptive-softmax-cutoff is missing"),
        ([*ADAPTIVE, "5,1000", *LEGACY], "--adaptive-softmax-cutoff is [5, 1000], but must"),
        ([*ADAPTIVE, "10,5", *LEGACY], "--adaptive-softmax-cutoff is [10, 5], but must rise"),
        ([*ADAPTIVE, "5,10"], "--ddp-backend is pytorch_ddp, but --criterion adaptive_loss needs"),
        (
            ["--criterion", "label_smoothed_cross_entropy", *ADAPTIVE[2:], "5,10"],
            "--adaptive-softmax-cutoff is [5, 10], but --criterion is label_smoothed_cross",
        ),
        (["--lr-scheduler", "inverse_sqrt", "--warmup-updates", "0"], "--warmup-updates is 0"),
        (["--lr-scheduler", "polynomial_decay"], "--total-num-update is missing"),
        (["--lr-scheduler", "cosine", "--warmup-updates", "2"], "--lr-period-updates"),
        (["--lr-scheduler", "tri_stage"], "--lr-scheduler tri_stage: please specify steps"),
        ([*BLEU, "--eval-bleu-args", "{beam: 2}"], "--eval-bleu-args is {beam: 2}, but must be"),
        ([*BLEU, "--eval-bleu-args", '{"beam": 0}'], "--beam is 0, but must be at least 1"),
        ([*BLEU, "--eval-bleu-args", '{"bean": 2}'], "Key 'bean' not in"),
        ([*BLEU[:2], "mosez"], "--eval-bleu-detok is mosez, but must be one of"),
        (["--best-checkpoint-metric", "bleu"], "--best-checkpoint-metric is bleu, but a valid"),
        (["--valid-subset", "dev"], "Dataset not found: dev"),
        (["--optimizer-overrides", "{x"], "--optimizer-overrides must be a Python dictionary"),
    ],
)  # fmt: skip
def test_a_wrong_option_of_a_training(arguments, message, fail_to_train):
    assert message in fail_to_train(*arguments)


def test_bleu_cannot_be_detokenised_as_the_data_was_prepared():
    task = argparse.Namespace(eval_bleu=True, eval_bleu_detok="prepared")
    message = "--eval-bleu-detok is prepared, but must be one of moses, nltk, space$"
    with pytest.raises(UserError, match=message):
        starting._check_bleu(task)


@pytest.mark.parametrize("name", ["ctc", "nat_loss", "sentence_prediction", "masked_lm", "model"])
def test_a_criterion_of_other_models(name, fail_to_train):
    line = fail_to_train("--criterion", name)
    assert f"--criterion is {name}, but for --task translation and --arch lightconv_cgc" in line
    assert "must be one of cross_entropy, label_smoothed_cross_entropy, " in line


def test_only_fairseqs_own_criterions_and_models_are_judged(monkeypatch):
    class Mine:
        pass

    def check(criterion, model, task="translation"):
        names = {"criterion": criterion, "model": model, "task": task}
        starting._check_criterion(OmegaConf.create({k: {"_name": v} for k, v in names.items()}))

    monkeypatch.setitem(CRITERION_REGISTRY, "mine", Mine)
    monkeypatch.setitem(MODEL_REGISTRY, "my_model", Mine)
    check("mine", "lightconv_cgc")
    check("ctc", "my_model")
    check("ctc", "unknown")
    check("nat_loss", "nonautoregressive_transformer", "translation_lev")
    check("label_smoothed_cross_entropy_with_alignment", "transformer_align")
    with pytest.raises(UserError, match="--criterion is ctc, but .* --arch transformer it must"):
        check("ctc", "transformer")


@pytest.mark.parametrize(
    "reset", ["--reset-optimizer", "--reset-lr-scheduler", "--reset-meters", "--reset-dataloader"]
)
def test_fine_tuning_resets_everything_itself(reset, fail_to_train, tmp_path):
    (tmp_path / "model.pt").touch()
    line = fail_to_train("--finetune-from-model", tmp_path / "model.pt", reset)
    assert f"leave out {reset}" in line


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_embeddings_of_another_width(side, fail_to_train, tmp_path):
    path = tmp_path / "embeddings.txt"
    path.write_text("2 3\nw1 0.1 0.2 0.3\nw2 0.1 0.2 0.3\n")
    line = fail_to_train(f"--{side}-embed-path", path)
    assert f"--{side}-embed-path is {path}, which has 3 numbers" in line
    assert f"--{side}-embed-dim is 8" in line


def test_embeddings_of_the_decoders_input(tmp_path):
    path = tmp_path / "embeddings.txt"
    path.write_text("2 3\nw1 0.1 0.2 0.3\nw2 0.1 0.2 0.3\n")

    def check(arch, width):
        sizes = {"encoder_embed_dim": 8, "decoder_embed_dim": 8, "decoder_input_dim": width}
        model = {"_name": arch, "decoder_embed_path": str(path), **sizes}
        starting._check_embeddings("decoder", OmegaConf.create({"model": model}))

    check("lightconv_cgc", 3)
    with pytest.raises(UserError, match="has 3 numbers .* but --decoder-input-dim is 4"):
        check("lightconv_cgc", 4)
    for arch, width in (("lightconv_cgc_tiny", None), ("transformer", 3)):
        with pytest.raises(UserError, match="has 3 numbers .* but --decoder-embed-dim is 8"):
            check(arch, width)


def test_data_that_is_cut_off(fail_to_train, toy_data, tmp_path):
    data = tmp_path / "bin"
    shutil.copytree(toy_data, data)
    path = data / "train.de-en.de.bin"
    path.write_bytes(path.read_bytes()[:100])
    assert f"{path} is cut off" in fail_to_train(data=data)


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("generate", [], "--path required"),
        ("generate", ["--path", "none.pt"], "none.pt"),
        ("generate", ["--path", "none.pt", "--sampling"], "--nbest to be equal to --beam"),
        ("generate", ["--path", "none.pt", "--model-overrides", "{x"], "--model-overrides must be"),
        ("validate", ["--batch-size", "4"], "--path is missing"),
        ("validate", ["--path", "none.pt"], "--max-tokens or --batch-size"),
        ("interactive", ["--path", "none.pt", "--batch-size", "4"], "--buffer-size"),
    ],
)
def test_wrong_options_of_other_commands(command, arguments, message, fail):
    assert message in fail(command, *arguments)


def test_real_bugs_keep_their_traceback():
    for bug in (TypeError("x"), AssertionError("not fairseq's"), KeyError("stats")):
        try:
            raise bug
        except type(bug) as error:
            assert explain(error) is None
