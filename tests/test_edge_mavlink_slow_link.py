"""What a link with a budget carries while others ask, texts wait, and something is switched off."""

from pathlib import Path
from typing import Any

import mavlink_samples as samples
import pytest
import signatures
from mavlink_radio import RADIO, Radio
from mavlink_vehicle import ACCEPTED, GROUND, NOT_NOW, S, Vehicle, long, put
from pymavlink.dialects.v20 import common

from edge.mavlink.control.onboard import onboard_status
from edge.mavlink.deployment import LinkConfig
from edge.mavlink.outgoing.budget import Priority
from edge.mavlink.outgoing.telling import CLASS
from edge.mavlink.wire import codec, standard
from edge.operations.board import read_board

REQUEST, SET_INTERVAL = common.MAV_CMD_REQUEST_MESSAGE, common.MAV_CMD_SET_MESSAGE_INTERVAL
USER_1, UNKNOWN_COMMAND = common.MAV_CMD_USER_1, 999
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


def texts(radio: Radio) -> list[str]:
    return [message.text for message in radio.named("STATUSTEXT")]


def filled(bytes_s: float = 200) -> Radio:
    """Return a link on which no text has room for a moment."""
    radio = Radio(bytes_s, RADIO)
    while radio.outlet.budget is not None and radio.outlet.budget.has_room(100, Priority.CHANGE, radio.now_ns):
        radio.outlet.budget.spend(50, radio.now_ns)
    return radio


def test_of_texts_about_the_same_only_the_newest_waits() -> None:
    radio = filled()
    for number in range(30):
        radio.offer(standard.status_text(6, f"class {number}", CLASS), standard.status_text(5, "load", "load"))
    radio.wait(10)

    assert texts(radio) == ["class 29", "load"]


def test_a_worse_text_about_the_same_takes_the_place_of_one_that_waits() -> None:
    radio = filled()
    radio.offer(standard.status_text(5, "iq is back", "modality 0"))
    radio.offer(standard.status_text(4, "iq missing", "modality 0")).wait(10)

    assert texts(radio) == ["iq missing"]


def test_texts_of_minutes_ago_are_not_said_once_answers_leave_room() -> None:
    vehicle = slow(576, period_s=0)
    for number in range(20 * 60):
        vehicle.answer(sequence=number, class_id=number // 40 % 3, label=f"kind {number // 40}").wait(0.05)
    vehicle.take("STATUSTEXT")
    late = [message.text for message in vehicle.wait(30).take("STATUSTEXT")]

    assert [text for text in late if "kind" in text] == ["FUSION: kind 29 75%"]


@pytest.mark.parametrize(("number", "name"), [(61203, "FUSION_STATUS"), (251, "NAMED_VALUE_FLOAT")])
def test_nothing_follows_of_what_was_switched_off_even_where_it_waited(number: int, name: str) -> None:
    vehicle = busy()
    assert vehicle.ask(SET_INTERVAL, number, -1) == ACCEPTED
    vehicle.take(name)

    assert vehicle.wait(20).take(name) == []


def busy() -> Vehicle:
    """Return a vehicle on whose link status, numbers and a text wait for room."""
    vehicle = slow(period_s=0)
    for number in range(100):
        vehicle.answer(sequence=number, class_id=number // 30 % 3, label=f"kind {number // 30}").wait(0.05)
        vehicle.status() if number % 20 == 0 else None
    return vehicle


def test_no_answer_follows_a_pause_in_words_or_numbers_and_no_status_follows_a_stop() -> None:
    paused, stopped = busy(), busy()
    assert paused.ask(USER_1, 2) == ACCEPTED
    assert stopped.ask(USER_1, 0) == ACCEPTED
    for vehicle in (paused, stopped):
        vehicle.wait(0.01).sent[0].clear()

    said = [message.text for message in paused.wait(20).take("STATUSTEXT")]
    assert [text for text in said if "kind" in text] == []
    assert paused.take("NAMED_VALUE_FLOAT") == []
    assert len(paused.take("FUSION_STATUS")) == 1
    assert stopped.wait(20).take("FUSION_STATUS") + stopped.take("FUSION_CLASS_INFO") == []


def test_a_class_that_was_to_be_told_at_the_moment_of_a_pause_is_not_told() -> None:
    vehicle = Vehicle().answer().wait(0.05)
    vehicle.answer(class_id=2, label="bird").wait(0.05)
    assert vehicle.ask(USER_1, 2) == ACCEPTED

    assert "FUSION: bird 75%" not in [message.text for message in vehicle.wait(5).take("STATUSTEXT")]
    assert vehicle.ask(USER_1, 3) == ACCEPTED
    vehicle.answer(class_id=2, label="bird").wait(3)
    assert "FUSION: bird 75%" in [message.text for message in vehicle.take("STATUSTEXT")]
