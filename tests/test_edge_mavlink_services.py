"""Commands of others, as they arrive on links and are answered."""

import math
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
    OURS,
    UNSUPPORTED,
    S,
    Vehicle,
    integer,
    long,
    put,
)
from pymavlink.dialects.v20 import common

from edge.mavlink.control.commands import ACCEPTED as CARRIED_OUT
from edge.mavlink.control.commands import COMMANDS_HZ, MAX_REMEMBERED, REPEATED_NS, Command, Commands, Reply
from edge.mavlink.control.complaints import MAX_TOLD, Complaints
from edge.mavlink.control.parameters import PARAMETERS
from edge.mavlink.deployment import SpoolConfig
from edge.mavlink.network.link import Received
from edge.mavlink.trust.security import Security
from edge.mavlink.wire import dialect
from edge.mavlink.wire.frames import MESSAGES

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


def test_a_repetition_of_what_somebody_else_has_undone_since_is_carried_out() -> None:
    commands, carried_out = recorded()
    hear(commands, long(USER_1, 2))
    hear(commands, long(USER_1, 3), S, sender=(254, 190))
    hear(commands, long(USER_1, 2, confirmation=1), 2 * S)  # the first of another, which was lost

    assert len(carried_out) == 3


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


def test_what_is_asked_in_vain_is_explained_once_and_counted(
    vehicle: Vehicle, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        vehicle.hear(long(SET_INTERVAL, 61200, NAN), long(400, 1), long(USER_1, 0, target=(1, 0)), long(USER_1, 9))

    explained = [record.message for record in caplog.records if record.name == "edge.mavlink.control.complaints"]
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
