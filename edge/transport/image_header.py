"""What an encoded image claims, read without decoding it: 335 bytes of JPEG can claim 23 GB, or lack their end."""

import struct

_MAX_SEGMENTS = 1024
_PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_ENDS = (b"\xff\xd9", b"IEND\xaeB`\x82")
_MOST_PADDING = 1 << 12
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_FRAME_STARTS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN_STARTS = frozenset({0xD8, 0xD9, 0xDA})


def encoded_image_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """Return width and height in pixels that a JPEG or PNG claims, or None for anything else. Never raises.

    A decoder finds the same size: whatever it would have to guess at (bytes between segments, a height given later)
    counts as anything else.
    """
    start = bytes(data[: len(_PNG_START) + 8])
    if start.startswith(b"\xff\xd8\xff"):
        return _jpeg_size(data)
    if start.startswith(_PNG_START) and len(start) == len(_PNG_START) + 8:
        width, height = struct.unpack_from(">II", start, len(_PNG_START))
        return (width, height) if width and height else None
    return None


def has_end(data: bytes | memoryview) -> bool:
    """Say whether a JPEG or PNG is there to its end; zeros after it are a camera's padding.

    OpenCV before 5, which JetPack has, fills the missing part of a truncated JPEG with grey and calls it a frame.
    """
    return bytes(data[-_MOST_PADDING:]).rstrip(b"\0").endswith(_ENDS)


def _jpeg_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """Walk the segments up to the frame header."""
    position, size = 2, len(data)
    for _ in range(_MAX_SEGMENTS):
        if position + 4 > size or data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF or marker in _STANDALONE:
            position += 1 if marker == 0xFF else 2
            continue
        if marker in _SCAN_STARTS or marker == 0:
            return None
        if marker in _FRAME_STARTS:
            if position + 9 > size:
                return None
            height, width = struct.unpack_from(">HH", data, position + 5)
            return (width, height) if width and height else None
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None
