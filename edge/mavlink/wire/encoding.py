"""Messages as frames of MAVLink 2: byte by byte what pymavlink packs, in two thirds of its time.

pymavlink makes a header and a checksum as objects for each frame, and signing it would need a second checksum. Here a
message's fields are laid out as its class describes them, so that a change of the dialect needs nothing here.
"""

import functools
import struct
from typing import Any

from pymavlink.dialects.v20 import common

from edge.mavlink.wire.frames import CRC_BYTES, MARKER_V2, SIGNED

_HEAD = struct.Struct("<7BHB")
"""Marker, length, two kinds of flags, sequence, system, component, and the message's id in three bytes."""


class Encoder:
    """Makes the frames of one sender, and counts them.

    Args:
        system_id: whose.
        component_id: whose.
    """

    def __init__(self, system_id: int, component_id: int) -> None:
        self._sender = (system_id, component_id)
        self._sequence = 0

    def frame(self, message: Any, *, is_signed: bool = False) -> bytes:
        """Return the next frame.

        Args:
            message: of pymavlink.
            is_signed: whether a signature will follow; it is not in what is returned.

        Raises:
            struct.error: a field does not fit its type.
        """
        payload = payload_of(message).rstrip(b"\0") or b"\0"
        number = message.get_msgId()
        id_parts = (number & 0xFFFF, number >> 16)
        flags = SIGNED if is_signed else 0
        head = _HEAD.pack(MARKER_V2, len(payload), flags, 0, self._sequence, *self._sender, *id_parts)
        self._sequence = (self._sequence + 1) % 256
        crc: int = common.x25crc(b"%b%b%c" % (head[1:], payload, message.crc_extra)).crc
        return b"%b%b%b" % (head, payload, crc.to_bytes(CRC_BYTES, "little"))


def payload_of(message: Any) -> bytes:
    """Return the whole payload of a message, zeros at the end included. Raises as `Encoder.frame`."""
    values: list[Any] = []
    for attribute, is_array in _layout(message.__class__):
        if is_array:
            values += getattr(message, attribute)
        else:
            values.append(getattr(message, attribute))
    return bytes(message.unpacker.pack(*values))


@functools.cache
def _layout(kind: Any) -> list[tuple[str, bool]]:
    """Return pymavlink's attributes of a message in the order of the wire, and which of them are arrays of numbers."""
    types = dict(zip(kind.fieldnames, kind.fieldtypes, strict=True))
    return [
        (f"_{name}_raw", False) if types[name] == "char" else (name, count > 0)
        for name, count in zip(kind.ordered_fieldnames, kind.array_lengths, strict=True)
    ]
