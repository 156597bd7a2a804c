from __future__ import annotations

import json
import logging
import os
import socket
from pathlib import Path

import pytest
import tiny_images

from fairseq_cgc.core import UserError
from fairseq_cgc.support.files import write_json
from fairseq_cgc.vision.data import folder, tree
from fairseq_cgc.vision.data.folder import FolderImages, class_folders
from fairseq_cgc.vision.data.memory import CIFAR_TEST_FILE, CIFAR_TRAIN_FILES, open_cifar
from fairseq_cgc.vision.data.sources import read_mapping
from fairseq_cgc.vision.data.transforms import Crops

CROPS = Crops(image_size=16, resize=20)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="makes links and fifos")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """4 images in each of the classes a, b and c."""
    return tiny_images.write_folders(tmp_path / "data") / "train"


def names(root: Path) -> dict[str, list[str]]:
    images = FolderImages(root, CROPS)
    found: dict[str, list[str]] = {name: [] for name in images.classes}
    for file, label in zip(images.files, images.labels, strict=True):
        inside = os.path.relpath(file, root / images.classes[label])
        found[images.classes[label]].append(inside)
    return found


def originals(name: str) -> list[str]:
    return [f"{name}{number}.png" for number in range(4)]


PLAIN = {name: originals(name) for name in "abc"}


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("a/loop", ".."),
        ("a/loop", "."),
        ("a/loop", "../.."),
        ("a/loop", "/"),
        ("a/deep/loop", ".."),
        ("a/deep/loop", "../.."),
        ("a/other", "../b"),  # the images of b are no images of a
        ("loop", "."),
        ("loop", ".."),
        ("loop", "/"),
        ("broken", "gone"),
    ],
)
def test_loops_add_nothing(root, link, target):
    (root / link).parent.mkdir(exist_ok=True)
    (root / link).symlink_to(target)
    assert names(root) == PLAIN


def test_loops_through_several_links_add_nothing(root, tmp_path, caplog):
    (root / "a" / "to b").symlink_to("../b")
    (root / "b" / "to a").symlink_to("../a")
    for here, there in (("x", "y"), ("y", "x")):  # outside, each with a way to the other and back
        tiny_images.write_image(tmp_path / here / f"{here}.png")
        for again in ("1", "2"):
            (tmp_path / here / again).symlink_to(f"../{there}")
        (tmp_path / here / "up").symlink_to("../data/train")
    (root / "c" / "x").symlink_to(tmp_path / "x")
    assert names(root) == PLAIN | {"c": [*originals("c"), "x/1/y.png", "x/x.png"]}
    assert f"{root}: 4 left out" in " ".join(caplog.messages)


def test_classes_and_images_may_be_links(root, tmp_path):
    """Subsets of ImageNet are often made of links."""
    subset = tmp_path / "subset"
    (subset / "b").mkdir(parents=True)
    (subset / "a").symlink_to(root / "a")
    for number in (0, 2):
        (subset / "b" / f"{number}.png").symlink_to(root / "b" / f"b{number}.png")
    (subset / "b" / "twice.png").symlink_to("0.png")  # a class made larger
    (subset / "b" / "more").symlink_to(root / "c")
    (root / "a" / "loop").symlink_to("..")
    expected = {"a": originals("a"), "b": ["0.png", "2.png", *(f"more/c{i}.png" for i in range(4))]}
    assert names(subset) == expected | {"b": [*expected["b"], "twice.png"]}
    linked = tmp_path / "linked"
    linked.symlink_to(subset)
    assert names(linked) == names(subset)


def test_a_class_under_two_names_is_refused(root):
    (root / "dog").symlink_to("b")
    with pytest.raises(UserError, match="train: b and dog are the same folder"):
        FolderImages(root, CROPS)
    assert FolderImages(root, CROPS, ["a", "dog"]).classes == ("a", "dog")


def test_special_files_and_broken_links_are_never_opened(root, caplog):
    os.mkfifo(root / "a" / "fifo.png")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(root / "a", os.O_RDONLY)  # a socket's path must be short
        listener.bind(f"/proc/self/fd/{here}/socket.jpg")
        os.close(here)
        (root / "a" / "device.png").symlink_to("/dev/zero")
        (root / "a" / "gone.png").symlink_to("nowhere.png")
        (root / "a" / "self.png").symlink_to("self.png")
        (root / "a" / "folder.png").mkdir()
        (root / "a" / "text.txt").symlink_to("nowhere.txt")
        with caplog.at_level(logging.WARNING, logger=folder.__name__):
            assert names(root) == PLAIN
    assert caplog.messages == [
        f"{root}: 5 left out: links that lead nowhere, in a circle or to another class, or "
        f"what is named like an image but is no file; the first is {root / 'a' / 'device.png'}"
    ]
    for file in (root / "b").iterdir():
        file.unlink()
    os.mkfifo(root / "b" / "b.png")
    with pytest.raises(UserError, match="train/b holds no images"):
        FolderImages(root, CROPS)


def test_hidden_files_and_folders_are_left_out(root):
    for name in (".hidden.png", "._a0.png", ".thumbnails/x.png"):
        tiny_images.write_image(root / "a" / name)
    tiny_images.write_image(root / ".git" / "x.png")
    assert names(root) == PLAIN


@pytest.mark.parametrize("folder", [".", "a", "a/deep"])
def test_a_folder_that_cannot_be_read_is_named(root, folder, monkeypatch):
    """The tests may run as root, who can read everything."""
    (root / "a" / "deep").mkdir()
    scandir = os.scandir

    def locked(path):
        if os.path.realpath(path) == os.path.realpath(root / folder):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(tree.os, "scandir", locked)
    with pytest.raises(UserError) as caught:
        FolderImages(root, CROPS)
    assert str(caught.value) == f"{root / folder}: cannot be read (Permission denied)"


def test_names_need_not_be_utf_8(root, tmp_path):
    odd = os.fsdecode(b"caf\xe9")
    tiny_images.write_image(root / odd / f"{odd}.png")
    images = FolderImages(root, CROPS)
    assert images.classes == ("a", "b", "c", odd) and len(images.batch([12], seed=None)) == 1
    assert len(images.fingerprint()) == 64
    write_json(tmp_path / "settings.json", {"classes": images.classes})
    text = (tmp_path / "settings.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"classes": list(images.classes)}


def test_class_folders_are_folders_or_links_to_some(root):
    (root / "file").write_text("")
    (root / "d").symlink_to("a")
    assert class_folders(root) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), r"cannot be read \(not a regular file\)"),
        (os.mkfifo, r"cannot be read \(not a regular file\)"),
        (lambda path: path.symlink_to("/dev/zero"), r"cannot be read \(not a regular file\)"),
        (lambda path: path.symlink_to("gone"), r"cannot be read \(a broken link\)"),
        (lambda path: None, r"cannot be read \(No such file"),
        (lambda path: path.write_bytes(b"ab\xff"), "not UTF-8 at byte 2"),
    ],
)
def test_texts_that_cannot_be_read_are_told(tmp_path, make, message):
    path = tmp_path / "list.txt"
    make(path)
    with pytest.raises(UserError, match=f"list.txt: {message}"):
        tree.read_text(path)


def test_other_readers_refuse_fifos(tmp_path):
    mapping = tmp_path / "mapping.json"
    os.mkfifo(mapping)
    with pytest.raises(UserError, match=r"mapping.json.* \(not a regular file\)"):
        read_mapping(mapping, 10)
    for name in (*CIFAR_TRAIN_FILES, CIFAR_TEST_FILE):
        os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match=r"data_batch_1.bin: cannot be read \(not a regular file\)"):
        open_cifar(tmp_path, CROPS)


def test_a_mapping_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "mapping.json"
    path.write_bytes(b'\xef\xbb\xbf{"alarm_clock":\r\n [4, 5]}\r\n')
    assert read_mapping(path, 10) == {"alarm_clock": [4, 5]}
