"""Where hostile cases are tried: an empty folder, a small model, and what counts as survival."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from fairseq import options as fairseq_options
from fairseq import tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import preprocess
from omegaconf import OmegaConf

import fairseq_cgc.models  # noqa: F401  (registers the architectures)
from fairseq_cgc.mt.prepare import binarize
from fairseq_cgc.mt.prepare.preparation import PrepareOptions, prepare
from fairseq_cgc.support.command_line import run_main

#: Seconds after which a case hangs. Nothing here takes more than a few.
HANGS_AFTER = 60
SENTENCES = [
    ("Der Hund sieht den Ball.", "The dog sees the ball."),
    ("Der Mann sucht den Baum.", "The man seeks the tree."),
    ("Die Frau malt das Haus „rot“.", "The woman paints the house “red”."),
    ("Ein Stuhl findet 1.000 Bälle!", "A chair finds 1,000 balls!"),
] * 3


class Lost(AssertionError):
    """A case that ended neither in a result nor in one clear error."""


class Hangs(BaseException):
    """A case that did not end; no ``except Exception`` on the way may swallow it."""


class Surroundings:
    """A folder for the cases, and data and a model that are made when first asked for.

    Args:
        folder: to work in; made if needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def fresh(self) -> Path:
        """An empty folder; what the last case left is removed."""
        folder = self.folder / "case"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    @cached_property
    def data(self) -> Path:
        """A prepared corpus."""
        folder = self.folder / "corpus"
        shutil.rmtree(folder, ignore_errors=True)
        raw = write_raw(folder / "raw", dict.fromkeys(("train", "valid"), SENTENCES))
        return prepare(raw, folder / "out", PrepareOptions("de", "en", bpe_size=60)).data_dir

    @cached_property
    def checkpoint(self) -> Path:
        """A ``lightconv_cgc_tiny`` for the corpus, as it is before training."""
        arguments = [
            str(self.data), "--user-dir", str(Path(fairseq_cgc.models.__file__).parents[1]),
            "--arch", "lightconv_cgc_tiny", "--share-all-embeddings", "-s", "de", "-t", "en",
            "--max-source-positions", "40", "--max-target-positions", "40",
            "--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "16", "--cpu",
        ]  # fmt: skip
        parser = fairseq_options.get_training_parser()
        config = convert_namespace_to_omegaconf(
            fairseq_options.parse_args_and_arch(parser, arguments)
        )
        torch.manual_seed(1)
        model = tasks.setup_task(config.task).build_model(config.model)
        path = self.folder / "model.pt"
        state = {
            "args": None,
            "cfg": OmegaConf.to_container(config, resolve=True, enum_to_str=True),
            "model": model.state_dict(),
            "optimizer_history": [{"num_updates": 0, "lr_scheduler_state": {}}],
            "extra_state": {},
            "task_state": {},
        }
        torch.save(state, path)
        return path


def write_raw(
    folder: Path, splits: dict[str, Sequence[tuple[str, str]]]
) -> dict[str, dict[str, Path]]:
    """Raw files of sentence pairs: split -> language -> file."""
    folder.mkdir(parents=True)
    raw: dict[str, dict[str, Path]] = {}
    for split, pairs in splits.items():
        raw[split] = {lang: folder / f"{split}.{lang}" for lang in ("de", "en")}
        for side, path in enumerate(raw[split].values()):
            path.write_text("".join(pair[side] + "\n" for pair in pairs), encoding="utf-8")
    return raw


def ends_clearly(act: Callable[[], Any]) -> bool:
    """Run something as the commands are run.

    Returns:
        Whether it succeeded; if not, it has printed one clear error.

    Raises:
        Lost: if its error is not one line, or not one of ours or argparse's.
        Hangs: if it takes longer than :data:`HANGS_AFTER` seconds.
        Exception: whatever would have been a traceback.
    """
    stderr, stdout = io.StringIO(), io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    status: Any = 0
    with (
        within(HANGS_AFTER),
        contextlib.redirect_stderr(stderr),
        contextlib.redirect_stdout(stdout),
    ):
        try:
            run_main(act)
        except SystemExit as end:
            status = end.code or 0
    if status == 0:
        return True
    printed = stderr.getvalue()
    # Progress bars end their lines with a carriage return.
    last = printed.removesuffix("\n").split("\n")[-1].split("\r")[-1]
    if status == 1 and not last.startswith("error: "):
        raise Lost(f"status 1, but the last line is {last!r}")
    if status == 2 and ": error: " not in printed:
        raise Lost(f"status 2, but not argparse's error: {last!r}")
    if status not in (1, 2) or "Traceback" in printed:
        raise Lost(f"status {status}: {printed[-500:]!r}")
    if not all(letter.isprintable() for letter in last):
        raise Lost(f"the error has unprintable characters: {last!r}")
    return False


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise :class:`Hangs` when the time is up (in the main thread)."""

    def ring(*_: object) -> None:
        raise Hangs(f"not ended after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def nothing_half(folder: Path) -> None:
    """See that no temporary file or folder is left.

    Raises:
        Lost: naming one.
    """
    for path in folder.rglob("*"):
        # A case may itself be called so: ours have the dot before.
        if path.name.endswith(".partial") and not path.name == "a.partial":
            raise Lost(f"{path} is left half-written")


@contextlib.contextmanager
def fairseq_in_this_process() -> Iterator[None]:
    """Let preparations call fairseq-preprocess as a function: 3 seconds less for each case."""
    with patch.object(binarize, "run_fairseq", _preprocess):
        yield


def _preprocess(name: str, arguments: Sequence[str | Path], *, log: Path) -> None:
    assert name == "preprocess"
    parser = fairseq_options.get_preprocessing_parser()
    handlers = list(preprocess.logger.handlers)
    try:
        preprocess.main(parser.parse_args(list(map(str, arguments))))
    finally:
        for handler in preprocess.logger.handlers[:]:
            if handler not in handlers:  # each call adds one, of a file
                preprocess.logger.removeHandler(handler)
                handler.close()


@contextlib.contextmanager
def command_line(arguments: Sequence[str], stdin: bytes = b"") -> Iterator[None]:
    """Call ``main`` as if with these arguments and this standard input."""
    stream = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    with patch.object(sys, "argv", ["fairseq-cgc", *arguments]), patch.object(sys, "stdin", stream):
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No log lines: a case may write thousands."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
