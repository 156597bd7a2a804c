"""Run ``fairseq-train`` to its end: behind a progress bar, resumable, never with other settings."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from fairseq_cgc.core.errors import UserError
from fairseq_cgc.core.files import new_file
from fairseq_cgc.mt.cli import fairseq_error, merge_options, start_fairseq
from fairseq_cgc.mt.corpora import sha256_of
from fairseq_cgc.mt.curves import read_log

logger = logging.getLogger(__name__)

#: In the save folder: what fairseq logged, in JSON.
LOG = "train.log"
_STAMP = "training.json"
#: What may differ between the parts of an interrupted training.
_FREE = ("--cpu", "--keep-last-epochs", "--log-interval", "--num-workers")


def train(
    data_dir: Path,
    save_dir: Path,
    options: Sequence[str],
    *,
    name: str,
    environment: Mapping[str, str] | None = None,
    position: int = 0,
) -> None:
    """Train until fairseq ends by itself; a training that has ended is not started again.

    Args:
        data_dir: binarised data.
        save_dir: folder for checkpoints, logs and the record of the settings.
        options: of ``fairseq-train``, ``--max-update`` among them; without data, ``--save-dir``
            and options of logging.
        name: for the progress bar.
        environment: added to this process's environment.
        position: line of the progress bar, where several are drawn.

    Raises:
        UserError: if the folder holds a training with other settings or data, or fairseq fails.
    """
    settings = {
        option: " ".join(values) or "on" for option, values in merge_options(options).items()
    }
    settings |= {f"{path.name} (SHA-256)": sha256_of(path) for path in _inputs(data_dir)}
    if _is_finished(save_dir, settings):
        logger.info("%s: already trained", save_dir)
        return
    _write_stamp(save_dir, settings, finished=False)
    output = save_dir / "output.log"
    arguments: list[str | Path] = [data_dir, *training_arguments(save_dir, options)]
    with output.open("ab") as stream:
        process = start_fairseq(
            "train",
            arguments,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
        try:
            updates = int(settings["--max-update"])
            _show_progress(process, save_dir / LOG, updates, name, position)
        finally:
            process.terminate()
            process.wait()
    if process.returncode != 0:
        raise fairseq_error("train", output)
    _write_stamp(save_dir, settings, finished=True)


def training_arguments(save_dir: Path, options: Sequence[str]) -> list[str]:
    """``options`` with those that say where checkpoints and log go."""
    files = ["--save-dir", str(save_dir), "--log-format", "json", "--log-file"]
    return [*options, *files, str(save_dir / LOG)]


def _inputs(data_dir: Path) -> list[Path]:
    """The dictionaries and the binarised text that a training reads."""
    patterns = ("dict.*.txt", "train.*.bin", "valid.*.bin")
    return sorted(path for pattern in patterns for path in data_dir.glob(pattern))


def _is_finished(save_dir: Path, settings: Mapping[str, str]) -> bool:
    """Whether the training has ended; False if it is new or was interrupted."""
    path = save_dir / _STAMP
    if not path.exists():
        if any(save_dir.glob("checkpoint*.pt")):
            raise UserError(f"{save_dir} has checkpoints, but no {_STAMP}: give another folder")
        return False
    try:
        stamp = json.loads(path.read_text(encoding="utf-8"))
        found, finished = dict(stamp["settings"]), bool(stamp["finished"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error})") from error
    for key in dict.fromkeys([*settings, *found]):
        if key not in _FREE and found.get(key) != settings.get(key):
            raise UserError(
                f"{save_dir} was trained with {key} {found.get(key, 'off')}, now it is "
                f"{settings.get(key, 'off')}; give another output folder, or remove this one"
            )
    return finished


def _write_stamp(save_dir: Path, settings: Mapping[str, str], *, finished: bool) -> None:
    with new_file(save_dir / _STAMP) as partial:
        stamp = {"settings": settings, "finished": finished}
        partial.write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")


def _show_progress(
    process: subprocess.Popen[bytes], log: Path, updates: int, name: str, position: int
) -> None:
    # A line a second is for eyes, not for a file that is written for hours.
    pause = 1.0 if sys.stderr.isatty() else 30.0
    bar = tqdm(total=updates, desc=name, unit="update", mininterval=pause, position=position)
    with bar:
        while process.poll() is None:
            started = time.monotonic()
            try:
                points = read_log(log).train_inner
            except UserError:  # nothing logged yet
                points = []
            if points:
                if bar.n == 0:  # of an interrupted training; they say nothing about its speed
                    bar.n = bar.initial = points[-1].updates
                bar.set_postfix_str(f"loss {points[-1].loss}", refresh=False)
                bar.update(points[-1].updates - bar.n)
            # fairseq's log grows with the square of the epochs: read it a tenth of the time.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(1.0, 10 * (time.monotonic() - started)))
        bar.update(updates - bar.n if process.returncode == 0 else 0)
