from __future__ import annotations

import os
import random
import re

import pytest
import tiny_videos
import torch
from tiny_videos import open_videos, write_videos

from fairseq_cgc.core import UserError
from fairseq_cgc.video.data.dataset import Views
from fairseq_cgc.video.data.sampling import create_sampling
from fairseq_cgc.vision.data.loader import load_batches
from fairseq_cgc.vision.data.seeds import derive_seed
from fairseq_cgc.vision.data.transforms import Crops

CPU = torch.device("cpu")


def numbers(clips: torch.Tensor) -> list[list[int]]:
    """The frames of clips, which their green tells."""
    green = clips[:, :, 1].flatten(2)
    assert torch.equal(green.amin(2), green.amax(2))
    return (green[:, :, 0] // 20).tolist()


def test_training_takes_one_cut_of_the_sampled_frames(tmp_path):
    videos = open_videos(write_videos(tmp_path))
    mirrored = set()
    for seed in range(20):
        clips = videos.batch([1, 0], seed=seed)
        assert clips.shape == (2, 4, 3, 12, 12) and clips.dtype == torch.uint8
        sampling = create_sampling("segments", 4)
        expected = [
            sampling.training_clip(length, random.Random(derive_seed(seed, index)))
            for index, length in ((1, 8), (0, 5))
        ]
        assert numbers(clips) == expected
        assert clips[:, :, 2].unique(dim=1).flatten().unique().tolist() == [0, 1]
        red = clips[:, :, 0].int()
        assert torch.equal(red, red[:, :1].expand_as(red))  # all frames alike
        mirrored |= {bool(row[0] > row[-1]) for row in red[:, 0, 0]}
    assert mirrored == {False, True}
    straight = open_videos(tmp_path, crops=Crops(image_size=12, resize=16, flip=False))
    for seed in range(20):
        red = straight.batch([0], seed=seed)[0, 0, 0, 0].int()
        assert red[0] < red[-1]


def test_one_view_is_the_centre_of_the_middle(tmp_path):
    videos = open_videos(write_videos(tmp_path))
    clips = videos.batch([0, 1, 2], seed=None)
    assert clips.shape == (3, 4, 3, 12, 12)
    # Ticks of 1.25, 2 and 0.75 frames.
    assert numbers(clips) == [[0, 1, 3, 4], [1, 3, 5, 7], [0, 1, 1, 2]]
    # 24 x 20 pixels become 19 x 16, of which the central 12 columns begin at 4 (3.5 to even).
    full = open_videos(tmp_path, crops=Crops(image_size=16, resize=16)).batch([0], seed=None)
    start = torch.equal(clips[0, 0, :, :, 0], full[0, 0, :, 2:14, 2])
    assert start and torch.equal(clips[0, 0], full[0, 0, :, 2:14, 2:14])


def test_views_stand_clip_by_clip(tmp_path):
    root = write_videos(tmp_path)
    videos = open_videos(root, num_frames=2, views=Views(clips=2, crops=3))
    assert videos.views == 6
    clips = videos.batch([1, 0], seed=None)
    assert clips.shape == (12, 2, 3, 16, 16)  # squares of --resize, not of --image-size
    # Ticks of 4 frames and of 2.5, from their beginnings and their middles.
    expected = [[0, 4]] * 3 + [[2, 6]] * 3 + [[0, 2]] * 3 + [[1, 3]] * 3
    assert numbers(clips) == expected
    # Room for 3 columns is no whole quarter: 19 x 16 pixels have three crops alike.
    assert torch.equal(clips[0], clips[1])
    wide = open_videos(root, crops=Crops(image_size=8, resize=10), views=Views(crops=3))
    assert wide.batch([0], seed=None).shape == (3, 4, 3, 10, 10)


def test_three_crops_are_left_right_and_centre(tmp_path):
    folder = tmp_path / "train" / "wide"
    folder.mkdir(parents=True)
    tiny_videos.frame(0, 0, (40, 20)).save(folder / "img_00001.png")
    (tmp_path / "train_videofolder.txt").write_text("train/wide 1 0\n")
    crops = Crops(image_size=20, resize=20)
    views = open_videos(tmp_path, num_frames=1, crops=crops, views=Views(crops=3))
    starts = views.batch([0], seed=None)[:, 0, 0, 0, 0].tolist()
    assert starts == [0, 20, 10]


def test_workers_have_no_influence(tmp_path):
    videos = open_videos(write_videos(tmp_path))
    batches = [[2, 0], [1]]
    alone, helped = (
        [*load_batches(videos, batches, seed=9, workers=workers, device=CPU)] for workers in (0, 1)
    )
    for ours, theirs, indices in zip(alone, helped, batches, strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert ours[1].tolist() == theirs[1].tolist() == videos.labels[indices].tolist()


def test_a_changed_list_is_noticed(tmp_path):
    root = write_videos(tmp_path)
    before = open_videos(root).fingerprint()
    assert open_videos(root).fingerprint() == before
    path = root / "train_videofolder.txt"
    path.write_text(path.read_text().replace(" 8 1", " 7 1"))
    assert open_videos(root).fingerprint() != before


def test_broken_frames_are_named(tmp_path):
    root = write_videos(tmp_path)
    frames = root / "train" / "video 0"
    with pytest.raises(UserError) as caught:
        open_videos(root, template="{:05d}.jpg").batch([0], seed=None)
    assert str(caught.value) == (
        f"{frames / '00001.jpg'}: there is no such frame; {root / 'train_videofolder.txt'}, line "
        "1 says that there are 5 (--template is {:05d}.jpg)"
    )
    (frames / "img_00004.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=re.escape(f"{frames / 'img_00004.png'}: not an image")):
        open_videos(root).batch([0], seed=None)
    tiny_videos.frame(0, 3, (20, 24)).save(frames / "img_00004.png")
    with pytest.raises(UserError, match="img_00004.png has 20 x 24 pixels, but other frames of"):
        open_videos(root).batch([0], seed=None)


@pytest.mark.skipif(os.name != "posix", reason="makes links and fifos")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.symlink_to("img_00001.png"), None),
        (lambda path: path.symlink_to("gone"), r"cannot be read \(a broken link\)"),
        (lambda path: path.symlink_to("/dev/zero"), r"cannot be read \(not a regular file\)"),
        (os.mkfifo, r"cannot be read \(not a regular file\)"),
        (lambda path: path.mkdir(), r"cannot be read \(not a regular file\)"),
    ],
)
def test_frames_that_are_no_files_are_not_opened(make, message, tmp_path):
    root = write_videos(tmp_path, lengths=(2,))
    path = root / "train" / "video 0" / "img_00002.png"
    path.unlink()
    make(path)
    videos = open_videos(root, num_frames=2)
    if message is None:
        assert numbers(videos.batch([0], seed=None)) == [[0, 0]]
        return
    with pytest.raises(UserError, match=f"img_00002.png: {message}"):
        videos.batch([0], seed=None)


def test_a_folder_of_frames_may_be_a_link_and_not_a_file(tmp_path):
    root = write_videos(tmp_path, lengths=(2,))
    folder = root / "train" / "video 0"
    folder.rename(root / "elsewhere")
    folder.symlink_to(root / "elsewhere")
    assert len(open_videos(root).batch([0], seed=None)) == 1
    folder.unlink()
    folder.write_text("a video")
    with pytest.raises(UserError, match=r"img_00001.png: cannot be read \(Not a directory\)"):
        open_videos(root).batch([0], seed=None)


def test_broken_videos_are_replaced_in_training(tmp_path):
    root = write_videos(tmp_path, lengths=(4, 4, 4))
    (root / "train" / "video 1" / "img_00003.png").unlink()
    videos = open_videos(root, skip_broken=True)
    pixels, labels, broken = videos.load([0, 1], seed=3)
    assert labels.tolist() == [0, 2] and len(broken) == 1 and "img_00003.png" in broken[0]
    assert torch.equal(pixels, videos.batch([0, 2], seed=3))
    (root / "train" / "video 2" / "img_00001.png").unlink()
    pixels, labels, broken = videos.load([1], seed=3)
    assert labels.tolist() == [0] and len(broken) == 1  # one video has been replaced
    (root / "train" / "video 0" / "img_00001.png").unlink()
    with pytest.raises(UserError, match=r"no video can be read; the first error: .*img_00003"):
        videos.load([1], seed=3)


def test_broken_videos_are_left_out_of_an_evaluation(tmp_path):
    root = write_videos(tmp_path)
    (root / "train" / "video 1" / "img_00002.png").write_bytes(b"")
    videos = open_videos(root, skip_broken=True, views=Views(clips=2))
    pixels, labels, broken = videos.load([0, 1, 2], seed=None)
    assert labels.tolist() == [0, 2] and len(broken) == 1 and "img_00002.png" in broken[0]
    assert torch.equal(pixels, videos.batch([0, 2], seed=None)) and len(pixels) == 4
    empty = videos.load([1], seed=None)
    assert empty.labels.tolist() == [] and len(empty.broken) == 1
