"""MAVLink frames out of a stream of bytes that may hold anything.

pymavlink's own parser believes any length byte and loses the frames behind a false one, hands out unknown ids without
a look at their CRC, and can be told by an environment variable to ignore all CRCs. Here a frame counts only when its
CRC is right, and a false start costs one byte.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pymavlink.dialects.v20 import common

from edge.mavlink import dialect

MARKER_V1, MARKER_V2 = 0xFE, 0xFD
HEADER_V1_BYTES, HEADER_V2_BYTES = 6, 10
CRC_BYTES = 2
SIGNED = 1
SIGNATURE_BYTES = 13
MAX_FRAME_BYTES = HEADER_V2_BYTES + 255 + CRC_BYTES + SIGNATURE_BYTES
MESSAGES: dict[int, Any] = {**common.mavlink_map, **dialect.mavlink_map}
"""Message id -> pymavlink's class of it, of common.xml and fusion.xml."""

_DECODERS = {False: common.MAVLink(None), True: dialect.MAVLink(None)}


@dataclass(kw_only=True, slots=True)
class FrameCounts:
    """What a stream of bytes held."""

    messages: Counter[str] = field(default_factory=Counter)
    """By name."""
    unknown: int = 0
    """Frames with an id of neither dialect; their CRC cannot be checked."""
    bad: int = 0
    """What began like a frame, but had a wrong CRC, unknown flags or impossible content."""
    skipped_bytes: int = 0
    """Outside of frames."""


class FrameParser:
    """Cuts frames out of the bytes of one peer; holds back at most one unfinished frame."""

    def __init__(self, counts: FrameCounts) -> None:
        self._counts = counts
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """Return pymavlink's messages of the frames that are complete now."""
        self._buffer += data
        buffer, at, messages = bytes(self._buffer), 0, []
        while True:
            start = _next_marker(buffer, at)
            self._counts.skipped_bytes += start - at
            at = start
            size = frame_bytes(buffer, at)
            if size is None or at + size > len(buffer):
                break
            frame = buffer[at : at + size]
            if message_id(frame) not in MESSAGES:
                at += self._pass_unknown(buffer, at, size)
                continue
            message = decoded(frame)
            if message is None:
                self._counts.bad += 1
                self._counts.skipped_bytes += 1
                at += 1
                continue
            self._counts.messages[message.get_type()] += 1
            messages.append(message)
            at += size
        self._buffer = bytearray(buffer[at:])
        return messages

    def _pass_unknown(self, buffer: bytes, at: int, size: int) -> int:
        """Return how far to go on: past the frame if another one or nothing follows it, else one byte."""
        end = at + size
        if end == len(buffer) or buffer[end] in (MARKER_V1, MARKER_V2):
            self._counts.unknown += 1
            return size
        self._counts.bad += 1
        self._counts.skipped_bytes += 1
        return 1


def message_id(frame: bytes) -> int:
    """Return the message id of a frame of either version of MAVLink."""
    return int.from_bytes(frame[7:10], "little") if frame[0] == MARKER_V2 else frame[5]


def has_right_crc(frame: bytes, crc_extra: int) -> bool:
    """Say whether a whole frame is as it was sent, by its checksum, which covers its message's definition too."""
    is_signed = frame[0] == MARKER_V2 and frame[2] & SIGNED
    end = len(frame) - CRC_BYTES - (SIGNATURE_BYTES if is_signed else 0)
    crc = common.x25crc(frame[1:end] + bytes([crc_extra])).crc
    return bool(crc == int.from_bytes(frame[end : end + CRC_BYTES], "little"))


def _next_marker(buffer: bytes, at: int) -> int:
    found = [index for marker in (MARKER_V1, MARKER_V2) if (index := buffer.find(marker, at)) >= 0]
    return min(found, default=len(buffer))


def frame_bytes(buffer: bytes, at: int) -> int | None:
    """Return the length that the frame claims, None while too little of it is there to tell."""
    if len(buffer) - at < 3:
        return None
    if buffer[at] == MARKER_V1:
        return HEADER_V1_BYTES + buffer[at + 1] + CRC_BYTES
    signature_bytes = SIGNATURE_BYTES if buffer[at + 2] & SIGNED else 0
    return HEADER_V2_BYTES + buffer[at + 1] + CRC_BYTES + signature_bytes


def decoded(frame: bytes) -> Any | None:
    """Return pymavlink's message of a whole frame with a known id, or None where it is damaged."""
    is_v2 = frame[0] == MARKER_V2
    if is_v2 and frame[2] & ~SIGNED:
        return None
    number = message_id(frame)
    if not has_right_crc(frame, MESSAGES[number].crc_extra):
        return None
    try:
        return _DECODERS[number in dialect.mavlink_map].decode(bytearray(frame))
    except (common.MAVError, dialect.MAVError):
        return None
