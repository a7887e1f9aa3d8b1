"""MAV_CMD_USER_1: what is published is paused, stopped and started, and everybody is told."""

import math

import mavlink_samples as samples
import pytest
from mavlink_vehicle import ACCEPTED, DENIED, NOT_NOW, S, Vehicle
from pymavlink.dialects.v20 import common

from edge.mavlink.outgoing.publishing import Mode
from edge.transport.messages import Injected, Load

NAN = math.nan
USER_1, SET_INTERVAL = common.MAV_CMD_USER_1, common.MAV_CMD_SET_MESSAGE_INTERVAL


@pytest.fixture
def vehicle() -> Vehicle:
    return Vehicle()


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
