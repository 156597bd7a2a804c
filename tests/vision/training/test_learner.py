from __future__ import annotations

import pytest

from fairseq_cgc.vision.training.learner import learning_rate
from fairseq_cgc.vision.training.settings import Settings


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 0.1), (29, 0.1), (30, 0.01), (59, 0.01), (60, 1e-3), (99, 1e-4)]
)
def test_default_drops_every_30_epochs(epoch, rate):
    for update in (epoch * 5004, epoch * 5004 + 5003):
        assert learning_rate(Settings.presets()["default"], update, 5004) == pytest.approx(rate)


@pytest.mark.parametrize(("epoch", "rate"), [(80, 0.1), (81, 0.01), (121, 0.01), (122, 1e-3)])
def test_cifar10_drops_after_81_and_122_epochs(epoch, rate):
    assert learning_rate(Settings.presets()["cifar10"], epoch * 391, 391) == pytest.approx(rate)


def test_warm_up_then_cosine():
    settings = Settings(epochs=6, lr=0.8, schedule="cosine", warmup_epochs=2)
    rates = [learning_rate(settings, update, 2) for update in range(12)]
    warm_up = [0.2, 0.4, 0.6, 0.8]
    # Half a cosine over the 8 updates that are left: 1, then cos(pi / 8) = 0.92388, ...
    cosine = [1, 0.92388, 0.70711, 0.38268, 0, -0.38268, -0.70711, -0.92388]
    assert rates == pytest.approx(warm_up + [0.4 * (1 + c) for c in cosine], abs=1e-5)


def test_warm_up_then_steps():
    settings = Settings(epochs=4, lr=1.0, warmup_epochs=1, milestones=(2, 3))
    rates = [learning_rate(settings, update, 2) for update in range(8)]
    assert rates == pytest.approx([0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
