"""What others ask to see once: who we are, what was said last, names of classes."""

import math
import struct

import mavlink_samples as samples
import pytest
import signatures
from mavlink_vehicle import ACCEPTED, DENIED, NOT_NOW, Vehicle, long
from pymavlink.dialects.v20 import common

from edge.mavlink.control.component import CAPABILITIES, ProtocolVersion, version_number

NAN = math.nan
REQUEST = common.MAV_CMD_REQUEST_MESSAGE


@pytest.fixture
def vehicle() -> Vehicle:
    return Vehicle()


def test_a_question_that_is_repeated_is_answered_again_as_the_answer_may_have_been_lost(vehicle: Vehicle) -> None:
    for number in range(3):
        vehicle.hear(long(REQUEST, 148, confirmation=number))

    assert vehicle.acks() == [(REQUEST, ACCEPTED)] * 3
    assert len(vehicle.take("AUTOPILOT_VERSION")) == 3


def test_our_version_says_what_we_can_and_nothing_of_the_machine(vehicle: Vehicle) -> None:
    assert vehicle.ask(REQUEST, 148) == ACCEPTED

    version = vehicle.take("AUTOPILOT_VERSION")[0]
    assert version.capabilities == CAPABILITIES == 0x2000 | 0x8 | 0x2
    assert version.flight_sw_version > 0
    assert (version.uid, version.vendor_id, version.board_version) == (0, 0, 0)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1.2.3", 0x010203FF), ("0.1.0rc1", 0x00010000), ("300.0.0", 0xFF0000FF), ("", 0), ("unknown", 0)],
)
def test_a_version_is_a_byte_for_each_part(text: str, number: int) -> None:
    assert version_number(text) == number


def test_protocol_version_is_as_the_standard_defines_it(vehicle: Vehicle) -> None:
    definition = b"PROTOCOL_VERSION uint16_t version uint16_t min_version uint16_t max_version "
    definition += b"uint8_t spec_version_hash \x08uint8_t library_version_hash \x08"
    crc = samples.crc16(definition)

    vehicle.hear_frames(signatures.plain(long(REQUEST, 300)))
    data = next(data for data in vehicle.frames if data[7:10] == (300).to_bytes(3, "little"))
    frame = samples.decode_frame(data, (crc & 0xFF) ^ (crc >> 8), 22)
    assert (frame.message_id, struct.unpack("<HHH16s", frame.payload)) == (300, (200, 200, 200, bytes(16)))
    assert ProtocolVersion.crc_extra == (crc & 0xFF) ^ (crc >> 8)


def test_the_newest_answer_status_and_heartbeat_can_be_had_again(vehicle: Vehicle) -> None:
    assert [vehicle.ask(REQUEST, number) for number in (61200, 61203)] == [NOT_NOW, NOT_NOW]
    vehicle.answer(sequence=41).status().wait(1)
    vehicle.answer(sequence=42).wait(0.1).sent[0].clear()

    assert [vehicle.ask(REQUEST, number) for number in (0, 61200, 61203)] == [ACCEPTED] * 3
    assert [message.sequence for message in vehicle.take("FUSION_CLASSIFICATION")] == [42]
    assert len(vehicle.take("FUSION_STATUS")) == 1
    assert len(vehicle.take("HEARTBEAT")) == 1


def test_what_is_old_is_not_said_again(vehicle: Vehicle) -> None:
    vehicle.answer().status().wait(1)
    vehicle.wait(3)

    assert [vehicle.ask(REQUEST, number) for number in (61200, 61203, 0)] == [NOT_NOW, NOT_NOW, ACCEPTED]


@pytest.mark.parametrize(
    ("number", "name"), [(520, "AUTOPILOT_VERSION"), (519, "PROTOCOL_VERSION"), (510, "MESSAGE_INTERVAL")]
)
def test_the_old_ways_to_ask_are_answered_too(vehicle: Vehicle, number: int, name: str) -> None:
    ids = {"PROTOCOL_VERSION": 300, "AUTOPILOT_VERSION": 148, "MESSAGE_INTERVAL": 244}
    vehicle.hear(long(number, 1))

    assert vehicle.acks() == [(number, ACCEPTED)]
    assert ids[name] in [int.from_bytes(frame[7:10], "little") for frame in vehicle.frames]
    assert vehicle.ask(number, NAN) == DENIED


def test_the_name_of_a_class_can_be_requested(vehicle: Vehicle) -> None:
    vehicle.status().wait(1).sent[0].clear()

    assert [vehicle.ask(REQUEST, 61202, number) for number in (2, 3, -1, NAN)] == [ACCEPTED, DENIED, DENIED, DENIED]
    assert [info.label for info in vehicle.take("FUSION_CLASS_INFO")] == ["bird"]


@pytest.mark.parametrize("number", [33, 76, 61201, 61209, -1, 148.5, NAN, math.inf, 2.0**60])
def test_a_message_that_we_do_not_have_is_denied(vehicle: Vehicle, number: float) -> None:
    assert vehicle.ask(REQUEST, number) == DENIED


def test_a_requested_message_goes_to_the_link_that_asked() -> None:
    vehicle = Vehicle(links=2).hear(long(REQUEST, 148), link=1)

    assert (vehicle.acks(0), vehicle.take("AUTOPILOT_VERSION", 0)) == ([], [])
    assert (vehicle.acks(1), len(vehicle.take("AUTOPILOT_VERSION", 1))) == ([(REQUEST, ACCEPTED)], 1)
