"""A bundle as one file for transport, `<name>-<version>.uavb.tar`: strict, uncompressed, read front to back.

Each header must be, bit for bit, the one that is written here: a plain file under the bundle's folder. So there is
nothing to escape with (links, devices, other owners), nothing that unpacks to more than it is, and one bundle has one
archive. Any tar program lists and unpacks it.
"""

import os
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from models.disk import replace_file
from models.errors import BundleError

SUFFIX = ".uavb.tar"
_BLOCK = 512
_END = bytes(2 * _BLOCK)
_NAME = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)/([A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*)")
_REMEDY = "copy it again, or pack it anew with uav-calibrate bundle build --archive"


def write_archive(path: Path, folder: str, contents: Mapping[str, bytes]) -> None:
    """Write files, in their order, as an archive of `folder`; it appears whole or not at all.

    Raises:
        BundleError: a name is too long for a tar header.
    """
    replace_file(path, _parts(folder, contents))


class ArchiveReader:
    """Takes one entry after the other; nothing is allocated for what has not come."""

    def __init__(self, stream: BinaryIO, where: str) -> None:
        """Take an open file that stands at its beginning, and its name for messages."""
        self._stream = stream
        self._where = where
        self._names: set[str] = set()
        self.folder = ""
        """The folder that all entries lie in, once there was one."""

    def header(self) -> tuple[str, int] | None:
        """Return the next entry's name within the folder, and its size in bytes; None at the end.

        Raises:
            BundleError: anything but the header of another plain file in the same folder, or a proper end.
        """
        block = self._exactly(_BLOCK)
        if block == _END[:_BLOCK]:
            if self._exactly(_BLOCK) != _END[:_BLOCK] or self._stream.read(1):
                raise self._refusal("something stands after its end")
            return None
        try:
            found = tarfile.TarInfo.frombuf(block, "ascii", "strict")
            is_ours = block == _header(found.name, found.size)
        except (tarfile.TarError, ValueError) as error:
            raise self._refusal(f"an entry that is no tar header ({error})") from error
        named = _NAME.fullmatch(found.name)
        if not is_ours or named is None:
            raise self._refusal(f"entry {found.name[:100]!r} is not a plain file as bundles are packed")
        folder, name = named[1], named[2]
        if folder != (self.folder or folder) or name in self._names:
            raise self._refusal(f"entry {found.name!r} comes twice or lies outside of {self.folder}")
        self.folder = folder
        self._names.add(name)
        return name, found.size

    def body(self, size_bytes: int) -> bytes:
        """Return the bytes of the entry whose header was just read."""
        data = self._exactly(size_bytes)
        padding = self._exactly(-size_bytes % _BLOCK)
        if padding.strip(b"\0"):
            raise self._refusal("something hides between two entries")
        return data

    def _exactly(self, size_bytes: int) -> bytes:
        left = os.fstat(self._stream.fileno()).st_size - self._stream.tell()
        data = self._stream.read(size_bytes) if size_bytes <= left else b""
        if len(data) != size_bytes:
            raise self._refusal(f"it ends early: {size_bytes} bytes were to come, {left} are left")
        return data

    def _refusal(self, text: str) -> BundleError:
        return BundleError(f"{self._where}: not a bundle's archive: {text}: {_REMEDY}")


def open_regular(path: Path, flags: int = 0) -> BinaryIO:
    """Open a file to read; a pipe or a device is refused, and does not keep us waiting.

    Raises:
        OSError: it cannot be opened.
        BundleError: it is not a regular file.
    """
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
    stream = open(opened, "rb")  # noqa: PTH123, SIM115 - of a descriptor, and handed to the caller
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        stream.close()
        raise BundleError(f"{path}: not a regular file: copy the bundle again")
    return stream


def _parts(folder: str, contents: Mapping[str, bytes]) -> Iterator[bytes]:
    for name, data in contents.items():
        try:
            yield _header(f"{folder}/{name}", len(data))
        except ValueError as error:
            raise BundleError(f"{folder}/{name}: too long for an archive ({error}): choose shorter names") from error
        yield data
        yield bytes(-len(data) % _BLOCK)
    yield _END


def _header(name: str, size_bytes: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = size_bytes
    return entry.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
