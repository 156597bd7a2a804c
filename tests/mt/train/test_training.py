"""fairseq-train run to its end, once, and never with other settings in the same folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import toy

from fairseq_cgc.mt.fairseq_commands import merge_options
from fairseq_cgc.mt.train.training import LOG, train
from fairseq_cgc.mt.train.training_log import read_log
from fairseq_cgc.support.errors import UserError

OPTIONS = ["--arch", "lightconv_cgc_iwslt_de_en", *toy.SIZES, *toy.OPTIMIZER, "--max-update", "3"]


@pytest.fixture(scope="module")
def trained(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    save_dir = tmp_path_factory.mktemp("trained")
    train(toy_data, save_dir, OPTIONS, name="toy")
    return save_dir


def test_it_trains_and_keeps_the_settings(trained: Path) -> None:
    assert read_log(trained / LOG).train_inner or read_log(trained / LOG).train
    stamp = json.loads((trained / "training.json").read_text(encoding="utf-8"))
    assert stamp["finished"] is True
    assert stamp["settings"]["--max-update"] == "3"
    assert "dict.de.txt (SHA-256)" in stamp["settings"]


def test_a_finished_training_is_not_started_again(
    trained: Path, toy_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def start(*args: object, **kwargs: object) -> None:
        raise AssertionError("started")

    monkeypatch.setattr("fairseq_cgc.mt.train.training.start_fairseq", start)
    # What decides nothing may differ.
    train(toy_data, trained, [*OPTIONS, "--log-interval", "77"], name="toy")
    with pytest.raises(UserError, match=r"trained with --max-update 3, now it is 2; give another"):
        train(toy_data, trained, [*OPTIONS, "--max-update", "2"], name="toy")
    with pytest.raises(AssertionError, match="started"):  # it would go on
        train(toy_data, _copy(trained, tmp_path), [*OPTIONS, "--max-update", "4"], name="toy")
    with pytest.raises(UserError, match=r"trained with --adam-eps off, now it is 1e-6"):
        train(toy_data, trained, [*OPTIONS, "--adam-eps", "1e-6"], name="toy")
    with pytest.raises(UserError, match=r"trained with --label-smoothing 0.1, now it is off"):
        place = OPTIONS.index("--label-smoothing")
        shorter = [*OPTIONS[:place], *OPTIONS[place + 2 :]]
        train(toy_data, trained, shorter, name="toy")


def _copy(trained: Path, folder: Path) -> Path:
    shutil.copy(trained / "training.json", folder)
    return folder


def test_a_schedule_that_knows_its_end_is_not_extended(toy_data: Path, tmp_path: Path) -> None:
    options = [*OPTIONS, "--lr-scheduler", "cosine"]
    settings = {k: " ".join(v) or "on" for k, v in merge_options(options).items()}
    stamp = {"settings": settings, "finished": True}
    (tmp_path / "training.json").write_text(json.dumps(stamp), encoding="utf-8")
    with pytest.raises(UserError, match="now it is 9, and --lr-scheduler cosine is not one that"):
        train(toy_data, tmp_path, [*options, "--max-update", "9"], name="toy")


def test_other_data_are_refused(trained: Path, toy_data: Path, tmp_path: Path) -> None:
    for path in toy_data.iterdir():
        (tmp_path / path.name).symlink_to(path)
    binary = next(tmp_path.glob("valid.*.de.bin"))
    changed = binary.read_bytes() + b"\0"
    binary.unlink()
    binary.write_bytes(changed)
    with pytest.raises(UserError, match=r"trained with valid\..*\.de\.bin \(SHA-256\)"):
        train(tmp_path, trained, OPTIONS, name="toy")


def test_checkpoints_of_unknown_origin_are_not_continued(toy_data: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint_last.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"has checkpoints, but no training\.json"):
        train(toy_data, tmp_path, OPTIONS, name="toy")
    (tmp_path / "training.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"training\.json: damaged"):
        train(toy_data, tmp_path, OPTIONS, name="toy")


def test_the_reason_of_a_failure_is_in_the_error(toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--encoder-layers is 3.*\(see .*output\.log\)"):
        train(toy_data, tmp_path, [*OPTIONS, "--encoder-layers", "3"], name="toy")
    stamp = json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))
    assert stamp["finished"] is False


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part of it is Linux's")
def test_training_ends_with_whoever_started_it_even_when_killed() -> None:
    code = (
        "import time; from fairseq_cgc.mt import fairseq_commands as cli\n"
        "cli.fairseq_command = lambda name, arguments: ['sleep', '600']\n"
        "print(cli.start_fairseq('train', []).pid, flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": str(toy.ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        child = Path("/proc") / parent.stdout.readline().strip()
        assert child.exists()
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while child.exists() and "Z (zombie)" not in (child / "status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
