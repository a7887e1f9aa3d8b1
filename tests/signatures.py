"""What the tests of signed MAVLink share: times, keys, frames, and a signature that owes nothing to our code."""

import hashlib
from typing import Any

from pymavlink.dialects.v20 import common

from edge.mavlink.trust.signing import EPOCH_NS, Signing
from edge.mavlink.wire.encoding import Encoder

KEY = bytes(range(32))
OTHER_KEY = bytes(32)
UTC_NS = 1_790_000_000_000_000_000
"""In 2026."""
NOW = (UTC_NS - EPOCH_NS) // 10_000
"""The same in steps of 10 us since 2015."""
SECOND = 100_000
GROUND = (255, 190)
VEHICLE = (1, 191)


class Calendar:
    """Unix time that moves only when told to."""

    def __init__(self, now_ns: int = UTC_NS) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns


def signing(secret: bytes = KEY, saved: int | None = None, *, is_clean: bool = True, now_ns: int = UTC_NS) -> Signing:
    """Return the signing of a key at a time."""
    return Signing(secret, Calendar(now_ns), saved, is_clean=is_clean)


def plain(message: Any, sender: tuple[int, int] = GROUND) -> bytes:
    """Return the unsigned frame of a message."""
    return bytes(message.pack(common.MAVLink(None, *sender)))


def signed(
    message: Any, time: int, *, secret: bytes = KEY, sender: tuple[int, int] = GROUND, link_id: int = 0
) -> bytes:
    """Return the frame of a message as pymavlink signs it, with a time in steps of 10 us."""
    encoder = common.MAVLink(None, *sender)
    encoder.signing.secret_key = secret
    encoder.signing.sign_outgoing = True
    encoder.signing.link_id = link_id
    encoder.signing.timestamp = time
    return bytes(message.pack(encoder))


def by(ours: Signing, message: Any, sender: tuple[int, int] = GROUND, *, link_id: int = 0) -> bytes:
    """Return the frame of a message as ours signs it."""
    frame = Encoder(*sender).frame(message, is_signed=True)
    return frame + ours.signature(frame, link_id)


def tag(secret: bytes, frame: bytes) -> bytes:
    """Return the signature that the standard asks for, of a frame up to and with its time."""
    return hashlib.sha256(secret + frame).digest()[:6]


def heartbeat() -> Any:
    """Return the heartbeat of a ground station."""
    return common.MAVLink_heartbeat_message(common.MAV_TYPE_GCS, common.MAV_AUTOPILOT_INVALID, 0, 0, 4, 3)


def command(confirmation: int = 0) -> Any:
    """Return a command to the vehicle."""
    return common.MAVLink_command_long_message(*VEHICLE, common.MAV_CMD_USER_1, confirmation, 1, 0, 0, 0, 0, 0, 0)


def parameter() -> Any:
    """Return a parameter for the vehicle."""
    return common.MAVLink_param_set_message(*VEHICLE, b"FUS_RATE_HZ", 5.0, common.MAV_PARAM_TYPE_REAL32)
