"""How often messages go out on each link, as others ask for it."""

import math
from pathlib import Path

import pytest
from mavlink_vehicle import ACCEPTED, DENIED, S, Vehicle, put
from pymavlink.dialects.v20 import common

from edge.mavlink.control.onboard import onboard_status
from edge.operations.board import read_board

NAN = math.nan
REQUEST, SET_INTERVAL = common.MAV_CMD_REQUEST_MESSAGE, common.MAV_CMD_SET_MESSAGE_INTERVAL


@pytest.fixture
def vehicle() -> Vehicle:
    return Vehicle()


def test_answers_come_as_seldom_as_asked_for_on_that_link_alone() -> None:
    vehicle = Vehicle(links=2)
    vehicle.answers(1)
    assert vehicle.ask(SET_INTERVAL, 61200, 500_000) == ACCEPTED

    assert vehicle.answers(10) == pytest.approx(20, abs=1)
    assert len(vehicle.take("FUSION_CLASSIFICATION", 1)) == 220
    assert vehicle.interval_of(61200) == 500_000


def test_another_class_goes_out_at_once_however_seldom_answers_are_wanted(vehicle: Vehicle) -> None:
    vehicle.answer().wait(0.1).ask(SET_INTERVAL, 61200, 60_000_000)
    vehicle.sent[0].clear()
    for number in range(30):
        vehicle.answer(sequence=number, class_id=1 + number // 10).wait(0.1)

    assert [message.class_id[0] for message in vehicle.take("FUSION_CLASSIFICATION")] == [2, 3]


def test_names_of_classes_are_promised_no_more_often_than_they_come(vehicle: Vehicle) -> None:
    vehicle.status().wait(1).take("FUSION_CLASS_INFO")
    for _ in range(90):
        vehicle.status().wait(1)

    assert vehicle.interval_of(61202) == 90_000_000 / (len(vehicle.take("FUSION_CLASS_INFO")) / 3)
    assert vehicle.ask(SET_INTERVAL, 61202, 5_000_000) == DENIED
    assert vehicle.ask(SET_INTERVAL, 61202, 60_000_000) == ACCEPTED


def test_minus_one_stops_a_message_and_zero_brings_it_back(vehicle: Vehicle) -> None:
    assert vehicle.ask(SET_INTERVAL, 61200, -1) == ACCEPTED
    assert (vehicle.answers(1), vehicle.interval_of(61200)) == (0, -1)

    assert vehicle.ask(SET_INTERVAL, 61200, 0) == ACCEPTED
    assert (vehicle.answers(1), vehicle.interval_of(61200)) == (20, 5_000)


def test_numbers_for_people_keep_together_when_they_are_wanted_less_often(vehicle: Vehicle) -> None:
    assert vehicle.ask(SET_INTERVAL, 251, 2_000_000) == ACCEPTED
    vehicle.take("NAMED_VALUE_FLOAT")
    for number in range(100):
        vehicle.answer(sequence=number).wait(0.1)

    names = [message.name for message in vehicle.take("NAMED_VALUE_FLOAT")]
    assert len(names) == pytest.approx(20, abs=4)
    assert names[:4] == ["FUS_CLS", "FUS_CONF", "FUS_LAT", "FUS_ENT"]


@pytest.mark.parametrize(
    ("number", "interval_us"),
    [
        (61200, 4_999), (61200, -2), (61200, NAN), (61200, math.inf), (61200, 0.5), (61203, 999_999),
        (390, 500_000), (251, 100_000), (0, 1_000_000), (253, 1_000_000), (33, 100_000), (-1, 1_000_000),
        (NAN, 1_000_000), (61201, 1_000_000), (61200, -0.5), (61200, 1e30), (61200, -math.inf), (61200, 2**31),
    ],
)  # fmt: skip
def test_more_than_is_sent_and_what_is_not_ours_is_denied(vehicle: Vehicle, number: float, interval_us: float) -> None:
    assert vehicle.ask(SET_INTERVAL, number, interval_us) == DENIED


def test_the_interval_of_thirty_a_second_is_no_whole_number_and_accepted(vehicle: Vehicle) -> None:
    assert vehicle.ask(SET_INTERVAL, 61200, 1e6 / 30) == ACCEPTED
    assert vehicle.interval_of(61200) == 33_334


def test_a_slow_port_denies_more_than_it_carries() -> None:
    vehicle = Vehicle(link="serial:/dev/ttyS{}:9600")

    assert vehicle.ask(SET_INTERVAL, 61200, 2_000_000) == ACCEPTED
    assert vehicle.ask(SET_INTERVAL, 61200, 500_000) == DENIED
    assert vehicle.interval_of(61200) == 2_000_000


@pytest.mark.parametrize(("number", "interval_us"), [(0, 1_000_000), (61203, 1_000_000), (33, 0), (253, 0)])
def test_the_interval_of_any_message_can_be_asked(vehicle: Vehicle, number: int, interval_us: int) -> None:
    assert vehicle.interval_of(number) == interval_us


def test_where_bytes_are_counted_the_boards_status_comes_every_ten_seconds_unless_asked_for() -> None:
    vehicle = Vehicle(link="serial:/dev/ttyS{}:57600")
    status = onboard_status(read_board(Path("/nowhere"), lambda _: None), [], None, S)

    def count(seconds: int) -> int:
        vehicle.take("ONBOARD_COMPUTER_STATUS")
        for _ in range(seconds):
            vehicle.services.offer([status], vehicle.wait(1).now_ns)
        return len(vehicle.wait(0.1).take("ONBOARD_COMPUTER_STATUS"))

    assert (count(31), vehicle.interval_of(390)) == (4, 10_000_000)
    assert vehicle.ask(SET_INTERVAL, 390, 1_000_000) == ACCEPTED
    assert (count(10), vehicle.interval_of(390)) == (10, 1_000_000)
    assert vehicle.ask(REQUEST, 390) == ACCEPTED
    assert len(vehicle.wait(1).take("ONBOARD_COMPUTER_STATUS")) == 1


def test_an_answer_that_is_asked_for_comes_at_once_where_answers_are_summed_up() -> None:
    vehicle = Vehicle(link="serial:/dev/ttyS{}:921600").hear(put("FUS_AGG_S", 60))
    vehicle.answer(sequence=1).wait(0.1).answer(sequence=2).wait(0.1)
    first = vehicle.take("TUNNEL")

    assert vehicle.ask(REQUEST, 61200) == ACCEPTED
    (second,) = vehicle.take("TUNNEL")
    assert len(first) == 1
    assert [bytes(tunnel.payload[8:12]) for tunnel in (*first, second)] == [b"\1\0\0\0", b"\2\0\0\0"]


@pytest.mark.parametrize(("period_s", "count"), [(0, 20), (0.5, 2), (-1, 1)])
def test_how_long_answers_are_summed_up_can_be_set_for_all_links(period_s: float, count: int) -> None:
    vehicle = Vehicle(link="serial:/dev/ttyS{}:921600").hear(put("FUS_AGG_S", period_s))
    vehicle.answers(2)
    vehicle.take("TUNNEL")
    vehicle.answers(10)

    assert len(vehicle.take("TUNNEL")) == pytest.approx(10 * count, abs=count)


def test_the_budget_of_a_limited_link_can_be_set_and_an_unlimited_one_stays_so() -> None:
    limited, unlimited = Vehicle(link="serial:/dev/ttyS{}:9600"), Vehicle()
    for vehicle in (limited, unlimited):
        vehicle.hear(put("FUS_LINK_BPS", 800))

    budgets = [vehicle.services.outlets.all[0].budget for vehicle in (limited, unlimited)]
    assert budgets[1] is None
    assert budgets[0] is not None
    assert budgets[0].bytes_s == 800
    assert limited.ask(SET_INTERVAL, 61200, 200_000) == ACCEPTED
    limited.hear(put("FUS_LINK_BPS", -1))
    assert budgets[0].bytes_s == 200


def test_a_serial_port_is_never_given_more_than_its_line_carries() -> None:
    vehicle = Vehicle(link="serial:/dev/ttyS{}:9600").hear(put("FUS_LINK_BPS", 1_000_000))

    budget = vehicle.services.outlets.all[0].budget
    assert budget is not None
    assert budget.bytes_s == 960
