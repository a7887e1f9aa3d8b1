"""Commands of others, as they arrive on links and are answered."""

import math
import struct
from pathlib import Path
from typing import Any

import mavlink_samples as samples
import pytest
import signatures
from hypothesis import given
from hypothesis import strategies as st
from mavlink_vehicle import (
    ACCEPTED,
    AUTOPILOT,
    DENIED,
    FAILED,
    GROUND,
    IN_PROGRESS,
    NOT_NOW,
    OURS,
    UNSUPPORTED,
    S,
    Vehicle,
    integer,
    long,
    put,
)
from pymavlink.dialects.v20 import common

from edge.mavlink import dialect
from edge.mavlink.commands import ACCEPTED as CARRIED_OUT
from edge.mavlink.commands import COMMANDS_HZ, MAX_REMEMBERED, REPEATED_NS, Command, Commands, Reply
from edge.mavlink.complaints import MAX_TOLD, Complaints
from edge.mavlink.component import CAPABILITIES, ProtocolVersion, version_number
from edge.mavlink.deployment import SpoolConfig
from edge.mavlink.frames import MESSAGES
from edge.mavlink.link import Received
from edge.mavlink.parameters import PARAMETERS
from edge.mavlink.publishing import Mode
from edge.mavlink.security import Security
from edge.transport.messages import Injected, Load

NAN = math.nan
USER_1, USER_2, USER_3 = common.MAV_CMD_USER_1, common.MAV_CMD_USER_2, common.MAV_CMD_USER_3
REQUEST, SET_INTERVAL = common.MAV_CMD_REQUEST_MESSAGE, common.MAV_CMD_SET_MESSAGE_INTERVAL
STORAGE = common.MAV_CMD_PREFLIGHT_STORAGE


@pytest.fixture
def vehicle() -> Vehicle:
    return Vehicle()


def test_an_unknown_command_is_unsupported_and_its_sender_is_named(vehicle: Vehicle) -> None:
    ack = vehicle.hear(long(common.MAV_CMD_COMPONENT_ARM_DISARM, 1)).take("COMMAND_ACK")[0]

    assert (ack.command, ack.result) == (400, UNSUPPORTED)
    assert (ack.target_system, ack.target_component) == GROUND


@pytest.mark.parametrize("number", [USER_2, 246, 0, 65535])
def test_what_we_do_not_do_is_unsupported(vehicle: Vehicle, number: int) -> None:
    assert vehicle.ask(number, 1) == UNSUPPORTED


@pytest.mark.parametrize("target", [(2, 191), (1, 1), (1, 0), (0, 191), (0, 0), (255, 190)])
@pytest.mark.parametrize("number", [USER_1, SET_INTERVAL, STORAGE, 400])
def test_what_does_not_name_us_alone_changes_nothing_and_is_not_answered(
    vehicle: Vehicle, target: tuple[int, int], number: int
) -> None:
    vehicle.hear(long(number, 0, target=target), long(number, 2, target=target))

    assert vehicle.acks() == []
    assert vehicle.publisher.publishing.value == "on"


@pytest.mark.parametrize(("target", "is_answered"), [((1, 0), True), ((0, 0), True), ((2, 0), False), ((1, 1), False)])
def test_a_message_can_be_requested_of_all_components(
    vehicle: Vehicle, target: tuple[int, int], is_answered: bool
) -> None:
    vehicle.hear(long(REQUEST, 148, target=target), long(REQUEST, 33, target=target))

    assert vehicle.acks() == [(REQUEST, ACCEPTED)] * is_answered
    assert len(vehicle.take("AUTOPILOT_VERSION")) == is_answered


def test_commands_with_integers_are_answered_too(vehicle: Vehicle) -> None:
    assert vehicle.hear(integer(USER_1, 2)).acks() == [(USER_1, ACCEPTED)]
    assert vehicle.publisher.publishing.value == "paused"


def recorded() -> tuple[Commands, list[Command]]:
    """Return commands of which USER_1 is noted when it is carried out."""
    carried_out: list[Command] = []

    def handler(command: Command, now_ns: int) -> Reply:
        carried_out.append(command)
        return CARRIED_OUT

    return Commands(OURS, {USER_1: handler}, Complaints()), carried_out


def hear(commands: Commands, message: Any, now_ns: int = 0, sender: tuple[int, int] = GROUND) -> list[int]:
    """Let a command arrive; return the results of all acknowledgements."""
    item = Received(system_id=sender[0], component_id=sender[1], sequence=0, name=message.get_type(), message=message)
    commands.on_received(0, item, now_ns)
    return [ack.result for _, ack in commands.take(now_ns)]


def test_a_repetition_is_acknowledged_again_and_not_carried_out_again() -> None:
    commands, carried_out = recorded()

    results = [hear(commands, long(USER_1, 1, NAN, confirmation=n), n * S) for n in range(4)]

    assert results == [[ACCEPTED]] * 4
    assert len(carried_out) == 1


def test_what_is_no_repetition_is_carried_out() -> None:
    commands, carried_out = recorded()
    hear(commands, long(USER_1, 1))

    hear(commands, long(USER_1, 1), S)  # asked anew
    hear(commands, long(USER_1, 0, confirmation=1), 2 * S)  # the first of another, which was lost, never came
    hear(commands, long(USER_1, 0, confirmation=1), 2 * S, sender=(254, 190))
    hear(commands, long(USER_1, 0, confirmation=1), 3 * S + REPEATED_NS)

    assert len(carried_out) == 5


def test_many_senders_are_not_remembered_for_ever() -> None:
    commands, carried_out = recorded()
    for number in range(MAX_REMEMBERED + 1):
        hear(commands, long(USER_1, 1), number * S // 10, sender=(number + 1, 1))

    hear(commands, long(USER_1, 1, confirmation=1), 7 * S, sender=(1, 1))
    hear(commands, long(USER_1, 1, confirmation=1), 7 * S, sender=(MAX_REMEMBERED + 1, 1))

    assert len(carried_out) == MAX_REMEMBERED + 2


def test_a_flood_of_commands_is_answered_at_a_bounded_rate() -> None:
    commands, carried_out = recorded()
    for number in range(10_000):
        hear(commands, long(USER_1, 1), number * S // 1000)

    assert 10 * COMMANDS_HZ <= len(carried_out) <= 11 * COMMANDS_HZ


def test_what_takes_long_is_acknowledged_as_begun_and_then_with_its_end() -> None:
    results: list[int | None] = [None, None, FAILED]
    begun = Reply(result=IN_PROGRESS, later=lambda: results.pop(0))
    commands = Commands(OURS, {STORAGE: lambda command, now_ns: begun}, Complaints())

    assert hear(commands, long(STORAGE, 1)) == [IN_PROGRESS]
    assert hear(commands, long(STORAGE, 1, confirmation=1)) == [IN_PROGRESS]
    assert [ack.result for _, ack in commands.take(0)] == [FAILED]
    assert hear(commands, long(STORAGE, 1, confirmation=2)) == [FAILED]


def test_what_lasts_is_told_again_every_second_until_it_is_over() -> None:
    results: list[int] = []
    begun = Reply(result=IN_PROGRESS, later=lambda: results.pop() if results else None)
    commands = Commands(OURS, {STORAGE: lambda command, now_ns: begun}, Complaints())
    told = hear(commands, long(STORAGE, 1))

    for tenth in range(1, 35):
        told += [ack.result for _, ack in commands.take(tenth * S // 10)]
    results.append(ACCEPTED)
    told += [ack.result for _, ack in commands.take(4 * S)]

    assert told == [IN_PROGRESS] * 4 + [ACCEPTED]


def test_what_never_ends_is_told_as_a_failure_after_a_minute() -> None:
    begun = Reply(result=IN_PROGRESS, later=lambda: None)
    commands = Commands(OURS, {STORAGE: lambda command, now_ns: begun}, Complaints())
    told = hear(commands, long(STORAGE, 1))

    for second in range(1, 100):
        told += [ack.result for _, ack in commands.take(second * S)]

    assert told == [IN_PROGRESS] * 61 + [FAILED]


def test_a_question_that_is_repeated_is_answered_again_as_the_answer_may_have_been_lost(vehicle: Vehicle) -> None:
    for number in range(3):
        vehicle.hear(long(REQUEST, 148, confirmation=number))

    assert vehicle.acks() == [(REQUEST, ACCEPTED)] * 3
    assert len(vehicle.take("AUTOPILOT_VERSION")) == 3


def test_what_is_asked_in_vain_is_explained_once_and_counted(
    vehicle: Vehicle, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        vehicle.hear(long(SET_INTERVAL, 61200, NAN), long(400, 1), long(USER_1, 0, target=(1, 0)), long(USER_1, 9))

    explained = [record.message for record in caplog.records if record.name == "edge.mavlink.complaints"]
    assert [text.partition(":")[0] for text in explained] == [
        "command 511 of 255/190 (61200, nan, 0, 0, 0, 0, 0)",
        "command 400 of 255/190 (1, 0, 0, 0, 0, 0, 0)",
        "command 31010 of 255/190 to all",
        "command 31010 of 255/190 (9, 0, 0, 0, 0, 0, 0)",
    ]
    assert vehicle.services.complaints.counts == {"denied": 6, "unsupported": 3, "not for us alone": 3}


def test_a_flood_of_wrong_commands_is_counted_and_explained_only_so_often(
    vehicle: Vehicle, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1000):
        vehicle.hear(long(40_000 + number))

    counts = vehicle.services.complaints.counts
    assert sum(counts.values()) == 1000
    assert counts["too many"] > 700
    assert len(caplog.records) == MAX_TOLD


def fly(vehicle: Vehicle) -> dict[str, int]:
    """Let the pipeline answer for two seconds; return how many messages of each kind went out."""
    vehicle.sent[0].clear()
    for number in range(20):
        vehicle.answer(sequence=vehicle.now_ns // S * 100 + number, class_id=number // 10).wait(0.1)
        vehicle.status() if number % 10 == 0 else None
    counts = samples.names(vehicle.sent[0])
    return {name: counts[name] for name in ("HEARTBEAT", "FUSION_CLASSIFICATION", "FUSION_STATUS")}


def test_pausing_keeps_answers_back_and_stopping_status_too_while_heartbeats_go_on(vehicle: Vehicle) -> None:
    assert fly(vehicle) == {"HEARTBEAT": 2, "FUSION_CLASSIFICATION": 20, "FUSION_STATUS": 2}

    assert vehicle.ask(USER_1, 2) == ACCEPTED
    assert fly(vehicle) == {"HEARTBEAT": 2, "FUSION_CLASSIFICATION": 0, "FUSION_STATUS": 2}
    assert not vehicle.take("NAMED_VALUE_FLOAT")
    assert vehicle.take("HEARTBEAT")[-1].system_status == common.MAV_STATE_STANDBY

    assert vehicle.ask(USER_1, 3) == ACCEPTED
    assert fly(vehicle)["FUSION_CLASSIFICATION"] == 20

    assert vehicle.ask(USER_1, 0) == ACCEPTED
    assert fly(vehicle) == {"HEARTBEAT": 2, "FUSION_CLASSIFICATION": 0, "FUSION_STATUS": 0}
    assert not vehicle.take("FUSION_CLASS_INFO")

    assert vehicle.ask(USER_1, 1) == ACCEPTED
    assert vehicle.take("FUSION_CLASS_INFO")
    assert fly(vehicle)["FUSION_CLASSIFICATION"] == 20
    assert vehicle.take("HEARTBEAT")[-1].system_status == common.MAV_STATE_ACTIVE


def test_nothing_follows_the_acknowledgement_of_a_pause_even_where_answers_are_summed_up() -> None:
    vehicle = Vehicle(link="serial:/dev/ttyS{}:57600")
    vehicle.answers(2)
    vehicle.wait(0.3).answer(sequence=99).wait(0.1).take("TUNNEL")
    assert vehicle.services.outlets.all[0].aggregation.period_ns == S

    assert vehicle.ask(USER_1, 2) == ACCEPTED
    assert vehicle.wait(5).take("TUNNEL") == []
    assert vehicle.services.outlets.all[0].results_dropped > 0
    assert vehicle.ask(USER_1, 3) == ACCEPTED
    assert vehicle.wait(5).take("TUNNEL") == []


def test_nothing_follows_where_answers_are_switched_off_on_a_link() -> None:
    vehicle = Vehicle(link="serial:/dev/ttyS{}:57600")
    vehicle.answers(2)
    vehicle.wait(0.3).answer(sequence=99).wait(0.1).take("TUNNEL")

    assert vehicle.ask(SET_INTERVAL, 61200, -1) == ACCEPTED
    assert vehicle.wait(5).take("TUNNEL") == []


def test_an_answer_that_came_in_the_same_moment_as_the_pause_does_not_follow_it(vehicle: Vehicle) -> None:
    vehicle.answer(sequence=1)

    assert vehicle.ask(USER_1, 2) == ACCEPTED
    assert vehicle.take("FUSION_CLASSIFICATION") == []


def modes(vehicle: Vehicle) -> int:
    """Return custom_mode of the last heartbeat, which must say that it is one."""
    beat = vehicle.wait(1).take("HEARTBEAT")[-1]
    assert beat.base_mode == common.MAV_MODE_FLAG_CUSTOM_MODE_ENABLED
    return int(beat.custom_mode)


def test_the_heartbeats_mode_tells_what_is_published_what_is_shed_and_that_it_is_a_test(vehicle: Vehicle) -> None:
    told = [modes(vehicle.status())]
    for order in (2, 0, 1):
        vehicle.ask(USER_1, order)
        told.append(modes(vehicle))
    vehicle.publisher.on_status(samples.status(load=Load(level=1, name="image every 2nd")), vehicle.now_ns)
    told.append(modes(vehicle))
    vehicle.publisher.on_status(samples.status(injected=Injected(faults=("camera:stuck",))), vehicle.now_ns)
    told.append(modes(vehicle))

    assert told == [0, Mode.PAUSED, Mode.STOPPED, 0, Mode.SHEDS, Mode.TEST]


def test_a_silent_pipeline_is_told_of_while_nothing_is_published(vehicle: Vehicle) -> None:
    vehicle.answer().ask(USER_1, 0)
    vehicle.wait(4)

    assert vehicle.take("HEARTBEAT")[-1].system_status == common.MAV_STATE_EMERGENCY


def test_what_is_stopped_is_neither_paused_nor_resumed(vehicle: Vehicle) -> None:
    vehicle.ask(USER_1, 0)

    assert [vehicle.ask(USER_1, order) for order in (2, 3, 0, 1, 3)] == [NOT_NOW, NOT_NOW, ACCEPTED, ACCEPTED, ACCEPTED]


@pytest.mark.parametrize("order", [4, -1, 0.5, NAN, math.inf, -math.inf, 1e30])
def test_an_order_that_does_not_exist_is_denied(vehicle: Vehicle, order: float) -> None:
    assert vehicle.ask(USER_1, order) == DENIED
    assert vehicle.publisher.publishing.value == "on"


def test_who_stops_the_publishing_is_told_to_all(vehicle: Vehicle) -> None:
    vehicle.ask(USER_1, 0)
    vehicle.wait(2)

    assert "FUSION: publishing is stopped, by 255/190" in [text.text for text in vehicle.take("STATUSTEXT")]


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


def test_the_past_can_be_asked_for_again_where_the_flight_has_a_memory(tmp_path: Path) -> None:
    vehicle = Vehicle(spool=SpoolConfig(folder=str(tmp_path), min_free_bytes=0))
    vehicle.answers(5)
    vehicle.services.outlets.close()

    assert vehicle.ask(USER_3, 60, 0) == ACCEPTED
    records = vehicle.wait(2).take("FUSION_CLASSIFICATION_LITE")
    assert len(records) == 100
    assert all(record.flags & dialect.FUSION_FLAGS_BACKFILL for record in records)


@pytest.mark.parametrize("span", [(5, 5), (10, 20), (NAN, 0), (60, NAN), (math.inf, 0), (-1, -2), (1e6, 0)])
def test_a_span_that_is_none_is_denied(tmp_path: Path, span: tuple[float, float]) -> None:
    assert Vehicle(spool=SpoolConfig(folder=str(tmp_path), min_free_bytes=0)).ask(USER_3, *span) == DENIED


def test_without_a_memory_the_past_is_denied(vehicle: Vehicle) -> None:
    assert vehicle.ask(USER_3, 60, 0) == DENIED


def test_on_a_network_only_signed_commands_are_carried_out_and_anybody_may_read_parameters() -> None:
    vehicle = Vehicle(security=Security(require_signed="commands", signing=signatures.signing()))
    plain = [signatures.plain(message) for message in (long(USER_1, 0), integer(USER_1, 0), put("FUS_TEXT", 0))]

    assert vehicle.hear_frames(*plain).acks() == []
    assert (vehicle.publisher.publishing.value, vehicle.read("FUS_TEXT")) == ("on", {"FUS_TEXT": 1})

    now = signatures.NOW
    vehicle.hear_frames(
        signatures.signed(long(USER_1, 0), now), signatures.signed(put("FUS_TEXT", 0), now + 1),
        signatures.signed(long(USER_1, 1), now + 2, secret=signatures.OTHER_KEY),
        signatures.signed(long(USER_1, 0), now),
    )  # fmt: skip
    assert vehicle.acks() == [(USER_1, ACCEPTED)]
    assert (vehicle.publisher.publishing.value, vehicle.read("FUS_TEXT")) == ("stopped", {"FUS_TEXT": 0})


def test_without_a_key_on_a_network_nobody_commands() -> None:
    vehicle = Vehicle(security=Security(require_signed="commands")).hear(long(REQUEST, 148), put("FUS_TEXT", 0))

    assert (vehicle.acks(), vehicle.values()) == ([], {})
    assert dict(vehicle.links[0].refused) == {"no_key": 2}


def test_commands_of_those_who_are_not_on_the_list_are_not_carried_out() -> None:
    vehicle = Vehicle(security=Security(allow=frozenset({(255, 190)})))

    assert vehicle.hear(long(USER_1, 0), sender=(254, 190)).acks() == []
    assert vehicle.ask(USER_1, 2) == ACCEPTED


def test_our_own_commands_sent_back_to_us_are_not_carried_out(vehicle: Vehicle) -> None:
    assert vehicle.hear(long(USER_1, 0), sender=OURS).acks() == []


@pytest.mark.parametrize("sender", [GROUND, AUTOPILOT])
def test_every_message_of_the_standard_and_of_ours_may_arrive(sender: tuple[int, int]) -> None:
    vehicle = Vehicle().hear(common.MAVLink_heartbeat_message(2, 3, 0, 0, 4, 3), sender=AUTOPILOT)
    for fill in (b"\0", b"\1", b"\xff"):
        for number, kind in MESSAGES.items():
            frame = samples.Frame(0, *sender, number, fill * kind.unpacker.size)
            vehicle.hear_frames(samples.encode_frame(frame, kind.crc_extra))

    assert vehicle.links[0].counts.messages.total() > 3 * len(MESSAGES)


NUMBERS = st.one_of(
    st.sampled_from([0.0, 1.0, 2.0, 148.0, 300.0, 244.0, 390.0, 61200.0, 61202.0, -1.0, NAN, math.inf, -math.inf]),
    st.floats(width=32),
)
TARGETS = st.sampled_from([OURS, (1, 0), (0, 0), (0, 191), (1, 1), (7, 7)])
COMMANDS = st.builds(
    lambda target, number, confirmation, params: long(number, *params, target=target, confirmation=confirmation),
    TARGETS,
    st.one_of(st.sampled_from([REQUEST, SET_INTERVAL, USER_1, USER_2, USER_3, STORAGE]), st.integers(0, 65535)),
    st.integers(0, 255),
    st.lists(NUMBERS, min_size=7, max_size=7),
)
SETS = st.builds(
    lambda target, name, value, kind: put(name, value, kind, target),
    TARGETS,
    st.one_of(st.sampled_from([known.name for known in PARAMETERS]), st.text("FUS_X\0", max_size=16)),
    NUMBERS,
    st.integers(0, 255),
)


@given(st.lists(st.one_of(COMMANDS, SETS), max_size=8))
def test_whatever_arrives_is_answered_as_the_protocol_says_and_nothing_raises(messages: list[Any]) -> None:
    vehicle = Vehicle().status()
    for message in messages:
        vehicle.hear(message)
        acks, values = vehicle.acks(), vehicle.values()
        is_command, is_ours = message.get_type() == "COMMAND_LONG", _target(message) == OURS
        if is_ours:
            assert len(acks) == is_command
        if not is_command and is_ours and message.param_id in vehicle.services.parameters:
            assert list(values) == [message.param_id]
        assert acks in ([], [(REQUEST, ACCEPTED)]) or is_ours
    for known in PARAMETERS:
        assert known.takes(vehicle.services.parameters[known.name])
    vehicle.answer().wait(0.05)


def _target(message: Any) -> tuple[int, int]:
    return message.target_system, message.target_component
