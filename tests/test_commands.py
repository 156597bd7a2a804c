"""fairseq's commands with the plugin, each in a process of its own, as a user runs them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import toy

from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.inference.translator import Translator
from fairseq_cgc.models import LightConvCGCModel
from fairseq_cgc.models.config import CONFIG_DIR
from fairseq_cgc.support.checkpoints import safe_load

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("commands")]


#: The first epoch is the best one, and three more are waited for.
NOTHING_LEARNT = ["--lr", "1e-30", "--patience", "3", "--no-epoch-checkpoints"]


def hypotheses(output: str) -> dict[int, tuple[float, str]]:
    """Sentence number to score and words, from the H- lines of fairseq-generate."""
    lines = re.findall(r"^H-(\d+)\t(\S+)\t(.*)$", output, re.MULTILINE)
    return {int(number): (float(score), words) for number, score, words in lines}


def weights(save_dir: Path) -> dict[str, torch.Tensor]:
    return safe_load(save_dir / "checkpoint_last.pt")["model"]


def error_lines(result: subprocess.CompletedProcess) -> list[str]:
    assert result.returncode != 0
    assert "Traceback" not in result.stderr + result.stdout
    return [line for line in result.stderr.splitlines() if line.startswith("error: ")]


def test_generate_at_beam_6(toy_data, toy_model):
    options = ["--path", toy_model / "checkpoint_last.pt", "--cpu", "--beam", "6", "--remove-bpe"]
    result = toy.succeed(toy.fairseq("generate", toy_data, *options, "--batch-size", "128"))
    assert "Generate test with beam=6: BLEU4 = " in result.stdout
    at_once = hypotheses(result.stdout)
    result = toy.succeed(toy.fairseq("generate", toy_data, *options, "--batch-size", "1"))
    one_by_one = hypotheses(result.stdout)
    assert len(at_once) == len(one_by_one) == 40
    for number, (score, words) in at_once.items():
        assert one_by_one[number][1] == words
        assert one_by_one[number][0] == pytest.approx(score, abs=1e-4)


def test_validate_needs_no_task(toy_data, toy_model):
    options = ["--path", toy_model / "checkpoint_best.pt", "--cpu", "--batch-size", "10"]
    result = toy.succeed(toy.fairseq("validate", toy_data, *options))
    assert re.search(r"valid \|.* nll_loss \d", result.stdout + result.stderr)


def test_interactive(toy_data, toy_model):
    options = ["--path", toy_model / "checkpoint_last.pt", "--cpu", "--beam", "6"]
    result = subprocess.run(
        toy.fairseq_command("interactive", toy_data, *options),
        input="w1 w2 w3\nw4\n",
        cwd=toy.ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert len(hypotheses(result.stdout)) == 2


def test_from_pretrained_translates(toy_data, toy_model):
    hub = LightConvCGCModel.from_pretrained(
        str(toy_model), checkpoint_file="checkpoint_last.pt", data_name_or_path=str(toy_data)
    )
    translation = hub.translate("w1 w2 w3", beam=6)
    assert translation.startswith("w")
    assert hub.translate(["w1 w2 w3", "w4"], beam=6)[0] == translation


def test_raw_text_is_translated_as_by_our_translator(run):
    raw = run.raw["de"].read_text("utf-8").splitlines()[:8]
    model = run.save_dir / "checkpoint_best.pt"
    expected = list(Translator(model, run.data_dir, SearchOptions(beam=6)).translate(raw))
    assert len(set(expected)) > 4
    options = ["--path", model, "--cpu", "--beam", "6", "--tokenizer", "prepared"]
    result = subprocess.run(
        toy.fairseq_command("interactive", run.data_dir, *options),
        input="\n".join(raw) + "\n",
        cwd=toy.ROOT,
        capture_output=True,
        text=True,
    )
    assert re.findall(r"^D-\d+\t\S+\t(.*)$", result.stdout, re.MULTILINE) == expected
    hub = LightConvCGCModel.from_pretrained(
        str(run.save_dir), model.name, str(run.data_dir), tokenizer="prepared"
    )
    assert hub.translate(raw, beam=6) == expected


@pytest.mark.parametrize("format_", ["simple", "json"])
def test_several_epochs_print_no_foreign_noise(format_, toy_data, tmp_path):
    result = toy.succeed(toy.train(toy_data, tmp_path, "--max-epoch", "3", "--log-format", format_))
    assert "Exception ignored" not in result.stderr
    assert "Warning" not in result.stderr


@pytest.mark.parametrize("precision", [[], ["--bf16"]], ids=["float32", "bfloat16"])
def test_run_killed_in_mid_epoch_resumes_to_the_same_weights(precision, toy_data, tmp_path):
    # 300 sentences make about seven batches an epoch; checkpoints at every third update.
    arguments = ["--max-epoch", "6", "--save-interval-updates", "3", "--weight-dropout", "0.1"]
    arguments += ["--criterion", "label_smoothed_cross_entropy_chunked", *precision]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    toy.succeed(toy.train(toy_data, whole, *arguments))
    command = toy.fairseq_command(
        "train",
        toy_data,
        *("--arch", "lightconv_cgc_iwslt_de_en", *toy.SIZES, *toy.OPTIMIZER, *arguments),
        *("--save-dir", killed),
    )
    process = subprocess.Popen(
        command, cwd=toy.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    while not list(killed.glob("checkpoint_3_*.pt")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = safe_load(killed / "checkpoint_last.pt")
    assert left["extra_state"]["train_iterator"]["epoch"] <= 4
    toy.succeed(toy.train(toy_data, killed, *arguments))
    ours, theirs = weights(killed), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_finished_training_is_not_continued(toy_data, tmp_path):
    toy.succeed(toy.train(toy_data, tmp_path, "--max-update", "5"))
    before = weights(tmp_path)
    result = toy.succeed(toy.train(toy_data, tmp_path, "--max-update", "5"))
    assert "nothing left to train: 5 updates were made" in result.stdout + result.stderr
    after = weights(tmp_path)
    assert all(torch.equal(before[key], after[key]) for key in before)
    toy.succeed(toy.train(toy_data, tmp_path, "--max-update", "6"))
    history = safe_load(tmp_path / "checkpoint_last.pt")["optimizer_history"]
    assert history[-1]["num_updates"] == 6


def test_an_interrupted_training_stops_early_at_the_same_epoch(toy_data, tmp_path):
    for limit in (["--max-epoch", "2"], [], []):
        toy.succeed(toy.train(toy_data, tmp_path, *NOTHING_LEARNT, *limit))
    state = safe_load(tmp_path / "checkpoint_last.pt")["extra_state"]
    assert state["train_iterator"]["epoch"] == 5  # the fifth would have been next
    assert state["early_stop"]["num_runs"] == 3


def test_an_extended_training_stops_early_at_the_same_epoch(toy_data, tmp_path):
    """The validation that --max-update causes within an epoch does not count."""
    for limit in (["--max-update", "2"], ["--max-update", "14"], []):
        toy.succeed(toy.train(toy_data, tmp_path, *NOTHING_LEARNT, *limit))
        best = safe_load(tmp_path / "checkpoint_best.pt")
    state = safe_load(tmp_path / "checkpoint_last.pt")["extra_state"]
    assert state["train_iterator"]["epoch"] == 5
    assert state["early_stop"]["num_runs"] == 3
    assert best["extra_state"]["train_iterator"]["iterations_in_epoch"] == 0  # of a whole epoch


@pytest.fixture(scope="module")
def stopped_early(toy_data, tmp_path_factory):
    """The last checkpoint of a training that --patience has ended."""
    folder = tmp_path_factory.mktemp("stopped")
    toy.succeed(toy.train(toy_data, folder, *NOTHING_LEARNT))
    return folder / "checkpoint_last.pt"


@pytest.mark.parametrize(
    ("options", "next_epoch"),
    [
        (["--finetune-from-model", "{}"], 5),
        (["--restore-file", "{}", "--reset-optimizer"], 9),
        (["--restore-file", "{}", "--reset-dataloader"], 5),
    ],
)
def test_a_new_training_from_one_that_stopped_early(
    options, next_epoch, stopped_early, toy_data, tmp_path
):
    options = [option.format(stopped_early) for option in options]
    toy.succeed(toy.train(toy_data, tmp_path, *NOTHING_LEARNT, *options))
    state = safe_load(tmp_path / "checkpoint_last.pt")["extra_state"]
    assert state["train_iterator"]["epoch"] == next_epoch
    assert state["early_stop"]["num_runs"] == 3


def test_hydra_train_with_a_preset(toy_data, tmp_path):
    overrides = [
        f"task.data={toy_data}",
        f"common.user_dir={toy.ROOT / 'fairseq_cgc'}",
        "common.cpu=true",
        "common.no_progress_bar=true",
        "model.encoder_embed_dim=16",
        "model.encoder_ffn_embed_dim=16",
        "dataset.max_tokens=400",
        "optimization.max_update=3",
        f"checkpoint.save_dir={tmp_path / 'save'}",
        f"hydra.run.dir={tmp_path}",
    ]
    config = ["--config-dir", CONFIG_DIR, "--config-name", "multi30k"]
    toy.succeed(toy.fairseq("hydra_train", *config, *overrides))
    checkpoint = safe_load(tmp_path / "save" / "checkpoint_last.pt")
    assert checkpoint["cfg"]["model"]["encoder_kernel_size_list"] == [3, 7, 15, 31]
    options = ["--path", tmp_path / "save" / "checkpoint_last.pt", "--cpu", "--beam", "6"]
    toy.succeed(toy.fairseq("generate", toy_data, *options))
    wrong = toy.fairseq("hydra_train", *config, *overrides, "model.encoder_layers=3")
    assert "Traceback" not in wrong.stderr
    assert "--encoder-kernel-size-list has 4 entries" in wrong.stderr
    assert wrong.returncode != 0


def test_hydra_train_with_an_architecture(toy_data, tmp_path):
    overrides = [
        "model=lightconv_cgc_tiny",
        "task=translation",
        f"task.data={toy_data}",
        f"common.user_dir={toy.ROOT / 'fairseq_cgc'}",
        *("common.cpu=true", "common.bf16=true", "dataset.max_tokens=400"),
        *("model.decoder_ffn_embed_dim=64", "model.attention_dropout=0.1"),  # no preset lists them
        *("optimizer=adam", "lr_scheduler=inverse_sqrt", "optimization.lr=[0.001]"),
        *("optimization.max_update=2", f"checkpoint.save_dir={tmp_path / 'save'}"),
        f"hydra.run.dir={tmp_path}",
    ]
    toy.succeed(toy.fairseq("hydra_train", "--config-dir", CONFIG_DIR, *overrides))
    kernels = safe_load(tmp_path / "save" / "checkpoint_last.pt")["model"]
    assert kernels["encoder.layers.3.conv.weight"].shape == (4, 1, 31)


@pytest.mark.parametrize("precision", ["--bf16", "--memory-efficient-bf16", "--fp16"])
def test_half_precision_trains_on_a_cpu(precision, toy_data, tmp_path):
    toy.succeed(toy.train(toy_data, tmp_path, precision, "--max-update", "4"))
    assert all(value.isfinite().all() for value in weights(tmp_path).values())


def test_eval_bleu_and_its_checkpoint(toy_data, tmp_path):
    bleu = ["--eval-bleu", "--eval-bleu-detok", "space", "--best-checkpoint-metric", "bleu"]
    arguments = [*bleu, "--maximize-best-checkpoint-metric"]
    toy.succeed(toy.train(toy_data, tmp_path, *arguments, "--max-epoch", "1"))
    result = toy.succeed(toy.train(toy_data, tmp_path, *arguments, "--max-epoch", "2"))
    assert "Loaded checkpoint" in result.stdout + result.stderr


def test_two_processes_train_and_resume_on_a_cpu(toy_data, tmp_path):
    def run(epochs: str, port: str) -> None:
        shared = ["--distributed-world-size", "2", "--distributed-backend", "gloo"]
        shared += ["--distributed-no-spawn", "--max-epoch", epochs, "--save-dir", str(tmp_path)]
        shared += ["--distributed-init-method", f"tcp://127.0.0.1:{port}"]
        arch = ["--arch", "lightconv_cgc_iwslt_de_en", *toy.SIZES, *toy.OPTIMIZER]
        processes = [
            subprocess.Popen(
                toy.fairseq_command(
                    "train", toy_data, *arch, *shared, "--distributed-rank", str(rank)
                ),
                cwd=toy.ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(2)
        ]
        for process in processes:
            output = process.communicate(timeout=250)[0]
            assert process.returncode == 0, output[-3000:]

    port = 20000 + os.getpid() % 20000
    run("1", str(port))
    run("2", str(port + 1))
    assert safe_load(tmp_path / "checkpoint2.pt")["extra_state"]["train_iterator"]["epoch"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--encoder-attention-heads", "3"], "--encoder-attention-heads is 3, but must divide"),
        (["--encoder-layers", "4"], "--encoder-kernel-size-list has 2 entries"),
        (["--encoder-kernel-size-list", "[3,4]"], "4 is even"),
        (["--encoder-gate-target", "both"], "--encoder-gate-target is 'both'"),
    ],
)
def test_wrong_option_ends_in_one_line(arguments, message, toy_data, tmp_path):
    result = toy.train(toy_data, tmp_path / "save", *arguments)
    [line] = error_lines(result)
    assert message in line


def test_checkpoint_of_other_dictionaries_ends_in_one_line(toy_data, toy_model, tmp_path):
    other = tmp_path / "bin"
    shutil.copytree(toy_data, other)
    for lang in ("de", "en"):
        with (other / f"dict.{lang}.txt").open("a") as stream:
            stream.write("new 1\n")
    path = toy_model / "checkpoint_last.pt"
    result = toy.fairseq("generate", other, "--path", path, "--cpu", "--beam", "6")
    [line] = error_lines(result)
    assert "the checkpoint's encoder dictionary has" in line
    save_dir = tmp_path / "save"
    shutil.copytree(toy_model, save_dir)
    [line] = error_lines(toy.train(other, save_dir, "--max-epoch", "4"))
    assert "the checkpoint's encoder dictionary has" in line


def test_damaged_and_hostile_checkpoints_end_in_one_line(toy_data, toy_model, tmp_path):
    whole = (toy_model / "checkpoint_last.pt").read_bytes()
    truncated, hostile = tmp_path / "truncated.pt", tmp_path / "hostile.pt"
    truncated.write_bytes(whole[: len(whole) // 2])

    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'executed'}",)

    torch.save({"args": Hostile(), "model": {}}, hostile)
    for path, message in ((truncated, "is damaged"), (hostile, "is refused: it asks to run")):
        result = toy.fairseq("generate", toy_data, "--path", path, "--cpu")
        assert message in error_lines(result)[0]
        result = toy.train(toy_data, tmp_path / "save", "--restore-file", str(path))
        assert message in error_lines(result)[0]
    assert not (tmp_path / "executed").exists()


def test_lightconv_checkpoint_initialises_and_is_not_needed_again(toy_data, tmp_path):
    lightweight = ["--encoder-conv-type", "lightweight", "--decoder-conv-type", "lightweight"]
    toy.succeed(
        toy.train(
            toy_data,
            tmp_path / "lightconv",
            *("--arch", "lightconv_iwslt_de_en", *lightweight, "--decoder-embed-dim", "32"),
            *("--max-update", "4"),
        )
    )
    start = tmp_path / "lightconv" / "checkpoint_last.pt"
    refused = toy.train(toy_data, tmp_path / "cgc", "--restore-file", str(start))
    assert "use --init-from-lightconv" not in refused.stdout
    assert "train with --init-from-lightconv PATH" in error_lines(refused)[0]
    arguments = ["--init-from-lightconv", str(start), "--max-update", "2"]
    result = toy.succeed(toy.train(toy_data, tmp_path / "cgc", *arguments))
    assert "gate tensors are new" in result.stdout + result.stderr
    start.unlink()
    path = tmp_path / "cgc" / "checkpoint_last.pt"
    toy.succeed(toy.fairseq("generate", toy_data, "--path", path, "--cpu", "--beam", "6"))
