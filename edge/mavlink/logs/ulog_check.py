"""Takes the sound messages out of a PX4 log (.ulg): pyulog gives up what follows damage until the log's next mark.

Source: docs.px4.io, ULog file format.
"""

import mmap
import re
from pathlib import Path
from typing import BinaryIO

from models.errors import RecordingError

_HEAD_BYTES = 16
_KINDS = frozenset(b"BFIMPQARDLCSO")
_FORMAT_KIND = ord("F")
_COPIED = frozenset(b"FARDO")
"""Formats, subscriptions, data and dropouts."""
_CHAIN = 4
"""So many messages after each other are not there by chance."""
_USUAL_BYTES = 512
"""A damaged length that is longer would hide much."""
_FIELD = re.compile(r"\s*(\w+)(?:\[(\d{1,9})\d*\])? ")
_MOST_ELEMENTS = 1 << 16
"""A message has fewer bytes, and pyulog makes an object of each element."""
_DEEPEST = 6


def copy_sound(path: Path, into: BinaryIO) -> int:
    """Write a log of the messages that follow each other without damage; return the bytes that belong to none.

    Raises:
        RecordingError: a format has more elements than a message has bytes.
    """
    skipped, at = 0, _HEAD_BYTES
    formats: dict[str, list[tuple[str, int]]] = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end = len(data)
        into.write(data[:_HEAD_BYTES])
        while at < end:
            size = _sound_bytes(data, at, end)
            if size and data[at + 2] == _FORMAT_KIND:
                _take_format(data[at + 3 : at + size], formats)
            if size and data[at + 2] in _COPIED:
                into.write(data[at : at + size])
            if size:
                at += size
                continue
            begin, at = at, at + 1
            while at < end and not _is_chain(data, at, end):
                at += 1
            skipped += at - begin
    known: dict[str, int] = {}
    if any(_elements(name, formats, _DEEPEST, known) > _MOST_ELEMENTS for name in formats):
        raise RecordingError(f"{path}: a format of more elements than a message has bytes: download the log again")
    return skipped


def _take_format(content: bytes, formats: dict[str, list[tuple[str, int]]]) -> None:
    """Learn the types of a format's fields, and how many each has."""
    name, _, fields = content.decode("ascii", "replace").partition(":")
    formats[name] = [
        (found[1], int(found[2] or 1)) for field in fields.split(";") if (found := _FIELD.match(field)) is not None
    ]


def _elements(name: str, formats: dict[str, list[tuple[str, int]]], depth: int, known: dict[str, int]) -> int:
    """Return how many elements a type has, or one more than allowed; `known` keeps what was counted."""
    if name not in formats:
        return 1
    if not depth:
        return _MOST_ELEMENTS + 1
    if name not in known:
        total = 0
        for kind, count in formats[name]:
            total += max(count, 1) * max(_elements(kind, formats, depth - 1, known), 1)
            if total > _MOST_ELEMENTS:
                break
        known[name] = total
    return known[name]


def _message_bytes(data: mmap.mmap, at: int, end: int) -> int:
    """Return the length of the message that can begin here, 0 where none can."""
    if at + 3 > end or data[at + 2] not in _KINDS:
        return 0
    size = 3 + data[at] + (data[at + 1] << 8)
    return size if at + size <= end else 0


def _sound_bytes(data: mmap.mmap, at: int, end: int) -> int:
    """Return the length of the message that begins here and has one behind it, 0 where there is none."""
    size = _message_bytes(data, at, end)
    return size if size and _is_chain(data, at, end, _CHAIN if size > _USUAL_BYTES else 2) else 0


def _is_chain(data: mmap.mmap, at: int, end: int, links: int = _CHAIN) -> bool:
    """Say whether so many messages follow each other from here, or up to the end."""
    for _ in range(links):
        size = _message_bytes(data, at, end)
        if not size:
            return False
        at += size
        if at == end:
            break
    return True
