from __future__ import annotations

import pytest
import tiny_images
import torch

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.loader import (
    Normalize,
    batch_sizes,
    evaluation_batches,
    load_batches,
    training_batches,
)
from fairseq_cgc.vision.data.sources import open_data
from fairseq_cgc.vision.data.transforms import Crops
from fairseq_cgc.vision.training.distributed import Processes

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("images", "processes", "accumulate", "expected"),
    [
        (24, 1, 1, [8, 8, 8]),
        (29, 1, 1, [8, 8, 8, 5]),
        (25, 1, 1, [8, 8, 8]),  # of one image no statistics can be taken
        (29, 2, 1, [8, 8, 8, 4]),
        (27, 2, 1, [8, 8, 8]),
        (31, 2, 2, [8, 8, 8]),
        (8, 4, 2, [8]),
    ],
)
def test_batch_sizes(images, processes, accumulate, expected):
    settings = tiny_images.tiny_settings(accumulate=accumulate)
    assert batch_sizes(images, settings, processes) == expected


def test_cifar_10_has_391_batches():
    sizes = batch_sizes(50_000, tiny_images.tiny_settings(batch_size=128), 1)
    assert (len(sizes), sizes[-1]) == (391, 80)


def test_impossible_batches_are_refused():
    with pytest.raises(UserError, match="--batch-size is 8, but must be a multiple of 6"):
        batch_sizes(99, tiny_images.tiny_settings(accumulate=2), 3)
    with pytest.raises(UserError, match="--batch-size is 8, but there are only 7 training images"):
        batch_sizes(7, tiny_images.tiny_settings(), 1)


def test_processes_share_the_batches_of_one():
    settings = tiny_images.tiny_settings()
    alone = training_batches(28, settings, 3, Processes(CPU))
    shares = [training_batches(28, settings, 3, Processes(CPU, rank, 2)) for rank in (0, 1)]
    assert [a + b for a, b in zip(*shares, strict=True)] == alone
    assert sorted(sum(alone, [])) == [*range(28)]
    assert alone != training_batches(28, settings, 4, Processes(CPU))
    other = tiny_images.tiny_settings(seed=2)
    assert alone != training_batches(28, other, 3, Processes(CPU))


def test_evaluation_sees_every_image_once():
    batches = [evaluation_batches(11, 2, Processes(CPU, rank, 3)) for rank in range(3)]
    seen = [index for of_process in batches for batch in of_process for index in batch]
    assert sorted(seen) == [*range(11)]
    assert max(len(batch) for of_process in batches for batch in of_process) == 2


def test_workers_have_no_influence(tmp_path):
    crops = Crops(image_size=16, resize=20)
    images = open_data(str(tiny_images.write_folders(tmp_path)), crops).train
    batches = [[3, 1], [7, 11], [0]]
    alone, helped = (
        [*load_batches(images, batches, seed=9, workers=workers, device=CPU)] for workers in (0, 2)
    )
    for ours, theirs, indices in zip(alone, helped, batches, strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert ours[1].tolist() == theirs[1].tolist() == images.labels[indices].tolist()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_one_line(workers, tmp_path):
    root = tiny_images.write_folders(tmp_path)
    (root / "train" / "b" / "b1.png").write_bytes(b"no image")
    images = open_data(str(root), Crops(image_size=16, resize=20)).train
    batches = [[0, 1], [4, 5]]
    with pytest.raises(UserError) as caught:
        list(load_batches(images, batches, seed=1, workers=workers, device=CPU))
    path = root / "train" / "b" / "b1.png"
    assert str(caught.value) == f"{path}: not an image, or one of an unknown kind"


def test_normalized_values_and_memory_layout():
    images = tiny_images.memory_images(6)  # mean 0.4, deviation 0.2
    pixels = torch.tensor([0, 102, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    got = Normalize(images, CPU, channels_last=False)(pixels).flatten()
    torch.testing.assert_close(got, torch.tensor([-2.0, 0.0, 3.0]))
    wide = torch.zeros(2, 1, 6, 6, dtype=torch.uint8).expand(2, 3, 6, 6)
    inputs = Normalize(images, CPU, channels_last=True)(wide)
    assert inputs.is_contiguous(memory_format=torch.channels_last)
