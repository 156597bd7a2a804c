import gzip
import io
import tarfile

import pytest

from fairseq_cgc.mt.prepare import archives
from fairseq_cgc.mt.prepare.archives import extract_files, list_archive
from fairseq_cgc.support.errors import UserError


def member(name, content=b"text\n", **fields):
    """A member and its content."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def link(name, target, kind):
    return member(name, b"", type=kind, linkname=target)


def folder(name):
    return member(name, b"", type=tarfile.DIRTYPE)


def tar_bytes(members, format=tarfile.PAX_FORMAT):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def pack(path, members, **options):
    content = tar_bytes(members, **options)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".tgz" else content)
    return path


GOOD = [
    folder("./"),
    folder("de-en"),
    member("de-en/a", b"1\n" * 40_000),
    member("./de-en/b", b"2\n"),
    member("de-en/" + "long" * 60, b""),
]
NAMES = ["de-en/a", "de-en/b", "de-en/" + "long" * 60]


@pytest.mark.parametrize("suffix", ["tgz", "tar"])
@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_listing_and_extraction(tmp_path, suffix, format):
    path = pack(tmp_path / f"x.{suffix}", GOOD, format=format)
    assert list_archive(path) == NAMES
    extract_files(path, {"de-en/b": tmp_path / "out", "de-en/a": tmp_path / "first"})
    assert (tmp_path / "out").read_bytes() == b"2\n"
    assert (tmp_path / "first").read_bytes() == b"1\n" * 40_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "out", f"x.{suffix}"]


HOSTILE = {
    "absolute": (member("/etc/passwd"), "'/etc/passwd' is an absolute path"),
    "parent": (member("de-en/../../up"), r"'de-en/\.\./\.\./up' leads out of the archive's folder"),
    "parent only": (folder(".."), r"'\.\.' leads out"),
    "symbolic link": (link("de-en/s", "/etc/passwd", tarfile.SYMTYPE), "'de-en/s' is a link"),
    "hard link": (link("de-en/h", "de-en/a", tarfile.LNKTYPE), "'de-en/h' is a link"),
    "device": (member("null", b"", type=tarfile.CHRTYPE), "'null' is neither a file nor a folder"),
    "block device": (member("sda", b"", type=tarfile.BLKTYPE), "'sda' is neither"),
    "fifo": (member("pipe", b"", type=tarfile.FIFOTYPE), "'pipe' is neither"),
    "nul in a name": (
        member("short", pax_headers={"path": "train\0.exe"}),
        r"'train\\x00\.exe' is no name for a file",
    ),
    "newline in a name": (member("a\nb"), r"'a\\nb' is no name for a file"),
    "no utf-8": (member("\udcff"), r"'\\udcff' is no name for a file"),
    "twice": (member("de-en/./a"), "'de-en/a' is in the archive twice"),
    "file over folder": (member("de-en"), "'de-en' is in the archive twice"),
}


@pytest.mark.parametrize("case", sorted(HOSTILE))
def test_hostile_members_are_named(tmp_path, case):
    bad, message = HOSTILE[case]
    path = pack(tmp_path / "x.tgz", [*GOOD, bad])
    for use in (list_archive, lambda path: extract_files(path, {})):
        with pytest.raises(UserError, match=message) as caught:
            use(path)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(str(path))
        assert "not a whole" not in str(caught.value)


def test_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    path = pack(tmp_path / "x.tar", GOOD)
    assert list_archive(path) == NAMES
    with pytest.raises(UserError, match="more than 5 members"):
        list_archive(pack(path, [*GOOD, member("sixth")]))


def test_too_much_in_all(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_BYTES", 3 << 20)
    members = [member(f"{number}", bytes(1 << 20)) for number in range(3)]
    path = pack(tmp_path / "x.tgz", members)
    assert list_archive(path) == ["0", "1", "2"]
    with pytest.raises(UserError, match="'one more' makes it more than 3 MiB unpacked"):
        list_archive(pack(path, [*members, member("one more")]))


class Zeros(io.RawIOBase):
    """Zeros without end; counts how many were read."""

    given = 0

    def readable(self):
        return True

    def read(self, size=-1):
        assert 0 <= size <= 1 << 20, "asked for everything at once"
        self.given += size
        return bytes(size)


def header(name, size, kind=tarfile.REGTYPE):
    return member(name, b"", size=size, type=kind)[0].tobuf(tarfile.GNU_FORMAT)


def read_endless(monkeypatch, tmp_path, start):
    """List an archive of ``start`` and endless zeros, without gzip; how many were read."""
    zeros = Zeros()
    tail = io.BytesIO(start)

    class Opened(archives._Limited):
        def __init__(self, stream, path):
            super().__init__(self, path)
            self._stream = type(
                "Stream", (), {"read": lambda _, size: tail.read(size) or zeros.read(size)}
            )()

    monkeypatch.setattr(archives, "_Limited", Opened)
    path = tmp_path / "x.tar"
    path.write_bytes(start)
    with pytest.raises(UserError) as caught:
        list_archive(path)
    return str(caught.value), zeros.given


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (tarfile.REGTYPE, "makes it more than 2048 MiB unpacked"),
        (tarfile.XHDTYPE, "more data than its members account for"),
        (tarfile.XGLTYPE, "more data than its members account for"),
        (tarfile.GNUTYPE_LONGNAME, "more data than its members account for"),
        (tarfile.GNUTYPE_SPARSE, "is neither a file nor a folder"),
        (tarfile.DIRTYPE, "makes it more than 2048 MiB unpacked"),
        (b"V", "is neither a file nor a folder"),
    ],
)
def test_a_bomb_is_refused_at_its_header(monkeypatch, tmp_path, kind, message):
    found, read = read_endless(monkeypatch, tmp_path, header("bomb", 10 << 30, kind))
    assert message in found
    assert "not a whole" not in found
    assert read < 2 << 20


def test_endless_zeros_after_the_end(monkeypatch, tmp_path):
    monkeypatch.setattr(archives, "MAX_BYTES", 3 << 20)
    found, read = read_endless(monkeypatch, tmp_path, tar_bytes(GOOD))
    assert "more data than its members account for" in found
    assert read < 6 << 20


def test_sparse_map_without_end(monkeypatch, tmp_path):
    """tarfile would collect the map in memory until a newline comes."""
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x"}
    info = member("x", b"", size=1 << 30, pax_headers=pax)[0]
    found, read = read_endless(monkeypatch, tmp_path, info.tobuf(tarfile.PAX_FORMAT))
    assert "x.tar: " in found
    assert read < 2 << 20


@pytest.mark.parametrize("suffix", ["tgz", "tar"])
def test_truncated_anywhere(tmp_path, suffix):
    whole = pack(tmp_path / f"x.{suffix}", GOOD).read_bytes()
    path = tmp_path / f"cut.{suffix}"
    # A tar file without some of its zeros at the end is whole.
    needed = len(whole) if suffix == "tgz" else -(-len(whole.rstrip(b"\0")) // 512) * 512 + 512
    for size in {*range(0, needed, 97), needed - 1}:
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"cut\.\w+: not a whole tar archive \("):
            list_archive(path)


@pytest.mark.parametrize("position", [10_000, 60_000, 82_600, 83_500])
def test_damage(tmp_path, position):
    """A wrong byte in content (told by gzip's checksum) or in a header."""
    plain = bytearray(tar_bytes(GOOD))
    packed = gzip.compress(bytes(plain), mtime=0)
    plain[position] ^= 0x55
    path = tmp_path / "x.tgz"
    path.write_bytes(gzip.compress(bytes(plain), mtime=0)[:-8] + packed[-8:])
    with pytest.raises(UserError, match=r"x\.tgz: "):
        list_archive(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"not an archive\n" * 99, gzip.compress(b"text\n" * 999, mtime=0), b"\x1f\x8b\x08rest"],
    ids=["empty", "text", "gzip of text", "cut short"],
)
def test_no_archive_at_all(tmp_path, content):
    path = tmp_path / "x.tgz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.tgz: not a whole tar archive \("):
        list_archive(path)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(UserError, match=f"{path.name}: cannot be read"):
            list_archive(path)
