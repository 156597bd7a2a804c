"""Which checkpoints of a training run to use, and their average."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from fairseq_cgc.support.checkpoints import load_model_state, read_config, safe_load, save_tensors
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import file_stamps

_EPOCH = re.compile(r"checkpoint(\d+)\.pt")
_UPDATE = re.compile(r"checkpoint_(\d+)_(\d+)\.pt")
# fairseq appends one random digit to the metric's three decimals, so that ties keep two files.
_BEST = re.compile(r"checkpoint\.best_(.+)_(-?\d+(?:\.\d+)?)\.pt")


def select_checkpoints(
    save_dir: Path,
    *,
    last_epochs: int | None = None,
    last_updates: int | None = None,
    best: int | None = None,
) -> list[Path]:
    """Pick checkpoints of ``save_dir`` by the names that ``fairseq-train`` gives them.

    Exactly one of the three keywords is given; it says how many files are wanted.

    Args:
        save_dir: the ``--save-dir`` of the training.
        last_epochs: those of ``checkpointE.pt`` with the highest epochs.
        last_updates: those of ``checkpoint_E_U.pt`` with the highest updates.
        best: those of ``checkpoint.best_METRIC_VALUE.pt`` with the best values. Whether higher or
            lower is better is read from the configuration stored in the checkpoint.

    Returns:
        The files in ascending order: oldest first, or worst of the chosen ones first.

    Raises:
        UserError: if there are fewer files than asked for, or several metrics among the best ones.
    """
    wanted = {"last-epochs": last_epochs, "last-updates": last_updates, "best": best}
    chosen = {option: number for option, number in wanted.items() if number is not None}
    if len(chosen) != 1:
        raise UserError("give exactly one of --last-epochs, --last-updates and --best")
    ((option, number),) = chosen.items()
    if number < 1:
        raise UserError(f"--{option} must be at least 1, but is {number}")
    pattern, rank = {
        "last-epochs": ("checkpointEPOCH.pt", epoch_checkpoints),
        "last-updates": ("checkpoint_EPOCH_UPDATE.pt", _update_checkpoints),
        "best": ("checkpoint.best_METRIC_VALUE.pt", _best_checkpoints),
    }[option]
    ranked = rank(save_dir)
    if len(ranked) < number:
        found = f" ({', '.join(path.name for path in ranked)})" if ranked else ""
        raise UserError(
            f"--{option} is {number}, but {save_dir} has {len(ranked)} files named {pattern}{found}"
            "; ask for fewer, or name the files"
        )
    return ranked[-number:]


def epoch_checkpoints(save_dir: Path) -> list[Path]:
    """Every ``checkpointE.pt``, which fairseq saves at the end of an epoch; oldest first.

    Raises:
        UserError: if ``save_dir`` is not a folder.
    """
    return _ranked(_matches(save_dir, _EPOCH), lambda match: int(match[1]))


def _update_checkpoints(save_dir: Path) -> list[Path]:
    return _ranked(_matches(save_dir, _UPDATE), lambda match: (int(match[2]), int(match[1])))


def _best_checkpoints(save_dir: Path) -> list[Path]:
    matches = _matches(save_dir, _BEST)
    if not matches:
        return []
    metrics = sorted({match[1] for match in matches.values()})
    if len(metrics) > 1:
        raise UserError(
            f"--best needs one metric, but {save_dir} has best checkpoints by "
            f"{' and '.join(metrics)}: name the files instead"
        )
    state = safe_load(next(iter(matches)))
    sign = 1 if read_config(state, "checkpoint", "maximize_best_checkpoint_metric") else -1
    return _ranked(matches, lambda match: sign * float(match[2]))


def _matches(save_dir: Path, pattern: re.Pattern[str]) -> dict[Path, re.Match[str]]:
    if not save_dir.is_dir():
        raise UserError(f"{save_dir} is not a folder of checkpoints")
    found = {path: pattern.fullmatch(path.name) for path in save_dir.iterdir()}
    return {path: match for path, match in found.items() if match}


def _ranked(
    matches: Mapping[Path, re.Match[str]], key: Callable[[re.Match[str]], Any]
) -> list[Path]:
    return sorted(matches, key=lambda path: key(matches[path]))


def average(paths: Sequence[Path], output: Path, *, progress: bool = True) -> None:
    """Write the mean of the models in ``paths`` as a checkpoint that fairseq loads.

    Floating-point tensors are summed in float64 and stored in their own type; integer tensors
    must be the same everywhere. The rest (configuration, task state, history) is the last file's,
    without its optimizer state. Memory holds only the sum and one checkpoint at a time.

    Args:
        paths: fairseq checkpoints of one architecture and dictionary.
        output: file to write; it appears only when complete.
        progress: whether to draw a progress bar on standard error.

    Raises:
        UserError: if there is no file, or names, shapes, types or integer values differ.
    """
    if not paths:
        raise UserError("no checkpoint to average")
    sums: dict[str, torch.Tensor] = {}
    state: dict[str, Any] = {}
    updates = []
    for path in tqdm(paths, desc="averaging", unit="file", disable=not progress):
        state.clear()  # Frees the previous file before the next one is read.
        state = load_model_state(path)
        updates += updates_of(state)
        if sums:
            _check_same_layout(sums, state["model"], paths[0], path)
        for name, tensor in state["model"].items():
            if not tensor.is_floating_point():
                sums.setdefault(name, tensor)
            elif name in sums:
                sums[name] += tensor
            else:
                sums[name] = tensor.to(torch.float64, copy=True)

    _write_mean(state["model"], sums, paths)
    state["averaged"] = file_stamps(paths)
    state["averaged_updates"] = updates
    save_tensors(output, state)


def is_average_of(output: Path, paths: Iterable[Path]) -> bool:
    """Whether ``output`` was written by :func:`average` from these files, unchanged since."""
    if not output.exists():
        return False
    state = safe_load(output)
    return state.get("averaged") == file_stamps(paths) and "averaged_updates" in state


def updates_of(state: Mapping[str, Any]) -> list[int | None]:
    """The training updates of a checkpoint, or of each input of an average.

    Args:
        state: a loaded checkpoint. The result is ``None`` where it does not say.
    """
    if "averaged_updates" in state:
        return list(state["averaged_updates"])
    history = state.get("optimizer_history") or [{}]
    return [history[-1].get("num_updates")]


def check_may_be_replaced(output: Path) -> None:
    """Raise UserError if ``output`` is an existing file that is no average.

    Unlike an average, it could not be made again.
    """
    if output.exists() and "averaged" not in safe_load(output):
        raise UserError(f"--output {output} exists and is no average; it is not overwritten")


def _check_same_layout(
    first: Mapping[str, torch.Tensor],
    other: Mapping[str, torch.Tensor],
    first_path: Path,
    other_path: Path,
) -> None:
    """Raise UserError at the first difference that makes an average meaningless."""
    for name in dict.fromkeys([*first, *other]):
        if name not in other:
            raise UserError(f"{other_path} has no parameter {name}, which {first_path} has")
        if name not in first:
            raise UserError(f"{first_path} has no parameter {name}, which {other_path} has")
        a, b = first[name], other[name]
        if a.shape != b.shape:
            raise UserError(
                f"{name} has shape {tuple(b.shape)} in {other_path}, "
                f"but {tuple(a.shape)} in {first_path}"
            )
        is_float = a.is_floating_point()
        if is_float != b.is_floating_point() or not (is_float or torch.equal(a, b)):
            raise UserError(f"{name} is not the same in {other_path} as in {first_path}")


def _write_mean(
    model: dict[str, torch.Tensor], sums: dict[str, torch.Tensor], paths: Sequence[Path]
) -> None:
    """Replace the last checkpoint's tensors by the means, one storage for tied parameters."""
    tied: dict[tuple[Any, ...], str] = {}
    for name, last in model.items():
        total = sums.pop(name)
        mean = (total / len(paths)).to(last.dtype) if last.is_floating_point() else total
        # An embedding shared by encoder, decoder and output is stored once under several names.
        place = (last.data_ptr(), last.shape, last.stride(), last.dtype)
        leader = tied.setdefault(place, name) if last.numel() else name
        if leader == name:
            model[name] = mean
        elif torch.equal(model[leader], mean):
            model[name] = model[leader]
        else:
            raise UserError(
                f"{name} and {leader} are one parameter in {paths[-1]}, but differ in other files"
            )
