"""Training on a GPU against a CPU; each test runs on a CPU too."""

import copy

import pytest
import torch
from tiny_images import ALONE, memory_images, tiny_settings, trainer
from torch import Tensor
from training_runs import weights

from fairseq_cgc.vision import create_model
from fairseq_cgc.vision.training.distributed import Processes
from fairseq_cgc.vision.training.evaluation import evaluate
from fairseq_cgc.vision.training_log import read_log

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
GATED = {"model": "resnet8_cifar_cgc", "lr": 0.01}


@pytest.fixture(params=DEVICES)
def processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Processes:
    # So that the same numbers come out again, and as exact as they are on a CPU.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    return ALONE if request.param == "cpu" else Processes(torch.device("cuda", 0))


def assert_near(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value.device.type == "cpu"
        torch.testing.assert_close(value, theirs[name], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("changes", [{}, {"mixup": 0.4, "accumulate": 2}], ids=str)
def test_weights_are_those_of_a_cpu(changes, processes, tmp_path):
    settings = tiny_settings(epochs=1, **GATED, **changes)
    for name, where in (("here", processes), ("cpu", ALONE)):
        trainer(tmp_path / name, settings, where).run()
    found = [weights(tmp_path / name / "last.pt") for name in ("here", "cpu")]
    assert_near(*found, tolerance=2e-3)
    (ours,), (theirs,) = (read_log(tmp_path / name) for name in ("here", "cpu"))
    assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-3)


@pytest.mark.parametrize(
    "changes",
    [{"precision": "float32"}, {"precision": "float16"}, {"precision": "bfloat16"},
     {"precision": "bfloat16", "channels_last": True, "label_smoothing": 0.1}],
    ids=str,
)  # fmt: skip
def test_goes_on_where_it_was(changes, processes, tmp_path):
    settings = tiny_settings(epochs=2, **GATED, **changes)
    trainer(tmp_path / "whole", settings, processes).run()
    part = trainer(tmp_path / "part", settings, processes)
    part._train_epoch()
    part._finish_epoch(
        evaluate(part.learner.model, part.data.val, processes, batch_size=8, workers=0)
    )
    assert trainer(tmp_path / "part", settings, processes).run().epoch == 2
    found = [weights(tmp_path / name / "last.pt") for name in ("part", "whole")]
    assert_near(*found, tolerance=1e-5 if processes.device.type == "cpu" else 1e-2)
    assert all(value.isfinite().all() for value in found[0].values())


def test_scores_are_those_of_a_cpu(processes):
    model = create_model("resnet8_cifar_cgc", num_classes=3, in_channels=1)
    found = [
        evaluate(copy.deepcopy(model).to(p.device), memory_images(40), p, batch_size=16, workers=0)
        for p in (processes, ALONE)
    ]
    assert found[0].loss == pytest.approx(found[1].loss, rel=1e-4)
    assert found[0].top1 == pytest.approx(found[1].top1, abs=2.5)
