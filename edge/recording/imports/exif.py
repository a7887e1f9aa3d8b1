"""When a JPEG says that it was taken: DateTimeOriginal, with fraction and zone where the camera wrote them.

Source: CIPA DC-008 (Exif 2.32), 4.5 and 4.6. Every offset of the file is checked, and no tag is followed twice.
"""

import struct

from edge.recording.imports.utc import parse_utc

MAX_HEAD_BYTES = 1 << 18
"""Exif is in one of the first segments."""
_EXIF_IFD, _TAKEN, _SUBSECOND, _ZONE = 0x8769, 0x9003, 0x9291, 0x9011
_ASCII, _LONG = 2, 4
_MAX_TAGS = 512
_MAX_TEXT_BYTES = 64
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


def exif_utc(head: bytes) -> int | None:
    """Return when a picture was taken by the beginning of its file, in ns since 1970; None where it does not say."""
    tiff = _exif_segment(head)
    order = _ORDERS.get(tiff[:4], "")
    if not order or len(tiff) < 8:
        return None
    (first,) = struct.unpack_from(order + "I", tiff, 4)
    inner = _tags(tiff, order, first).get(_EXIF_IFD)
    if not isinstance(inner, int):
        return None
    tags = _tags(tiff, order, inner)
    taken, fraction, zone = (tags.get(tag, "") for tag in (_TAKEN, _SUBSECOND, _ZONE))
    if not isinstance(taken, str):
        return None
    text = f"{taken.strip()}.{str(fraction).strip() or '0'}"
    return parse_utc(f"{text}{str(zone).strip()}") or parse_utc(text) or parse_utc(taken)


def _exif_segment(head: bytes) -> bytes:
    """Return the TIFF part of the first Exif segment; empty without one."""
    at = 2
    while head[:2] == b"\xff\xd8" and at + 4 <= len(head) and head[at] == 0xFF and head[at + 1] not in (0xDA, 0xD9):
        size = int.from_bytes(head[at + 2 : at + 4], "big")
        body = head[at + 4 : at + 2 + size]
        if head[at + 1] == 0xE1 and body.startswith(b"Exif\0\0"):
            return body[6:]
        at += 2 + max(size, 2)
    return b""


def _tags(tiff: bytes, order: str, at: int) -> dict[int, str | int]:
    """Return the texts and numbers of a directory; what lies outside of the file is left out."""
    found: dict[int, str | int] = {}
    if at + 2 > len(tiff):
        return found
    (count,) = struct.unpack_from(order + "H", tiff, at)
    for n in range(min(count, _MAX_TAGS)):
        entry = at + 2 + 12 * n
        if entry + 12 > len(tiff):
            break
        tag, kind, size, value = struct.unpack_from(order + "HHII", tiff, entry)
        if kind == _LONG and size == 1:
            found[tag] = value
        elif kind == _ASCII and size <= _MAX_TEXT_BYTES:
            start = entry + 8 if size <= 4 else value
            found[tag] = tiff[start : start + size].split(b"\0")[0].decode("ascii", "replace")
    return found
