from __future__ import annotations

import sys

import pytest
import torch

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.sources import open_data, preset_for
from fairseq_cgc.vision.data.transforms import Crops


def test_split_is_fixed_and_balanced():
    data = open_data("digits", Crops(padding=1, flip=False))
    assert (len(data.train), len(data.val)) == (1437, 360)
    assert data.train.classes == tuple("0123456789") and data.train.channels == 1
    for split in (data.train, data.val):
        shares = split.labels.bincount() / len(split)
        assert shares.min() > 0.09 and shares.max() < 0.11
    train, val = ({bytes(i.flatten().tolist()) for i in s.images} for s in (data.train, data.val))
    assert len(train & val) == 0
    again = open_data("digits", Crops())
    assert (again.train.fingerprint(), again.val.fingerprint()) == (
        data.train.fingerprint(),
        data.val.fingerprint(),
    )
    assert data.train.fingerprint() != data.val.fingerprint()
    assert preset_for("digits") == "digits"


def test_statistics_are_those_of_the_pixels():
    data = open_data("digits", Crops())
    pixels = torch.cat([data.train.images, data.val.images]).float() / 255
    assert int(pixels.max()) == 1
    assert data.train.statistics.mean[0] == pytest.approx(pixels.mean().item(), abs=2e-3)
    assert data.train.statistics.std[0] == pytest.approx(pixels.std().item(), abs=2e-3)


def test_lacking_scikit_learn_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UserError, match="--data digits needs scikit-learn"):
        open_data("digits", Crops())
