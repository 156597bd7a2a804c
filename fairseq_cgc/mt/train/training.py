"""Run ``fairseq-train`` to its end, with a progress bar; continue only with the same settings."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from fairseq_cgc.mt.fairseq_commands import fairseq_error, merge_options, start_fairseq
from fairseq_cgc.mt.train.training_log import read_log
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import sha256_of, write_json
from fairseq_cgc.support.settings_record import demand_record, differences, read_record, refusal

logger = logging.getLogger(__name__)

#: fairseq's log in JSON, in the save folder.
LOG = "train.log"
#: The record of the settings, and whether the training has ended; in the save folder.
STAMP = "training.json"
#: Options that may differ between the parts of an interrupted training.
_FREE = ("--cpu", "--keep-last-epochs", "--log-interval", "--num-workers")
#: Schedules that do not depend on the last update: such a training can be extended.
_ENDLESS = ("fixed", "inverse_sqrt")


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

    With a larger ``--max-update`` than before it continues, and ends with the weights of a training
    that never stopped.

    Args:
        data_dir: binarised data.
        save_dir: folder for checkpoints, logs and the record of the settings.
        options: of ``fairseq-train``, ``--max-update`` among them, but without the data,
            ``--save-dir`` and options of logging.
        name: for the progress bar.
        environment: added to this process's environment.
        position: line of the progress bar, where several are drawn.

    Raises:
        UserError: if the folder holds a training with other settings or data, or fairseq fails.
    """
    settings = _settings(data_dir, options)
    if _updates_before(save_dir, settings) == int(settings["--max-update"]):
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


def finished_updates(data_dir: Path, save_dir: Path, options: Sequence[str]) -> int | None:
    """The ``--max-update`` of the training in ``save_dir`` if it has ended, else None.

    Arguments and errors are those of :func:`train`.
    """
    return _updates_before(save_dir, _settings(data_dir, options))


def training_arguments(save_dir: Path, options: Sequence[str]) -> list[str]:
    """``options`` and those that say where checkpoints and the log go."""
    files = ["--save-dir", str(save_dir), "--log-format", "json", "--log-file"]
    return [*options, *files, str(save_dir / LOG)]


def _settings(data_dir: Path, options: Sequence[str]) -> dict[str, str]:
    """Everything that must be the same when a training is continued: options and data."""
    settings = {
        option: " ".join(values) or "on" for option, values in merge_options(options).items()
    }
    patterns = ("dict.*.txt", "train.*.bin", "valid.*.bin")
    files = sorted(path for pattern in patterns for path in data_dir.glob(pattern))
    return settings | {f"{path.name} (SHA-256)": sha256_of(path) for path in files}


def _updates_before(save_dir: Path, settings: Mapping[str, str]) -> int | None:
    """The ``--max-update`` of a training that has ended; None if it is new or was interrupted.

    Raises:
        UserError: if it was made with settings that exclude continuing it.
    """
    path = save_dir / STAMP
    if not demand_record(path, "another folder"):
        return None
    record = read_record(path, ("settings", "finished"))
    found = record["settings"]
    for key in differences(found, settings):
        if key in _FREE:
            continue
        scheduler = settings.get("--lr-scheduler", "fixed")
        why = ""
        if key == "--max-update" and int(found[key]) < int(settings[key]):
            if scheduler in _ENDLESS:
                continue
            why = f", and --lr-scheduler {scheduler} is not one that can be extended"
        before, now = found.get(key, "off"), settings.get(key, "off")
        raise refusal(save_dir, f"trained with {key}", before, f"{now}{why}")
    return int(found["--max-update"]) if record["finished"] else None


def _write_stamp(save_dir: Path, settings: Mapping[str, str], *, finished: bool) -> None:
    write_json(save_dir / STAMP, {"settings": settings, "finished": finished})


def _show_progress(
    process: subprocess.Popen[bytes], log: Path, updates: int, name: str, position: int
) -> None:
    # On a terminal, redraw every second; in a file, that would add lines for hours.
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
                if bar.n == 0:  # updates from before an interruption say nothing about the speed
                    bar.n = bar.initial = points[-1].updates
                bar.set_postfix_str(f"loss {points[-1].loss}", refresh=False)
                bar.update(points[-1].updates - bar.n)
            # fairseq's log grows with the square of the epochs: read it a tenth of the time.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(1.0, 10 * (time.monotonic() - started)))
        bar.update(updates - bar.n if process.returncode == 0 else 0)
