"""Fixtures that several tests share, and what a machine cannot test."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tinyrun
import torch
import toy
from tinyrun import TinyRun
from tools import SHARED

_NEEDS_FAIRSEQ = re.compile(r"^(from|import) (fairseq|beam_search|small_models)\b", re.MULTILINE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without-fairseq",
        action="store_true",
        help="make fairseq unimportable, and leave out the modules that compare with it",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--without-fairseq"):
        assert "fairseq" not in sys.modules
        sys.modules["fairseq"] = None  # type: ignore[assignment]  # how Python spells it


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if config.getoption("--without-fairseq") and collection_path.suffix == ".py":
        return bool(_NEEDS_FAIRSEQ.search(collection_path.read_text(encoding="utf-8"))) or None
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine cannot do: GPU tests without one, downloads unless asked for."""
    lacking = {}
    if not torch.cuda.is_available():
        lacking["gpu"] = "needs a CUDA device"
    if "network" not in config.getoption("-m"):
        lacking["network"] = "downloads; choose it with -m network"
    for item in items:
        for marker in lacking.keys() & {mark.name for mark in item.iter_markers()}:
            item.add_marker(pytest.mark.skip(reason=lacking[marker]))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real corpora; the test is skipped where there is none."""
    data = SHARED / "data"
    if not data.is_dir():
        pytest.skip("needs the corpora beside the checkout")
    return data


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Undo what a command did to logging in this process.

    fairseq-validate, for one, replaces the handlers by one for standard output as it is then: the
    test's, which is closed afterwards. What logging says about that would be taken for output of
    a later test.
    """
    root = logging.root
    handlers, level, disabled = root.handlers[:], root.level, root.manager.disable
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.disable(disabled)


@pytest.fixture
def torchs_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dropout masks of torch, and so of fairseq, on a CPU too."""
    monkeypatch.setenv("FAIRSEQ_CGC_DROPOUT", "torch")


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A binarised toy corpus."""
    folder = tmp_path_factory.mktemp("toy")
    return toy.binarise(toy.write_corpus(folder / "text"), folder / "bin")


@pytest.fixture(scope="session")
def toy_model(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The save folder of a model trained on the toy corpus for a few epochs."""
    save_dir = tmp_path_factory.mktemp("toy-model")
    toy.succeed(toy.train(toy_data, save_dir, "--max-epoch", "3"))
    return save_dir


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """A small model that translates more or less, trained when first asked for."""
    return tinyrun.train(tmp_path_factory.mktemp("tiny") / "run")
