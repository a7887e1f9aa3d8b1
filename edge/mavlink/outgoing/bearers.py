"""How a message of ours travels: as it is, or inside TUNNEL, which every autopilot and router passes on.

An ArduPilot autopilot drops messages that it was not built with. TUNNEL is standard, and its body is our payload, byte
by byte as the message itself has it, zeros at the end included; TUNNEL's own frame cuts those.
"""

from collections.abc import Sequence
from typing import Any

from pymavlink.dialects.v20 import common

from edge.mavlink.wire import dialect, frames
from edge.mavlink.wire.encoding import payload_of

FIRST_ID = 61_200
FIRST_TYPE = 0xF5C0
"""Of FUSION_CLASSIFICATION (61200); the others follow as their ids do. Types from 32768 are private."""
LITE_ID = 61_201
BODY_BYTES = 128
BATCH = 6
"""LITE records in one TUNNEL."""

OURS = {number: made for number, made in dialect.mavlink_map.items() if FIRST_ID <= number < FIRST_ID + 10}
"""Message id -> pymavlink's class of it, of those that are ours alone."""
LITE_BYTES = OURS[LITE_ID].unpacker.size


def tunnelled(message: Any) -> Any:
    """Return TUNNEL with one message of ours."""
    return _tunnel(message.get_msgId(), payload_of(message))


def batched(records: Sequence[Any]) -> Any:
    """Return TUNNEL with one to six FUSION_CLASSIFICATION_LITE, in their order."""
    return _tunnel(LITE_ID, b"".join(payload_of(record) for record in records[:BATCH]))


def is_ours(tunnel: Any) -> bool:
    """Say whether a TUNNEL claims to carry a message of ours."""
    return tunnel.payload_type - FIRST_TYPE + FIRST_ID in OURS


def opened(tunnel: Any) -> list[Any]:
    """Return the messages of ours in a TUNNEL, as of its sender; none where its length cannot be true.

    A body longer than the message is one of a newer definition: what is known of it counts.
    """
    number = tunnel.payload_type - FIRST_TYPE + FIRST_ID
    body = bytes(tunnel.payload[: tunnel.payload_length])
    size = OURS[number].unpacker.size if is_ours(tunnel) else 0
    if not size or tunnel.payload_length > BODY_BYTES or len(body) < size:
        return []
    if number != LITE_ID:
        return [_unpacked(tunnel, number, body[:size])]
    if len(body) % size:
        return []
    return [_unpacked(tunnel, number, body[at : at + size]) for at in range(0, len(body), size)]


def _tunnel(number: int, body: bytes) -> Any:
    return common.MAVLink_tunnel_message(
        target_system=0,
        target_component=0,
        payload_type=number - FIRST_ID + FIRST_TYPE,
        payload_length=len(body),
        payload=list(body.ljust(BODY_BYTES, b"\0")),
    )


def _unpacked(tunnel: Any, number: int, payload: bytes) -> Any:
    """Return the message of a payload, as pymavlink decodes it from a frame of the tunnel's sender."""
    head = bytes((len(payload), 0, 0, tunnel.get_seq(), tunnel.get_srcSystem(), tunnel.get_srcComponent()))
    body = head + number.to_bytes(3, "little") + payload
    crc: int = common.x25crc(body + bytes((OURS[number].crc_extra,))).crc
    frame = bytes((frames.MARKER_V2,)) + body + crc.to_bytes(frames.CRC_BYTES, "little")
    return dialect.MAVLink(None).decode(bytearray(frame))
