"""What a link with a budget carries while others ask, and how soon."""

from pathlib import Path
from typing import Any

import mavlink_samples as samples
import pytest
import signatures
from mavlink_radio import Radio
from mavlink_vehicle import ACCEPTED, GROUND, NOT_NOW, S, Vehicle, long, put
from pymavlink.dialects.v20 import common

from edge.mavlink.control.onboard import onboard_status
from edge.mavlink.deployment import LinkConfig
from edge.mavlink.wire import codec, standard
from edge.operations.board import read_board

REQUEST, UNKNOWN_COMMAND = common.MAV_CMD_REQUEST_MESSAGE, 999
CHANGE_S = 3


def slow(bytes_s: float = 200, period_s: float | None = None) -> Vehicle:
    """Return a vehicle on one slow link."""
    config = LinkConfig(link="udpout:h:1", budget_bytes_s=bytes_s, aggregate_s=period_s)
    return Vehicle(link_configs=(config,))


def told_of_changes(vehicle: Vehicle, question: Any) -> list[float]:
    """Ask 20 times a second while the class changes ten times; return after how long each change was told."""
    late_s = []
    waiting: tuple[int, int] | None = None
    for number in range(20 * CHANGE_S * 10):
        if number % (20 * CHANGE_S) == 0:
            waiting = number, vehicle.now_ns
        vehicle.ports[0].incoming.append(("peer", signatures.plain(question, GROUND)))
        vehicle.answer(sequence=number, class_id=number // (20 * CHANGE_S) % 3).wait(0.05)
        told = vehicle.take("FUSION_CLASSIFICATION") + vehicle.take("FUSION_CLASSIFICATION_LITE")
        if waiting is not None and any((one.sequence - waiting[0]) % 256 < 20 for one in told):
            late_s.append((vehicle.now_ns - waiting[1]) / S)
            waiting = None
    return late_s


@pytest.mark.parametrize("bytes_s", [200, 576])
@pytest.mark.parametrize(
    "question",
    [long(UNKNOWN_COMMAND), long(REQUEST, 0), long(REQUEST, 61200), long(REQUEST, 148)],
    ids=["what we do not know", "heartbeat", "answer", "version"],
)
def test_changes_are_told_within_a_tenth_of_a_second_whoever_commands_20_times_a_second(
    question: Any, bytes_s: float
) -> None:
    late_s = told_of_changes(slow(bytes_s), question)

    assert len(late_s) == 10
    assert max(late_s) <= 0.1


def test_a_few_commands_are_acknowledged_at_once_on_the_slowest_link_and_more_one_after_the_other() -> None:
    vehicle = slow().hear(*[long(UNKNOWN_COMMAND)] * 3)
    assert len(vehicle.acks()) == 3
    assert len(vehicle.hear(*[long(UNKNOWN_COMMAND)] * 12).acks()) < 12
    assert len(vehicle.wait(20).acks()) >= 8


def test_on_a_link_with_a_budget_the_newest_is_said_again_once_a_second_and_on_another_as_often_as_asked() -> None:
    vehicle, fast = slow(bytes_s=1000), Vehicle()
    for one in (vehicle, fast):
        one.wait(0.1).answer().wait(0.1)
    assert [vehicle.ask(REQUEST, number) for number in (0, 61200, 0, 61200)] == [ACCEPTED, ACCEPTED, NOT_NOW, NOT_NOW]
    assert vehicle.wait(0.8).answer().wait(0.2).ask(REQUEST, 61200) == ACCEPTED
    assert [fast.ask(REQUEST, 61200) for _ in range(5)] == [ACCEPTED] * 5


def test_a_change_does_not_wait_behind_a_warning_for_which_there_is_no_room(tmp_path: Path) -> None:
    radio = Radio(200)
    radio.wait(3).offer(onboard_status(read_board(tmp_path, ask=lambda _: None), [], None, 0))
    change = codec.classification_message(
        codec.report_of(samples.answer(), model_id=1, now_ns=905_000_000, max_age_ms=300.0, is_replay=False)
    )
    radio.offer(change, standard.status_text(4, "w" * 50)).wait(0.1)

    assert len(radio.named("FUSION_CLASSIFICATION_LITE")) == 1
    assert len(radio.wait(2).named("STATUSTEXT")) == 1


def test_a_parameter_that_is_set_while_the_radio_is_choked_leaves_the_shares_of_a_budget_as_they_are() -> None:
    vehicle = slow(576)
    for _ in range(10):
        vehicle.hear(common.MAVLink_radio_status_message(0, 0, 5, 0, 0, 0, 0), sender=(51, 68)).wait(1)
    vehicle.hear(put("FUS_MIN_CONF", 0.1)).wait(30).take("TIMESYNC")
    for _ in range(600):
        vehicle.hear(common.MAVLink_timesync_message(tc1=0, ts1=vehicle.now_ns)).wait(0.04)

    assert len(vehicle.take("TIMESYNC")) >= 30  # of 43 bytes at most, with a tenth of 576 a second; 14 before
