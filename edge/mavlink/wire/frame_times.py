"""The times and numbers inside of MAVLink frames: read, and changed without decoding the rest."""

import functools
import re
import struct
from typing import Any, NamedTuple

from pymavlink.dialects.v20 import ardupilotmega

from edge.mavlink.wire import frames

_MESSAGES: dict[int, Any] = {**ardupilotmega.mavlink_map, **frames.MESSAGES}
AUTOPILOT = ardupilotmega.MAV_COMP_ID_AUTOPILOT1
"""Component that tells the vehicle's time."""
_UNITS_US = {"time_boot_ms": 1000, "time_usec": 1, "time_unix_usec": 1}
_LATEST_SINCE_BOOT_US = 100_000_000_000_000
"""Three years: a larger `time_usec` counts from 1970."""
_CODE = re.compile(r"\d*[a-zA-Z]")
_BITS = {"I": 32, "Q": 64}


class _Field(NamedTuple):
    name: str
    offset: int
    code: str
    unit_us: int


def sender(frame: bytes) -> tuple[int, int]:
    """Return system and component of a whole frame."""
    return (frame[5], frame[6]) if frame[0] == frames.MARKER_V2 else (frame[3], frame[4])


def is_whole(frame: bytes) -> bool:
    """Say whether bytes are one frame, as long as it claims, and as it was sent where its message is known."""
    if len(frame) < frames.HEADER_V1_BYTES or frame[0] not in (frames.MARKER_V1, frames.MARKER_V2):
        return False
    if frame[0] == frames.MARKER_V2 and (len(frame) < frames.HEADER_V2_BYTES or frame[2] & ~frames.SIGNED):
        return False
    if frames.frame_bytes(frame, 0) != len(frame):
        return False
    known = _MESSAGES.get(frames.message_id(frame))
    return known is None or frames.has_right_crc(frame, known.crc_extra)


def is_timesync(frame: bytes) -> bool:
    """Say whether a frame asks for the time or answers."""
    return bool(frames.message_id(frame) == ardupilotmega.MAVLINK_MSG_ID_TIMESYNC)


def since_boot_us(frame: bytes) -> int | None:
    """Return the sender's time since its start that a frame carries, None of one without."""
    payload = _payload(frame)
    for field in _fields(frames.message_id(frame)):
        value = _value(payload, field) * field.unit_us
        if field.name != "time_unix_usec" and 0 < value < _LATEST_SINCE_BOOT_US:
            return value
    return None


def moved(frame: bytes, by_us: int, sequence: int) -> bytes:
    """Return a frame with its times moved, another number, and unsigned; one of an unknown message as it is.

    Args:
        frame: a whole one.
        by_us: added to each time in it; 0 stands for no time, and stays.
        sequence: its new number, 0 to 255.
    """
    known = _MESSAGES.get(frames.message_id(frame))
    if known is None:
        return frame
    is_v2 = frame[0] == frames.MARKER_V2
    header = bytearray(frame[: frames.HEADER_V2_BYTES if is_v2 else frames.HEADER_V1_BYTES])
    payload = bytearray(_payload(frame))
    for field in _fields(frames.message_id(frame)):
        value = _value(payload, field)
        end = field.offset + struct.calcsize(field.code)
        if value and (is_v2 or end <= frame[1]):
            limit = 1 << _BITS[field.code]
            struct.pack_into("<" + field.code, payload, field.offset, (value + by_us // field.unit_us) % limit)
    if is_v2:
        payload = payload.rstrip(b"\0") or payload[:1]
        header[1:3] = len(payload), header[2] & ~frames.SIGNED
    else:
        payload = payload[: frame[1]]
    header[4 if is_v2 else 2] = sequence
    body = bytes(header + payload)
    crc: int = ardupilotmega.x25crc(body[1:] + bytes([known.crc_extra])).crc
    return body + crc.to_bytes(frames.CRC_BYTES, "little")


def _payload(frame: bytes) -> bytes:
    """Return the payload as long as its message is at most: trailing zeros are not sent."""
    begin = frames.HEADER_V2_BYTES if frame[0] == frames.MARKER_V2 else frames.HEADER_V1_BYTES
    known = _MESSAGES.get(frames.message_id(frame))
    size: int = known.unpacker.size if known is not None else 0
    payload: bytes = frame[begin : begin + frame[1]]
    return payload + bytes(max(size - len(payload), 0))


def _value(payload: bytes | bytearray, field: _Field) -> int:
    value: int = struct.unpack_from("<" + field.code, payload, field.offset)[0]
    return value


@functools.cache
def _fields(number: int) -> tuple[_Field, ...]:
    """Return the times in a message's payload."""
    message = _MESSAGES.get(number)
    if message is None:
        return ()
    found, offset = [], 0
    codes = _CODE.findall(message.unpacker.format)
    for name, code in zip(message.ordered_fieldnames, codes, strict=True):
        if name in _UNITS_US and code in _BITS:
            found.append(_Field(name, offset, code, _UNITS_US[name]))
        offset += struct.calcsize("<" + code)
    return tuple(found)
