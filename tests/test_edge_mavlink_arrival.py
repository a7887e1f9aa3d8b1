"""A ground station that comes late hears what holds: it was said before it was there."""

import logging
from typing import Any

import mavlink_samples as samples
from mavlink_vehicle import ACCEPTED, Vehicle
from pymavlink.dialects.v20 import common
from signatures import heartbeat

from edge.mavlink.network.peers import MAX_GROUNDS, News
from edge.mavlink.trust.security import Security

CLASS = "FUSION: drone 75%"


LOST = {"modalities": (samples.missing("iq"), samples.modality("image"))}


def texts(vehicle: Vehicle, seconds: float = 2, **answers: Any) -> list[str]:
    """Let the pipeline answer for a while; return what was said."""
    for _ in range(round(2 * seconds)):
        vehicle.answer(**answers).wait(0.5)
    return [message.text for message in vehicle.take("STATUSTEXT")]


def flown(**options: Any) -> Vehicle:
    """Return a vehicle that has told of what it sees."""
    vehicle = Vehicle(**options)
    assert texts(vehicle) == [CLASS]
    return vehicle


def test_a_ground_station_that_comes_late_hears_what_is_missing_and_the_class_and_not_what_is_well_again() -> None:
    vehicle = flown()
    assert texts(vehicle, **LOST) == ["FUSION: iq missing: silent"]
    assert texts(vehicle.hear(heartbeat()), **LOST) == ["FUSION: iq missing: silent", CLASS]
    assert texts(vehicle) == ["FUSION: iq is back"]
    assert texts(vehicle.hear(heartbeat(), sender=(254, 190))) == [CLASS]


def test_it_is_said_once_to_each_and_again_to_one_that_was_away() -> None:
    vehicle = flown()
    assert [texts(vehicle.hear(heartbeat())) for _ in range(3)] == [[CLASS], [], []]
    texts(vehicle, 11)
    assert texts(vehicle.hear(heartbeat())).count(CLASS) == 1


def test_what_changed_meanwhile_is_said_as_it_is_now() -> None:
    vehicle = flown().hear(heartbeat())
    vehicle.take("STATUSTEXT")
    assert texts(vehicle.hear(heartbeat(), sender=(254, 190)), class_id=2, label="bird") == ["FUSION: bird 75%"]


def test_what_only_happened_is_not_said_again() -> None:
    vehicle = flown()
    vehicle.publisher.on_news(
        News(level=30, text="", subject="double", status_text="FUSION: two of us"), vehicle.now_ns
    )
    assert texts(vehicle) == ["FUSION: two of us"]
    assert texts(vehicle.hear(heartbeat())) == [CLASS]


def test_the_class_is_not_said_to_who_comes_when_the_pipeline_is_dead_or_nobody_may_hear_of_answers() -> None:
    dead = flown().wait(60)
    dead.take("STATUSTEXT")
    dead.hear(heartbeat()).wait(5)
    assert [message.text for message in dead.take("STATUSTEXT")] == ["FUSION: pipeline is silent"]

    paused = flown()
    assert paused.ask(common.MAV_CMD_USER_1, 2) == ACCEPTED
    texts(paused)
    assert texts(paused.hear(heartbeat())) == []


def test_trouble_with_the_memory_is_said_to_who_comes_late_until_it_is_over() -> None:
    vehicle = flown()
    for ground, trouble, said in ((255, "fails", ["FUSION: memory fails", CLASS]), (254, "is well", [CLASS])):
        level = logging.WARNING if trouble == "fails" else logging.INFO
        text = f"FUSION: memory {trouble}"
        vehicle.publisher.on_news(News(level=level, text="", subject="memory", status_text=text), vehicle.now_ns)
        assert texts(vehicle) == [text]
        assert texts(vehicle.hear(heartbeat(), sender=(ground, 190))) == said


def test_who_is_not_believed_or_no_ground_station_makes_nobody_speak() -> None:
    vehicle = Vehicle(security=Security(require_signed="all"))
    texts(vehicle)
    assert CLASS not in texts(vehicle.hear(heartbeat()))
    camera = common.MAVLink_heartbeat_message(common.MAV_TYPE_CAMERA, common.MAV_AUTOPILOT_INVALID, 0, 0, 4, 3)
    assert texts(flown().hear(camera, sender=(1, 100))) == []


def test_of_many_ground_stations_only_the_first_are_told_and_others_once_those_are_gone() -> None:
    vehicle = flown()
    for number in range(MAX_GROUNDS):
        vehicle.hear(heartbeat(), sender=(1 + number, 190))
    assert set(texts(vehicle)) == {CLASS}
    assert texts(vehicle.hear(heartbeat())) == []
    texts(vehicle, 11)
    assert CLASS in texts(vehicle.hear(heartbeat()))
