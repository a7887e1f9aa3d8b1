"""MAVLink frames out of a stream of bytes that may hold anything.

pymavlink's own parser believes any length byte and loses the frames behind a false one, hands out unknown ids without
a look at their CRC, and can be told by an environment variable to ignore all CRCs. Here a frame counts only when its
CRC is right, and a false start costs one byte: at once where the bytes of the frame are there that it claims, else
when they have not come for a while.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pymavlink.dialects.v20 import common

from edge.mavlink.wire import dialect

MARKER_V1, MARKER_V2 = 0xFE, 0xFD
HEADER_V1_BYTES, HEADER_V2_BYTES = 6, 10
CRC_BYTES = 2
SIGNED = 1
SIGNATURE_BYTES = 13
MAX_FRAME_BYTES = HEADER_V2_BYTES + 255 + CRC_BYTES + SIGNATURE_BYTES
SILENT_NS = 500_000_000
"""The bytes of one frame follow each other faster, even through a radio or a stalled connection."""
LONGEST_NS = 2_500_000_000
"""A frame of the greatest length takes so long at 1200 baud."""
MESSAGES: dict[int, Any] = {**common.mavlink_map, **dialect.mavlink_map}
"""Message id -> pymavlink's class of it, of common.xml and fusion.xml."""

_MARKER = re.compile(rb"[\xfd\xfe]")
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
        self._begun_ns = 0
        self._fed_ns = 0

    @property
    def is_holding(self) -> bool:
        """Whether the beginning of a frame is held back."""
        return bool(self._buffer)

    def feed(self, data: bytes, now_ns: int = 0) -> list[Any]:
        """Return pymavlink's messages of the frames that are complete now."""
        if not self._buffer:
            self._begun_ns = now_ns
        self._buffer += data
        self._fed_ns = now_ns
        return self._cut(now_ns)

    def give_up(self, now_ns: int) -> list[Any]:
        """Return what lies behind the beginning of a frame whose rest does not come; call it while nothing does."""
        is_silent = now_ns - self._fed_ns >= SILENT_NS
        if not self._buffer or not (is_silent or now_ns - self._begun_ns >= LONGEST_NS):
            return []
        self._note_false_start()
        del self._buffer[0]
        return self._cut(now_ns, is_over=is_silent)

    def _cut(self, now_ns: int, *, is_over: bool = False) -> list[Any]:
        """Take all whole frames; the rest is kept, unless it `is_over` and nothing more comes."""
        buffer, at, messages = bytes(self._buffer), 0, []
        while True:
            start = next_marker(buffer, at)
            self._counts.skipped_bytes += start - at
            at = start
            size = frame_bytes(buffer, at)
            if size is None or at + size > len(buffer):
                if not is_over or at == len(buffer):
                    break
                self._note_false_start()
                at += 1
                continue
            if message_id(buffer, at) not in MESSAGES:
                at += self._pass_unknown(buffer, at, size)
                continue
            message = decoded(buffer[at : at + size])
            if message is None:
                self._note_false_start()
                at += 1
                continue
            self._counts.messages[message.get_type()] += 1
            messages.append(message)
            at += size
        self._buffer = bytearray(buffer[at:])
        self._begun_ns = now_ns if at else self._begun_ns
        return messages

    def _pass_unknown(self, buffer: bytes, at: int, size: int) -> int:
        """Return how far to go on: past the frame if another one or nothing follows it, else one byte.

        Its CRC cannot be checked. Where a frame that is known lies inside, a forged beginning would swallow it.
        """
        end = at + size
        if end < len(buffer) and buffer[end] not in (MARKER_V1, MARKER_V2):
            self._note_false_start()
            return 1
        inside = next_marker(buffer, at + 1)
        while inside < end:
            length = frame_bytes(buffer, inside) or len(buffer)
            is_whole = inside + length <= len(buffer) and message_id(buffer, inside) in MESSAGES
            if is_whole and decoded(buffer[inside : inside + length]) is not None:
                self._counts.bad += 1
                self._counts.skipped_bytes += inside - at
                return inside - at
            inside = next_marker(buffer, inside + 1)
        self._counts.unknown += 1
        return size

    def _note_false_start(self) -> None:
        self._counts.bad += 1
        self._counts.skipped_bytes += 1


def message_id(frame: bytes, at: int = 0) -> int:
    """Return the message id of a frame of either version of MAVLink."""
    return int.from_bytes(frame[at + 7 : at + 10], "little") if frame[at] == MARKER_V2 else frame[at + 5]


def has_right_crc(frame: bytes, crc_extra: int) -> bool:
    """Say whether a whole frame is as it was sent, by its checksum, which covers its message's definition too."""
    is_signed = frame[0] == MARKER_V2 and frame[2] & SIGNED
    end = len(frame) - CRC_BYTES - (SIGNATURE_BYTES if is_signed else 0)
    crc = common.x25crc(frame[1:end] + bytes([crc_extra])).crc
    return bool(crc == int.from_bytes(frame[end : end + CRC_BYTES], "little"))


def next_marker(buffer: bytes, at: int) -> int:
    """Return where the next frame may begin, the length of the buffer where none does."""
    found = _MARKER.search(buffer, at)
    return found.start() if found is not None else len(buffer)


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
    number, is_v2 = message_id(frame), frame[0] == MARKER_V2
    if is_v2 and frame[2] & ~SIGNED:
        return None
    if not is_v2 and frame[1] > MESSAGES[number].unpacker.size:  # what cannot be costs no CRC
        return None
    if not has_right_crc(frame, MESSAGES[number].crc_extra):
        return None
    try:
        return _DECODERS[number in dialect.mavlink_map].decode(bytearray(frame))
    except (common.MAVError, dialect.MAVError):
        return None


def without_signature(frame: bytes) -> bytes | None:
    """Return a frame as it is before it is signed; None for SETUP_SIGNING, and for what nobody can check any more."""
    number = message_id(frame)
    if number == common.MAVLINK_MSG_ID_SETUP_SIGNING:
        return None
    if frame[0] != MARKER_V2 or not frame[2] & SIGNED:
        return frame
    if number not in MESSAGES:
        return None
    end = len(frame) - SIGNATURE_BYTES - CRC_BYTES
    body = frame[1:2] + bytes((frame[2] & ~SIGNED,)) + frame[3:end]
    crc: int = common.x25crc(body + bytes((MESSAGES[number].crc_extra,))).crc
    return frame[:1] + body + crc.to_bytes(CRC_BYTES, "little")
