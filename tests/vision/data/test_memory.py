from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.memory import (
    CIFAR_TEST_FILE,
    CIFAR_TRAIN_FILES,
    find_cifar,
    open_cifar,
)
from fairseq_cgc.vision.data.sources import open_data, preset_for
from fairseq_cgc.vision.data.transforms import Crops


def write_cifar(folder: Path, images: int = 4) -> Path:
    """Image i of file f: label i, red 10 f + i, green counts columns, blue counts rows."""
    folder.mkdir(parents=True)
    for f, name in enumerate((*CIFAR_TRAIN_FILES, CIFAR_TEST_FILE)):
        records = []
        for i in range(images):
            red = np.full((32, 32), 10 * f + i, np.uint8)
            green = np.tile(np.arange(32, dtype=np.uint8), (32, 1))
            records.append(bytes([i]) + red.tobytes() + green.tobytes() + green.T.tobytes())
        (folder / name).write_bytes(b"".join(records))
    return folder


def test_records_are_label_then_planes(tmp_path):
    train, test = open_cifar(write_cifar(tmp_path / "x"), Crops())
    assert len(train) == 20 and len(test) == 4 and train.channels == 3
    assert train.labels.tolist() == [0, 1, 2, 3] * 5
    assert train.classes[:2] == ("airplane", "automobile") and len(train.classes) == 10
    image = train.batch([6], seed=None)[0]  # the third of the second file
    assert image.shape == (3, 32, 32)
    assert image[0].unique().tolist() == [12]
    assert image[1, 5].tolist() == image[2, :, 5].tolist() == [*range(32)]
    assert test.batch([1], seed=None)[0, 0, 0, 0] == 51


def test_augmentation_depends_on_seed_and_image_alone(tmp_path):
    train, _ = open_cifar(write_cifar(tmp_path / "x"), Crops())
    batch = train.batch([3, 7], seed=5)
    assert torch.equal(batch[1], train.batch([7], seed=5)[0])
    others = [train.batch([3], seed=seed) for seed in range(8)]
    assert len({tuple(other.flatten().tolist()) for other in others}) > 4
    assert torch.equal(train.batch([3], seed=None), train.batch([3], seed=None))


def test_archive_folder_is_found(tmp_path):
    folder = write_cifar(tmp_path / "cifar-10-batches-bin")
    assert find_cifar(tmp_path) == find_cifar(folder) == folder
    assert len(open_data(str(tmp_path), Crops()).train) == 20
    assert preset_for(str(tmp_path)) == "cifar10"
    assert find_cifar(tmp_path.parent / "nowhere") is None


def test_wrong_files_are_named(tmp_path):
    folder = write_cifar(tmp_path / "x")
    third = folder / CIFAR_TRAIN_FILES[2]
    whole = third.read_bytes()
    for content, message in (
        (whole[:-1], "data_batch_3.bin has 12291 bytes, but .* 3073 for every image: truncated"),
        (b"", "data_batch_3.bin has 0 bytes"),
        (whole[:-3073], "data_batch_3.bin has 3 images, but data_batch_1.bin has 4"),
        (b"\x0a" + whole[1:], "data_batch_3.bin: image 1 has label 10, but CIFAR-10 has 10"),
    ):
        third.write_bytes(content)
        with pytest.raises(UserError, match=message):
            open_cifar(folder, Crops())
    third.unlink()
    with pytest.raises(UserError, match=r"data_batch_3.bin: cannot be read \(No such file"):
        open_cifar(folder, Crops())


def test_pickled_version_is_refused(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"\x80\x02")
    with pytest.raises(UserError, match="Python version of CIFAR-10, which is pickled"):
        open_data(str(tmp_path), Crops())


def test_the_split_of_digits_is_fixed_and_balanced():
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


def test_the_statistics_of_digits_are_those_of_the_pixels():
    data = open_data("digits", Crops())
    pixels = torch.cat([data.train.images, data.val.images]).float() / 255
    assert int(pixels.max()) == 1
    assert data.train.statistics.mean[0] == pytest.approx(pixels.mean().item(), abs=2e-3)
    assert data.train.statistics.std[0] == pytest.approx(pixels.std().item(), abs=2e-3)


def test_lacking_scikit_learn_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UserError, match="--data digits needs scikit-learn"):
        open_data("digits", Crops())
