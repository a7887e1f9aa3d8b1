"""What an autopilot is asked for, and until when."""

from typing import Any

import pytest
from mavlink_vehicle import AUTOPILOT, S, Vehicle
from pymavlink.dialects.v20 import common

from edge.mavlink.control.wanted import AGAIN_NS, ATTITUDE, CONTESTS, GIMBAL, POSITION, SYSTEM_TIME, Want, WantedRates
from edge.mavlink.geometry.camera import CameraConfig

SET_INTERVAL, UNSUPPORTED = common.MAV_CMD_SET_MESSAGE_INTERVAL, common.MAV_RESULT_UNSUPPORTED
CAMERA = CameraConfig(stream="front", size_px=(1280, 720), field_of_view_deg=62, mount_deg=(0, -90, 0), gimbal=True)


class Asked:
    """An autopilot that sends what it is told to, and notes what it is asked, in steps of 10 ms."""

    def __init__(self, *wants: Want, rates_hz: dict[str, float] | None = None) -> None:
        self.rates = WantedRates(AUTOPILOT, wants, now_ns=0)
        self.rates_hz = rates_hz or {}
        self.requests: list[tuple[float, Any]] = []
        self.news: list[tuple[int, str]] = []
        self.now_ns = 0

    def fly(self, seconds: float) -> "Asked":
        for _ in range(round(seconds * 100)):
            before_ns, self.now_ns = self.now_ns, self.now_ns + S // 100
            for name, rate_hz in self.rates_hz.items():
                for _ in range(int(self.now_ns * rate_hz) // S - int(before_ns * rate_hz) // S):
                    self.rates.on_message(name)
            self.requests += [(self.now_ns / S, message) for message in self.rates.take(self.now_ns)]
            self.news += [(news.level, news.status_text) for news in self.rates.take_news()]
        return self

    @property
    def kinds(self) -> list[str]:
        return [message.get_type() for _, message in self.requests]


def test_what_comes_anyway_is_not_asked_for() -> None:
    rates_hz = {"ATTITUDE": 20.0, "GLOBAL_POSITION_INT": 10.0, "SYSTEM_TIME": 1.0}
    asked = Asked(ATTITUDE, POSITION, SYSTEM_TIME, rates_hz=rates_hz).fly(60)

    assert (asked.requests, asked.news) == ([], [])


def test_what_is_missing_is_asked_for_until_it_comes() -> None:
    asked = Asked(ATTITUDE, rates_hz={"ATTITUDE": 4.0}).fly(2.5)
    asked.rates_hz["ATTITUDE"] = 20.0
    asked.fly(60)

    assert [at_s for at_s, _ in asked.requests] == [2.0]
    message = asked.requests[0][1]
    assert (message.target_system, message.target_component, message.command) == (*AUTOPILOT, SET_INTERVAL)
    assert (message.param1, message.param2) == (common.MAVLINK_MSG_ID_ATTITUDE, 50_000)


def test_three_times_in_the_new_way_three_times_in_the_old_then_people_are_told_once() -> None:
    asked = Asked(ATTITUDE).fly(20)

    assert asked.kinds == ["COMMAND_LONG"] * 3 + ["REQUEST_DATA_STREAM"] * 3
    stream = asked.requests[-1][1]
    assert (stream.req_stream_id, stream.req_message_rate, stream.start_stop) == (common.MAV_DATA_STREAM_EXTRA1, 20, 1)
    assert [text for _, text in asked.news] == ["FUSION: too little ATTITUDE"]

    asked.fly(AGAIN_NS / S - 10)
    assert len(asked.requests) == 6
    asked.fly(30)
    assert len(asked.requests) == 12
    assert len(asked.news) == 1


def test_what_comes_in_the_end_is_told_too() -> None:
    asked = Asked(ATTITUDE).fly(20)
    asked.rates_hz["ATTITUDE"] = 20.0
    asked.fly(80)

    assert [text for _, text in asked.news] == ["FUSION: too little ATTITUDE", "FUSION: sends again ATTITUDE"]
    assert len(asked.requests) == 6


def test_an_autopilot_that_does_not_know_the_command_is_asked_in_the_old_way_at_once() -> None:
    asked = Asked(ATTITUDE).fly(2.5)
    asked.rates.on_acknowledged(SET_INTERVAL, UNSUPPORTED)
    asked.fly(2)

    assert asked.kinds == ["COMMAND_LONG", "REQUEST_DATA_STREAM"]


def test_an_acknowledgement_alone_satisfies_nobody() -> None:
    asked = Asked(ATTITUDE).fly(2.5)
    asked.rates.on_acknowledged(SET_INTERVAL, common.MAV_RESULT_ACCEPTED)

    assert asked.fly(2).kinds == ["COMMAND_LONG"] * 2


def test_an_autopilot_that_restarts_is_asked_again() -> None:
    asked = Asked(ATTITUDE, rates_hz={"ATTITUDE": 20.0}).fly(30)
    asked.rates_hz["ATTITUDE"] = 0.0

    assert asked.fly(4.5).kinds[0] == "COMMAND_LONG"


def test_a_stream_that_holds_several_is_asked_for_once() -> None:
    other = Want("EKF", 193, 1, common.MAV_DATA_STREAM_EXTRA3, "EKF", "")

    assert Asked(SYSTEM_TIME, other).fly(17).kinds == ["COMMAND_LONG"] * 6 + ["REQUEST_DATA_STREAM"]


def test_a_stream_is_asked_for_as_often_as_that_message_of_it_which_is_needed_most_often() -> None:
    asked = Asked(SYSTEM_TIME, GIMBAL).fly(3)
    asked.rates.on_acknowledged(SET_INTERVAL, UNSUPPORTED)
    asked.fly(20)

    streams = [message for _, message in asked.requests if message.get_type() == "REQUEST_DATA_STREAM"]
    assert {(stream.req_stream_id, stream.req_message_rate) for stream in streams} == {
        (common.MAV_DATA_STREAM_EXTRA3, GIMBAL.rate_hz)
    }


class Contested(Asked):
    """An autopilot that obeys, while a ground station sets its own rate again two seconds later, for a while."""

    def fly_beside_another(self, seconds: int) -> "Contested":
        obeyed = 0
        for _ in range(seconds * 2):
            self.fly(0.5)
            is_asked, obeyed = len(self.requests) > obeyed, len(self.requests)
            if is_asked:
                self.rates_hz["ATTITUDE"] = 20.0
                self.fly(3)
            self.rates_hz["ATTITUDE"] = 4.0
        return self


def test_who_sets_other_rates_again_and_again_is_left_alone_and_people_are_told_once() -> None:
    asked = Contested(ATTITUDE, rates_hz={"ATTITUDE": 4.0}).fly_beside_another(60)

    assert [text for _, text in asked.news] == ["FUSION: others slow down ATTITUDE"]
    assert len(asked.requests) == CONTESTS
    asked.rates_hz["ATTITUDE"] = 20.0
    assert [text for _, text in asked.fly(90).news[1:]] == ["FUSION: sends again ATTITUDE"]
    assert len(asked.requests) == CONTESTS


def heartbeat(autopilot: int) -> Any:
    return common.MAVLink_heartbeat_message(2, autopilot, 0, 0, 4, 3)


def requested(vehicle: Vehicle, seconds: int, autopilot: int = 3, link: int = 0) -> list[int]:
    """Let an autopilot be there; return the ids of the messages that it is asked for."""
    for _ in range(seconds):
        vehicle.hear(heartbeat(autopilot), sender=AUTOPILOT, link=link).wait(1)
    return [int(message.param1) for message in vehicle.take("COMMAND_LONG", link) if message.command == SET_INTERVAL]


@pytest.mark.parametrize(("camera", "wanted"), [(None, {2, 33}), (CAMERA, {2, 33, 30, 24, 285})])
def test_the_vehicles_autopilot_is_asked_for_what_the_deployment_needs(camera: Any, wanted: set[int]) -> None:
    vehicle = Vehicle(links=2, camera=camera)

    assert set(requested(vehicle, 6, link=1)) == wanted
    assert vehicle.take("COMMAND_LONG", 0) == []


@pytest.mark.parametrize(("camera", "interval_us"), [(None, 100_000), (CAMERA, 50_000)])
def test_positions_are_asked_for_more_often_where_a_camera_needs_them(camera: Any, interval_us: int) -> None:
    vehicle = Vehicle(camera=camera)
    for _ in range(6):
        vehicle.hear(heartbeat(3), sender=AUTOPILOT).wait(1)

    asked = [message for message in vehicle.take("COMMAND_LONG") if message.param1 == 33]
    assert {message.param2 for message in asked} == {interval_us}


def test_who_is_no_autopilot_is_asked_for_nothing() -> None:
    assert requested(Vehicle(), 6, autopilot=common.MAV_AUTOPILOT_INVALID) == []


def test_positions_that_come_from_the_autopilot_itself_count_and_those_of_others_do_not() -> None:
    vehicle = Vehicle()
    position = common.MAVLink_global_position_int_message(1, 470000000, 80000000, 400000, 100000, 0, 0, 0, 0)
    for tenth in range(60):
        sender = AUTOPILOT if tenth < 30 else (1, 2)
        vehicle.hear(heartbeat(3), position, sender=AUTOPILOT if tenth < 30 else sender)
        vehicle.hear(heartbeat(3), sender=AUTOPILOT).wait(0.08)
        if tenth == 29:
            assert 33 not in [int(message.param1) for message in vehicle.take("COMMAND_LONG")]

    assert 33 in [int(message.param1) for message in vehicle.take("COMMAND_LONG")]


@pytest.mark.parametrize("away_s", [8, 60], ids=["it restarts", "its link is down"])
def test_an_autopilot_that_was_silent_is_asked_at_once_in_the_new_way_and_nobody_is_told(away_s: int) -> None:
    vehicle = Vehicle()
    assert requested(vehicle, 3) != []
    vehicle.wait(away_s)
    vehicle.take("COMMAND_LONG")
    vehicle.take("REQUEST_DATA_STREAM")

    assert set(requested(vehicle, 5)) == {SYSTEM_TIME.message_id, POSITION.message_id}
    assert vehicle.take("REQUEST_DATA_STREAM") == []
    assert [text.text for text in vehicle.take("STATUSTEXT") if "too little" in text.text] == []
