"""Reading untrusted tar archives.

An archive is refused as a whole if any member is a link, a device, a path outside its folder, a
duplicate or too large, whether or not that member is wanted. Decompression bombs are refused by the
size that they declare, without being unpacked.
"""

from __future__ import annotations

import gzip
import shutil
import tarfile
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from tqdm import tqdm

from fairseq_cgc.support.errors import UserError

MAX_MEMBERS = 10_000
MAX_BYTES = 2 << 30
"""Of all members together, unpacked."""

_MAX_HEADER = 1 << 20  # bytes between two members: names, attributes
_BLOCK = 1 << 16
_GZIP_MAGIC = b"\x1f\x8b"


def list_archive(path: Path) -> list[str]:
    """Check a ``.tgz`` or ``.tar`` file to its end and return the names of its regular files.

    Raises:
        UserError: naming the archive, if it cannot be read or is damaged, and the member that no
            archive of text needs: an absolute path or one with ``..``, a name with control
            characters, a link, a device, a sparse file, a name for the second time, more than
            :data:`MAX_MEMBERS` members or :data:`MAX_BYTES`.
    """
    return [name for name, _ in _files(path)]


def extract_files(path: Path, targets: Mapping[str, Path]) -> None:
    """Write the members that ``targets`` names, each to its file.

    Args:
        path: the archive.
        targets: name as :func:`list_archive` gives it -> file to write, in a folder that the caller
            renames when all went well.

    Raises:
        UserError: as :func:`list_archive`.
        OSError: if a file cannot be written.
    """
    for name, content in _files(path):
        if name in targets:
            with targets[name].open("wb") as stream:
                shutil.copyfileobj(content, stream, _BLOCK)


def _files(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Name and content of the regular files, in order, after all checks."""
    seen: set[str] = set()
    left = MAX_BYTES
    with _unpacked(path) as stream:
        # As a stream, without seeking: whatever is refused here has not been unpacked.
        reader = cast(BinaryIO, stream)
        with tarfile.open(fileobj=reader, mode="r|", tarinfo=_StrictTarInfo) as archive:
            while (member := archive.next()) is not None:
                _check(path, member)
                name = str(PurePosixPath(member.name))
                if name in seen:
                    raise UserError(f"{path}: {_shown(name)} is in the archive twice")
                seen.add(name)
                if len(seen) > MAX_MEMBERS:
                    raise UserError(f"{path}: more than {MAX_MEMBERS} members")
                left -= member.size
                if left < 0:
                    raise UserError(
                        f"{path}: {_shown(name)} makes it more than {MAX_BYTES >> 20} MiB unpacked"
                    )
                if not member.isdir():
                    stream.allow(member.size + _MAX_HEADER)
                    content = cast(BinaryIO, archive.extractfile(member))
                    yield name, content
                    while content.read(_BLOCK):  # so that next() has only a header to read
                        pass
                stream.allow(_MAX_HEADER)
        # The checksum of gzip comes at the very end.
        stream.allow(left + _MAX_HEADER)
        while stream.read(_BLOCK):
            pass


def _check(path: Path, member: tarfile.TarInfo) -> None:
    name = member.name
    faults = {
        "is an absolute path": name.startswith("/"),
        "leads out of the archive's folder": ".." in PurePosixPath(name).parts,
        "is no name for a file": not name
        or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name),
        "is a link": member.issym() or member.islnk(),
        "is neither a file nor a folder": member.issparse()
        or not (member.isdir() or member.isreg()),
        "has a negative size": member.size < 0,
    }
    for fault, found in faults.items():
        if found:
            raise UserError(f"{path}: {_shown(name)} {fault}; the archive is not used")


def _shown(name: str) -> str:
    """A name fit for one line of a message."""
    return ascii(name if len(name) <= 100 else f"{name[:100]}...")


class _StrictTarInfo(tarfile.TarInfo):
    """Reports a bad header as damage; tarfile would take it for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _StrictTarInfo:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


class _Limited:
    """A stream of which no more bytes can be read than :meth:`allow` says."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._left = _MAX_HEADER

    def allow(self, count: int) -> None:
        """Set how many bytes may be read from here on."""
        self._left = count

    def read(self, size: int) -> bytes:
        block = self._stream.read(min(size, _BLOCK))
        self._left -= len(block)
        if self._left < 0:
            raise UserError(
                f"{self._path}: more data than its members account for; the archive is not used"
            )
        return block


@contextmanager
def _unpacked(path: Path) -> Iterator[_Limited]:
    """The unpacked bytes, for reading once, with a progress bar of the packed ones."""
    try:
        with path.open("rb") as packed:
            packs = packed.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            packed.seek(0)
            size = path.stat().st_size
            with tqdm.wrapattr(packed, "read", size, desc=f"read {path.name}") as counted:
                stream = gzip.GzipFile(fileobj=counted) if packs else counted
                yield _Limited(cast(BinaryIO, stream), path)
    except UserError:  # which is a ValueError too
        raise
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not a whole tar archive ({reason})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
