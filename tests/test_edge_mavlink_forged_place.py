"""What forged frames can do to time and place, where somebody has proven who tells them, and where nobody has."""

from typing import Any

import pytest
from attacked import Air, keyed
from fake_autopilot import FakeAutopilot, S
from mavlink_vehicle import Vehicle
from pymavlink.dialects.v20 import common
from signatures import GROUND, NOW, plain, signed

from edge.mavlink.place.autopilots import GONE_NS, MAX_AUTOPILOTS
from edge.mavlink.trust.security import Security

AUTOPILOT = FakeAutopilot()
WIRE = Security(is_serial=True)
ELSEWHERE = common.MAVLink_global_position_int_message(0, 10_000_000, 20_000_000, 0, 0, 0, 0, 0, 0)
STRANGE_IDS = [(1, 1), (1, 0), (1, 2), (7, 1)]


def test_a_forged_position_in_the_name_of_an_autopilot_that_signs_moves_nothing() -> None:
    air = Air(keyed())
    air.hear(0, AUTOPILOT.heartbeat(), AUTOPILOT.position(0), is_signed=True)

    for _ in range(3):
        air.hear(0, AUTOPILOT.heartbeat(), ELSEWHERE)

    assert air.latitude_deg == pytest.approx(47.0)


@pytest.mark.parametrize("sender", STRANGE_IDS)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_forged_autopilot_on_a_network_never_takes_the_place_of_the_one_on_the_wire(
    sender: tuple[int, int], is_first: bool
) -> None:
    air = Air(Security(require_signed="commands"), WIRE)
    order = (0, 1) if is_first else (1, 0)
    for number in order:
        messages = (AUTOPILOT.heartbeat(), AUTOPILOT.position(0) if number else ELSEWHERE)
        air.hear(number, *messages, sender=(1, 1) if number else sender)

    assert air.key == (1, 1, 1)
    assert air.latitude_deg == pytest.approx(47.0)


def test_a_forged_autopilot_takes_no_place_that_fell_silent() -> None:
    air = Air(Security(require_signed="commands"), WIRE)
    air.hear(1, AUTOPILOT.heartbeat())
    air.clock.advance_to(air.clock.now_ns() + GONE_NS + 1)
    air.hear(0, AUTOPILOT.heartbeat(), ELSEWHERE)

    assert air.key is None


def test_what_was_forged_in_its_name_before_it_proves_itself_is_forgotten() -> None:
    air = Air(keyed())
    air.hear(0, AUTOPILOT.heartbeat(), ELSEWHERE)
    assert air.latitude_deg == pytest.approx(1.0)

    air.hear(0, AUTOPILOT.heartbeat(), is_signed=True)

    assert air.latitude_deg is None


def test_many_forged_autopilots_keep_no_genuine_one_out() -> None:
    air = Air(Security(require_signed="commands"), WIRE)
    for n in range(2 * MAX_AUTOPILOTS):
        air.hear(0, AUTOPILOT.heartbeat(), sender=(1 + n, 1))
    air.hear(1, AUTOPILOT.heartbeat(), sender=(9, 1))

    assert air.key == (1, 9, 1)


def test_where_nobody_proves_anything_the_autopilot_is_believed() -> None:
    air = Air(Security(require_signed="commands"))
    air.hear(0, AUTOPILOT.heartbeat(), AUTOPILOT.position(0))

    assert air.latitude_deg == pytest.approx(47.0)


def test_a_second_autopilot_of_the_vehicle_waits_behind_the_first() -> None:
    air = Air(WIRE)
    air.hear(0, AUTOPILOT.heartbeat(), ELSEWHERE, sender=(1, 0))
    air.hear(0, AUTOPILOT.heartbeat(), AUTOPILOT.position(0))

    assert air.key == (0, 1, 1)


def test_a_forged_restart_does_not_make_us_forget_the_time() -> None:
    air = Air(keyed())
    air.hear(0, AUTOPILOT.heartbeat(), AUTOPILOT.system_time(100 * S), AUTOPILOT.position(0), is_signed=True)
    air.hear(0, common.MAVLink_system_time_message(0, 1))

    assert air.latitude_deg == pytest.approx(47.0)


def test_what_is_recorded_of_a_vehicle_that_signs_is_not_forged_and_has_no_signature() -> None:
    air = Air(keyed())
    air.hear(0, AUTOPILOT.heartbeat(), is_signed=True)
    air.hear(0, AUTOPILOT.heartbeat(), ELSEWHERE)

    assert [item.frame for item in air.whereabouts.hearing.take()] == [plain(AUTOPILOT.heartbeat(), (1, 1))]


def test_forged_questions_for_our_time_use_up_no_answers_to_others() -> None:
    air = Air(keyed())
    for n in range(100):
        air.hear(0, common.MAVLink_timesync_message(tc1=0, ts1=1 + n), sender=GROUND)
    forged = len(air.whereabouts.autopilots.take(air.clock.now_ns()))
    air.hear(0, common.MAVLink_timesync_message(tc1=0, ts1=77), sender=GROUND, is_signed=True)

    assert forged < 100
    assert [message.ts1 for _, message in air.whereabouts.autopilots.take(air.clock.now_ns())] == [77]


@pytest.mark.parametrize(("required", "is_heard"), [("none", True), ("commands", True), ("all", False)])
def test_what_tells_time_and_place_must_be_signed_only_where_all_must(required: Any, is_heard: bool) -> None:
    air = Air(keyed(require_signed=required))
    air.hear(0, AUTOPILOT.heartbeat(), AUTOPILOT.position(0))

    assert (air.latitude_deg is not None) == is_heard


def test_a_forged_refusal_of_the_autopilot_does_not_end_what_it_is_asked_for() -> None:
    vehicle = Vehicle(security=keyed())
    refused = common.MAVLink_command_ack_message(common.MAV_CMD_SET_MESSAGE_INTERVAL, common.MAV_RESULT_UNSUPPORTED)
    for n in range(6):
        vehicle.hear_frames(signed(AUTOPILOT.heartbeat(), NOW + n, sender=(1, 1)), plain(refused, (1, 1))).wait(1)

    assert vehicle.take("COMMAND_LONG")
    assert vehicle.take("REQUEST_DATA_STREAM") == []
