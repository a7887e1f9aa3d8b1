import math
import random
import struct
from typing import Any

import mavlink_samples as samples
import pytest
from pymavlink.dialects.v20 import common

from edge.mavlink.control import component
from edge.mavlink.wire import standard
from edge.mavlink.wire.encoding import Encoder, payload_of
from edge.mavlink.wire.frames import MESSAGES, SIGNED

RANGES = {
    "uint8_t": (0, 255), "int8_t": (-128, 127), "uint16_t": (0, 65_535), "int16_t": (-32_768, 32_767),
    "uint32_t": (0, 2**32 - 1), "int32_t": (-(2**31), 2**31 - 1), "uint64_t": (0, 2**64 - 1),
    "int64_t": (-(2**63), 2**63 - 1), "uint8_t_mavlink_version": (0, 255),
}  # fmt: skip


def values_of(kind: Any, chance: random.Random) -> dict[str, Any]:
    """Return a value that fits for each field of a message; every third field is zero."""
    lengths = dict(zip(kind.ordered_fieldnames, kind.array_lengths, strict=True))

    def one(type_name: str) -> Any:
        if type_name in ("float", "double"):
            return math.ldexp(chance.randint(-1000, 1000), chance.randint(-8, 8))
        return chance.choice((*RANGES[type_name], chance.randint(*RANGES[type_name])))

    fields = {}
    for name, type_name in zip(kind.fieldnames, kind.fieldtypes, strict=True):
        count, is_zero = lengths[name], chance.random() < 1 / 3
        if type_name == "char":
            fields[name] = b"" if is_zero else chance.randbytes(chance.randint(0, max(count, 1)))
        elif count:
            fields[name] = [0 if is_zero else one(type_name) for _ in range(count)]
        else:
            fields[name] = 0 if is_zero else one(type_name)
    return fields


@pytest.mark.parametrize("seed", range(5))
def test_every_message_of_both_dialects_is_the_frame_that_pymavlink_packs(seed: int) -> None:
    chance, ours, theirs = random.Random(seed), Encoder(3, 191), common.MAVLink(None, 3, 191)
    for kind in MESSAGES.values():
        fields = values_of(kind, chance)
        expected = bytes(kind(**fields).pack(theirs))
        theirs.seq = (theirs.seq + 1) % 256

        assert ours.frame(kind(**fields)) == expected, kind.msgname
    assert len(MESSAGES) > 200


def test_a_frame_that_will_be_signed_says_so_and_its_checksum_covers_that() -> None:
    encoder, message = Encoder(1, 191), standard.heartbeat(4)
    plain, announced = encoder.frame(message), encoder.frame(message, is_signed=True)

    assert (
        announced
        == samples.encode_frame(samples.Frame(1, 1, 191, 0, plain[10:-2]), 50)[:2] + bytes((SIGNED,)) + announced[3:]
    )
    assert samples.crc16(announced[1:-2] + bytes([50])) == int.from_bytes(announced[-2:], "little")


def test_what_pymavlink_does_not_know_is_encoded_the_same_way() -> None:
    frame = Encoder(1, 191).frame(component.ProtocolVersion())
    found = samples.decode_frame(frame, component.ProtocolVersion.crc_extra, 22)

    assert struct.unpack("<HHH8s8s", found.payload) == (200, 200, 200, bytes(8), bytes(8))


def test_a_value_that_does_not_fit_is_an_error_and_no_other_value() -> None:
    with pytest.raises(struct.error):
        payload_of(common.MAVLink_heartbeat_message(256, 8, 0, 0, 4, 3))
