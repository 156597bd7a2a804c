"""Tools that several tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import toy
from torch import Tensor

# The real corpora lie beside the checkout on the machines of the project; a user has none.
SHARED = Path(__file__).resolve().parent.parent.parent / "shared"

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 4e-2}


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


def padding_mask(lengths: list[int], side: str, time: int | None = None) -> Tensor:
    """B x T, True at padding: sentences of ``lengths``, padded on the ``side`` named."""
    time = max(lengths) if time is None else time
    position = torch.arange(time).expand(len(lengths), -1)
    length = torch.tensor(lengths).unsqueeze(1)
    return position >= length if side == "right" else position < time - length


def gradients(output: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Gradients of a random projection of ``output``, the same for equal shapes."""
    generator = torch.Generator().manual_seed(7)
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    return list(torch.autograd.grad((output * weights.to(output.dtype)).sum(), inputs))


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
