"""What HEARTBEAT says of the pipeline, and when."""

from typing import Any

import mavlink_samples as samples
import pytest
from mavlink_flight import Flight
from pymavlink.dialects.v20 import common

from edge.config import MavlinkConfig
from edge.mavlink.outgoing.publisher import Publisher


@pytest.fixture
def flight() -> Flight:
    return Flight()


def test_a_heartbeat_goes_out_every_second_as_an_onboard_computer(flight: Flight) -> None:
    flight.wait(10)

    assert flight.times_s("HEARTBEAT") == pytest.approx([0.01 + n for n in range(10)])
    beat = flight.messages("HEARTBEAT")[0]
    assert (beat.type, beat.autopilot) == (common.MAV_TYPE_ONBOARD_CONTROLLER, common.MAV_AUTOPILOT_INVALID)


def test_heartbeats_go_on_and_tell_the_truth_when_the_pipeline_falls_silent(flight: Flight) -> None:
    flight.wait(1).hear_steadily(1).wait(3).hear_steadily(1)

    assert [beat.system_status for beat in flight.messages("HEARTBEAT")] == [
        common.MAV_STATE_BOOT,
        common.MAV_STATE_ACTIVE,
        common.MAV_STATE_ACTIVE,
        common.MAV_STATE_ACTIVE,
        common.MAV_STATE_EMERGENCY,
        common.MAV_STATE_ACTIVE,
    ]
    assert (common.MAV_SEVERITY_CRITICAL, "FUSION: pipeline is silent") in flight.texts()
    assert (common.MAV_SEVERITY_NOTICE, "FUSION: pipeline is back") in flight.texts()


def test_a_pipeline_that_never_comes_up_is_an_emergency_after_half_a_minute(flight: Flight) -> None:
    assert flight.wait(30).publisher.state(flight.now_ns) == common.MAV_STATE_BOOT
    assert flight.wait(1).publisher.state(flight.now_ns) == common.MAV_STATE_EMERGENCY


def test_a_pipeline_that_was_told_to_stop_is_no_emergency_until_nothing_follows_for_half_a_minute(
    flight: Flight,
) -> None:
    flight.hear(samples.answer())
    flight.publisher.on_status(samples.status(is_last=True), flight.now_ns)

    flight.wait(29)
    assert flight.publisher.state(flight.now_ns) == common.MAV_STATE_POWEROFF
    assert not [text for severity, text in flight.texts() if severity <= common.MAV_SEVERITY_CRITICAL]
    flight.wait(2)
    assert flight.publisher.state(flight.now_ns) == common.MAV_STATE_EMERGENCY
    flight.publisher.on_status(samples.status(is_last=False), flight.now_ns)
    flight.hear(samples.answer())
    assert flight.publisher.state(flight.now_ns) == common.MAV_STATE_ACTIVE


@pytest.mark.parametrize(
    "answer",
    [samples.no_data(), samples.answer(modalities=(samples.modality("iq"), samples.missing("image")))],
    ids=["no data", "image missing"],
)
def test_a_missing_modality_is_critical(flight: Flight, answer: Any) -> None:
    flight.hear(answer)

    assert flight.publisher.state(flight.now_ns) == common.MAV_STATE_CRITICAL


def test_status_without_answers_is_critical(flight: Flight) -> None:
    flight.hear(samples.answer()).wait(2.5)
    flight.publisher.on_status(samples.status(), flight.now_ns)

    assert flight.publisher.state(flight.now_ns) == common.MAV_STATE_CRITICAL


def test_an_engine_that_never_answers_is_critical_after_half_a_minute(flight: Flight) -> None:
    states = []
    for _ in range(32):
        flight.wait(1).publisher.on_status(samples.status(), flight.now_ns)
        states.append(flight.publisher.state(flight.now_ns))

    assert states == [common.MAV_STATE_BOOT] * 30 + [common.MAV_STATE_CRITICAL] * 2


def test_answers_that_come_every_five_seconds_are_not_missed_in_between(flight: Flight) -> None:
    flight.publisher = Publisher(
        MavlinkConfig(links=("udpout:h:1",)), {"radio": "iq"}, 300.0, flight.now_ns, answer_s=15.0
    )
    flight.hear(samples.answer())
    for _ in range(14):
        flight.wait(1).publisher.on_status(samples.status(), flight.now_ns)
        assert flight.publisher.state(flight.now_ns) == common.MAV_STATE_ACTIVE
    flight.wait(1.5).publisher.on_status(samples.status(), flight.now_ns)

    assert flight.publisher.state(flight.now_ns) == common.MAV_STATE_CRITICAL
