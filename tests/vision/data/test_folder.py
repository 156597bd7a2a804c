from __future__ import annotations

import re
import struct

import numpy as np
import pytest
import tiny_images
import torch
from PIL import Image

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.folder import FolderImages, read_image
from fairseq_cgc.vision.data.sources import open_data, preset_for
from fairseq_cgc.vision.data.transforms import Crops

CROPS = Crops(image_size=16, resize=20)


def test_labels_follow_the_sorted_names(tmp_path):
    root = tiny_images.write_folders(tmp_path)
    tiny_images.write_image(root / "train" / "b" / "deep" / "er" / "x.JPEG")
    (root / "train" / "b" / "notes.txt").write_text("no image")
    (root / "train" / ".hidden").mkdir()
    data = open_data(str(root), CROPS)
    assert data.train.classes == ("a", "b", "c")
    assert data.train.labels.tolist() == [0] * 4 + [1] * 5 + [2] * 4
    assert data.val.batch([0, 5], seed=None).shape == (2, 3, 16, 16)
    assert preset_for(str(root)) == "default"
    before = data.val.fingerprint()
    (root / "val" / "a" / "a0.png").rename(root / "val" / "a" / "z.png")
    assert open_data(str(root), CROPS).val.fingerprint() != before


def test_views_depend_on_seed_and_image_alone(tmp_path):
    images = open_data(str(tiny_images.write_folders(tmp_path)), CROPS).train
    batch = images.batch([2, 9], seed=4)
    assert torch.equal(batch[1], images.batch([9], seed=4)[0])
    assert not torch.equal(batch[1], images.batch([9], seed=5)[0])


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_of_8_bits_becomes_rgb(mode, tmp_path):
    name = "x.jpg" if mode in ("CMYK", "YCbCr") else "x.png"
    path = tiny_images.write_image(tmp_path / name, mode=mode)
    image = read_image(str(path))
    assert image.mode == "RGB" and image.size == (40, 30)
    if mode == "L":
        red, green, _ = np.moveaxis(np.array(image), 2, 0)
        assert (red == green).all()


def test_orientation_in_exif_data_is_not_applied(tmp_path):
    path = tiny_images.write_image(tmp_path / "x.jpg")
    with Image.open(path) as image:
        exif = image.getexif()
        exif[0x0112] = 6  # turn by 90 degrees
        image.save(path, exif=exif)
    assert read_image(str(path)).size == (40, 30)


def test_border_is_cut_off(tmp_path):
    path = tiny_images.write_image(tmp_path / "x.png")
    whole, inner = (np.array(read_image(str(path), border=b)) for b in (0, 2))
    assert (whole[2:-2, 2:-2] == inner).all()
    with pytest.raises(UserError, match=r"x.png has 40 x 30 pixels, no more than its border"):
        read_image(str(path), border=15)


def test_broken_images_are_named(tmp_path):
    whole = tiny_images.write_image(tmp_path / "x.jpg", (200, 200)).read_bytes()
    png = tiny_images.write_image(tmp_path / "x.png", (200, 200)).read_bytes()
    deep = Image.fromarray(np.full((9, 9), 40000, np.uint16))
    deep.save(tmp_path / "deep.png")
    tif = tiny_images.write_image(tmp_path / "x.tif").read_bytes()
    offset = [struct.pack("<HHI", 273, type_, 1) for type_ in (4, 11)]  # a float, not a long
    assert offset[0] in tif
    for name, content, message in (
        ("cut.jpg", whole[: len(whole) // 2], "damaged, or not to be read"),
        ("cut.png", png[: len(png) // 2], "damaged, or not to be read"),
        ("text.jpg", b"hello", "not an image, or one of an unknown kind"),
        ("empty.jpg", b"", "not an image, or one of an unknown kind"),
        ("offset.tif", tif.replace(*offset), "damaged, or not to be read"),
        ("deep.png", None, "more than 8 bits a channel"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{re.escape(str(tmp_path / name))}.*{message}"):
            read_image(str(tmp_path / name))
    with pytest.raises(UserError, match="gone.jpg: damaged, or not to be read .*No such file"):
        read_image(str(tmp_path / "gone.jpg"))
    bomb = tmp_path / "bomb.png"
    Image.new("1", (20000, 20000)).save(bomb)
    with pytest.raises(UserError, match="bomb.png: damaged, or not to be read"):
        read_image(str(bomb))


def test_wrong_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="nowhere, which is neither a folder nor 'digits'"):
        open_data(str(tmp_path / "nowhere"), CROPS)
    root = tiny_images.write_folders(tmp_path / "data")
    for name in ("d", "e", "f", "g"):
        tiny_images.write_image(root / "train" / name / "x.png")
    with pytest.raises(UserError, match="but val has no d, e, f and 1 more"):
        open_data(str(root), CROPS)
    (root / "val" / "d").mkdir()
    with pytest.raises(UserError, match=r"val/d holds no images \(.bmp"):
        open_data(str(root), CROPS)
    with pytest.raises(UserError, match="there is no such class folder"):
        FolderImages(root / "val", CROPS, ["a", "z"])
    (tmp_path / "flat" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match="has no folder val; it must have train and val"):
        open_data(str(tmp_path / "flat"), CROPS)
    (tmp_path / "flat" / "val").mkdir(parents=True)
    with pytest.raises(UserError, match="train holds no folders; each class must have one"):
        open_data(str(tmp_path / "flat"), CROPS)
