"""Parameters that are read, set and saved over links."""

import json
import math
import re
import time
from pathlib import Path
from typing import Any

import mavlink_samples as samples
import pytest
import signatures
from mavlink_vehicle import (
    ACCEPTED,
    DENIED,
    FAILED,
    IN_PROGRESS,
    OURS,
    S,
    Vehicle,
    long,
    put,
)
from pymavlink.dialects.v20 import common

from edge.config import load_flight
from edge.mavlink.control.parameters import PARAMETERS, read_saved
from edge.mavlink.deployment import LinkConfig
from edge.mavlink.wire import dialect

NAN = math.nan
PATIENCE_S = 30
USER_1, USER_2, USER_3 = common.MAV_CMD_USER_1, common.MAV_CMD_USER_2, common.MAV_CMD_USER_3
REQUEST, SET_INTERVAL = common.MAV_CMD_REQUEST_MESSAGE, common.MAV_CMD_SET_MESSAGE_INTERVAL
STORAGE = common.MAV_CMD_PREFLIGHT_STORAGE


@pytest.fixture
def vehicle() -> Vehicle:
    return Vehicle()


def listing(vehicle: Vehicle) -> list[Any]:
    """Ask for all parameters."""
    return vehicle.hear(common.MAVLink_param_request_list_message(*OURS)).take("PARAM_VALUE")


def test_all_parameters_are_told_in_order_as_real32_with_the_deployments_values() -> None:
    told = listing(Vehicle(max_rate_hz=50))

    assert [(value.param_id, value.param_index) for value in told] == [
        (known.name, index) for index, known in enumerate(PARAMETERS)
    ]
    assert {(value.param_count, value.param_type) for value in told} == {(len(PARAMETERS), 9)}
    assert [value.param_value for value in told] == [50, 2, 1, 0, 300, 2, -1, -1, 0.5, 20]
    assert max(len(known.name) for known in PARAMETERS) <= 16


def test_a_value_of_the_deployment_that_no_real32_holds_is_told_as_the_most() -> None:
    vehicle = Vehicle(max_age_ms=1e300)

    assert vehicle.read("FUS_STALE_MS")["FUS_STALE_MS"] == pytest.approx(3e38)


def test_a_parameter_is_told_by_name_and_by_index(vehicle: Vehicle) -> None:
    assert vehicle.read("FUS_TEXT") == {"FUS_TEXT": 1}
    assert vehicle.read(index=0) == {"FUS_RATE_HZ": 200}


@pytest.mark.parametrize(("name", "index"), [("FUS_NONE", -1), ("", -1), ("FUS_TEXT", 99), ("FUS_TEXT", -2)])
def test_a_parameter_that_is_not_there_is_not_answered(vehicle: Vehicle, name: str, index: int) -> None:
    assert vehicle.read(name, index) == {}


def test_a_value_that_is_set_is_told_and_stays(vehicle: Vehicle) -> None:
    assert vehicle.hear(put("FUS_RATE_HZ", 5)).values() == {"FUS_RATE_HZ": 5}
    assert vehicle.read("FUS_RATE_HZ") == {"FUS_RATE_HZ": 5}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FUS_RATE_HZ", NAN), ("FUS_RATE_HZ", math.inf), ("FUS_RATE_HZ", 0), ("FUS_RATE_HZ", 1001),
        ("FUS_TEXT", 0.5), ("FUS_TEXT", 2), ("FUS_MIN_CONF", -0.1), ("FUS_STALE_MS", 9), ("FUS_HB_TMO", 31),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_and_the_one_in_force_is_told(
    vehicle: Vehicle, name: str, value: float
) -> None:
    before = vehicle.read(name)

    assert vehicle.hear(put(name, value)).values() == before


def test_refused_values_are_explained_once_for_each_parameter_and_counted(
    vehicle: Vehicle, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10):
        vehicle.hear(put("FUS_TEXT", 2), put("FUS_LINK_BPS", NAN))

    refusals = [record.message for record in caplog.records if "refused" in record.message]
    assert refusals == [
        "FUS_TEXT of 255/190: refused 2 of type 9: expected 0 to 1, whole as REAL32 (9); the rest is counted",
        "FUS_LINK_BPS of 255/190: refused nan of type 9: expected 200 to 1e+06, or -1 as REAL32 (9);"
        " the rest is counted",
    ]
    assert vehicle.services.complaints.counts == {"refused": 20}


def test_parameters_that_are_not_there_or_set_for_all_are_explained_once_and_counted(
    vehicle: Vehicle, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        vehicle.hear(put("FUS_NONE", 1), put("FUS_TEXT", 0, target=(1, 0)))
        vehicle.read("OTHER")
        vehicle.read(index=99)

    assert vehicle.services.complaints.counts == {"no such parameter": 9, "not for us alone": 3}
    assert len([record for record in caplog.records if "the rest is counted" in record.message]) == 2


def test_what_all_are_asked_for_and_we_do_not_have_is_no_complaint(vehicle: Vehicle) -> None:
    vehicle.hear(put("SYSID_MYGCS", 1, target=(1, 0)), long(510, 33, target=(1, 0)))

    assert vehicle.read("SYSID_MYGCS", target=(1, 0)) == {}
    assert vehicle.services.complaints.counts == {}


@pytest.mark.parametrize("period_s", [0.0, 1.0])
def test_parameters_come_one_after_the_other_on_a_link_that_answers_fill(period_s: float) -> None:
    link = LinkConfig(link="udpout:h:1", budget_bytes_s=200, aggregate_s=period_s, bearer=("tunnel",))
    vehicle = Vehicle(link_configs=(link,))
    for number in range(40):
        vehicle.answer(sequence=number).wait(0.05)
    vehicle.take("TUNNEL")
    vehicle.hear(common.MAVLink_param_request_list_message(*OURS))
    for number in range(300):
        vehicle.answer(sequence=number).wait(0.05)

    assert [value.param_index for value in vehicle.take("PARAM_VALUE")] == list(range(len(PARAMETERS)))
    assert vehicle.take("TUNNEL")


def test_a_flood_of_questions_is_counted(vehicle: Vehicle) -> None:
    for _ in range(500):
        vehicle.hear(common.MAVLink_param_request_list_message(*OURS), put("FUS_TEXT", 0))

    assert vehicle.services.complaints.counts["too many"] > 800


@pytest.mark.parametrize("kind", [common.MAV_PARAM_TYPE_INT32, common.MAV_PARAM_TYPE_UINT8, 0, 255])
def test_a_value_of_another_type_is_refused(vehicle: Vehicle, kind: int) -> None:
    assert vehicle.hear(put("FUS_MIN_CONF", 0.5, kind)).values() == {"FUS_MIN_CONF": 0}


@pytest.mark.parametrize("target", [(1, 0), (0, 191), (0, 0), (2, 191), (1, 1)])
def test_a_value_for_others_or_for_all_changes_nothing(vehicle: Vehicle, target: tuple[int, int]) -> None:
    assert vehicle.hear(put("FUS_TEXT", 0, target=target)).values() == {}
    assert vehicle.read("FUS_TEXT") == {"FUS_TEXT": 1}


@pytest.mark.parametrize(("target", "is_answered"), [((1, 0), True), ((0, 0), True), ((1, 1), False), ((2, 0), False)])
def test_parameters_are_told_to_who_asks_us_or_all(
    vehicle: Vehicle, target: tuple[int, int], is_answered: bool
) -> None:
    assert vehicle.read("FUS_TEXT", target=target) == ({"FUS_TEXT": 1} if is_answered else {})


def test_the_list_is_not_sent_again_and_again(vehicle: Vehicle) -> None:
    for _ in range(500):
        vehicle.hear(common.MAVLink_param_request_list_message(*OURS))

    assert 5 <= len(vehicle.take("PARAM_VALUE")) / len(PARAMETERS) <= 6


def test_the_rate_limits_answers(vehicle: Vehicle) -> None:
    vehicle.answers(1)
    vehicle.hear(put("FUS_RATE_HZ", 5))

    assert vehicle.answers(10) == pytest.approx(50, abs=2)
    assert vehicle.interval_of(61200) == 200_000


def test_numbers_and_texts_can_be_switched_off_and_on(vehicle: Vehicle) -> None:
    vehicle.hear(put("FUS_NVAL_HZ", 0), put("FUS_TEXT", 0)).sent[0].clear()
    vehicle.answers(2)
    assert samples.names(vehicle.sent[0]) == {"HEARTBEAT": 2}
    assert vehicle.interval_of(251) == -1

    vehicle.hear(put("FUS_NVAL_HZ", 10), put("FUS_TEXT", 1))
    vehicle.answers(2)
    assert len(vehicle.take("NAMED_VALUE_FLOAT")) == pytest.approx(80, abs=4)
    assert [text.text for text in vehicle.take("STATUSTEXT")] == ["FUSION: drone 75%"]


def test_answers_below_the_least_confidence_make_no_text(vehicle: Vehicle) -> None:
    vehicle.hear(put("FUS_MIN_CONF", 0.6))
    vehicle.answer(confidence=0.5, label="bird").wait(1.5).answer(confidence=0.75).wait(1.5)

    assert [text.text for text in vehicle.take("STATUSTEXT")] == ["FUSION: drone 75%"]


def test_the_age_that_is_stale_and_the_silence_that_is_an_emergency_can_be_set(vehicle: Vehicle) -> None:
    vehicle.hear(put("FUS_STALE_MS", 10_000), put("FUS_HB_TMO", 5))
    vehicle.answer(modalities=(samples.modality("iq", capture_ns=vehicle.now_ns - 5 * S),)).wait(4)

    assert not vehicle.take("FUSION_CLASSIFICATION")[0].flags & dialect.FUSION_FLAGS_STALE_INPUT
    assert vehicle.take("HEARTBEAT")[-1].system_status == common.MAV_STATE_CRITICAL
    vehicle.wait(2)
    assert vehicle.take("HEARTBEAT")[-1].system_status == common.MAV_STATE_EMERGENCY


def saved_by(vehicle: Vehicle) -> list[int]:
    """Save, and wait for the end; return the first result and the last one."""
    vehicle.hear(long(STORAGE, 1))
    results = [result for _, result in vehicle.acks()]
    deadline_s = time.monotonic() + PATIENCE_S
    while results[-1] == IN_PROGRESS and time.monotonic() < deadline_s:
        results += [result for _, result in vehicle.wait(0.01).acks()]
    return [results[0], results[-1]]


def test_what_is_saved_counts_after_a_restart_and_what_is_not_does_not(tmp_path: Path) -> None:
    place = str(tmp_path / "parameters.json")
    vehicle = Vehicle(parameters=place).hear(put("FUS_RATE_HZ", 5), put("FUS_MIN_CONF", 1e-5))

    assert saved_by(vehicle) == [IN_PROGRESS, ACCEPTED]
    vehicle.hear(put("FUS_TEXT", 0))

    again = Vehicle(parameters=place)
    assert again.read("FUS_RATE_HZ") == {"FUS_RATE_HZ": 5}
    assert again.read("FUS_MIN_CONF")["FUS_MIN_CONF"] == pytest.approx(1e-5)
    assert again.read("FUS_TEXT") == {"FUS_TEXT": 1}
    assert set(json.loads(Path(place).read_text())["parameters"]) == {"FUS_RATE_HZ", "FUS_MIN_CONF"}
    again.answers(1)
    assert again.answers(2) == pytest.approx(10, abs=1)


def test_saved_and_deployed_values_can_be_taken_back(tmp_path: Path) -> None:
    vehicle = Vehicle(parameters=str(tmp_path / "parameters.json")).hear(put("FUS_RATE_HZ", 5))
    saved_by(vehicle)
    vehicle.hear(put("FUS_RATE_HZ", 7))

    assert vehicle.ask(STORAGE, 0) == ACCEPTED
    assert vehicle.read("FUS_RATE_HZ") == {"FUS_RATE_HZ": 5}
    assert vehicle.ask(STORAGE, 2) == ACCEPTED
    assert vehicle.read("FUS_RATE_HZ") == {"FUS_RATE_HZ": 200}


def test_the_file_of_the_parameters_lies_beside_the_deployment(tmp_path: Path) -> None:
    path = tmp_path / "flight.yaml"
    streams = "streams: {radio: {modality: iq, endpoint: 'ipc:///tmp/unused', rate_hz: 100}}"
    mavlink = "mavlink: {links: ['udpout:127.0.0.1:14550'], parameters: state/parameters.json}"
    path.write_text(f"bundle: none.uavb\nresults: ipc:///tmp/unused-results\n{streams}\n{mavlink}\n")

    config = load_flight(path).mavlink

    assert config is not None
    assert config.parameters == str(tmp_path / "state" / "parameters.json")


def test_every_parameter_has_a_row_in_the_documentation(root: Path) -> None:
    row = re.compile(r"^\| `(FUS_\w+)` \| ([\d.]+)(?: to |, )([\d.]+) \|", re.MULTILINE)
    rows = row.findall((root / "docs" / "mavlink.md").read_text())

    documented = [(name, float(low), float(high)) for name, low, high in rows]
    assert documented == [(known.name, known.low, known.high) for known in PARAMETERS]


@pytest.mark.parametrize("action", [3, 4, -1, 0.5, NAN])
def test_other_kinds_of_storage_are_denied(tmp_path: Path, action: float) -> None:
    assert Vehicle(parameters=str(tmp_path / "parameters.json")).ask(STORAGE, action) == DENIED


def test_saving_is_denied_where_the_deployment_names_no_file(vehicle: Vehicle) -> None:
    assert [vehicle.ask(STORAGE, action) for action in (0, 1, 2)] == [DENIED, DENIED, ACCEPTED]


def test_a_disk_that_refuses_is_told_as_a_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vehicle = Vehicle(parameters=str(tmp_path / "folder" / "parameters.json"))
    (tmp_path / "folder").write_text("no folder")

    assert saved_by(vehicle) == [IN_PROGRESS, FAILED]
    assert "parameters are not saved" in caplog.text


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[]", "cannot be read"),
        (b'{"parameters": {"FUS_RATE_HZ": 5, "FUS_T', "cannot be read"),
        (b'{"parameters": {"FUS_TEXT": "1"}}', "cannot be read"),
        (b'{"parameters": {}, "x": 1}', "cannot be read"),
        (b'{"parameters": {"FUS_NONE": 1}}', "FUS_NONE: expected one of FUS_RATE_HZ"),
        (b'{"parameters": {"FUS_TEXT": 2}}', "FUS_TEXT is 2: expected 0 to 1"),
    ],
)
def test_a_damaged_file_is_told_to_all_and_the_flight_begins_as_deployed(
    tmp_path: Path, content: bytes, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "p.json").write_bytes(content)
    vehicle = Vehicle(parameters=str(tmp_path / "p.json"))
    vehicle.wait(2)

    assert problem in caplog.text
    assert [text.text for text in vehicle.take("STATUSTEXT")] == ["FUSION: saved parameters damaged, as deployed"]
    assert vehicle.values() | vehicle.read("FUS_TEXT") == {"FUS_TEXT": 1}
    assert (tmp_path / "p.json").read_bytes() == content


def test_who_comes_late_hears_of_damaged_parameters_until_they_are_saved_anew(tmp_path: Path) -> None:
    def said() -> list[str]:  # whether the pipeline is silent, too, depends on how long the disk takes
        return [text.text for text in vehicle.wait(3).take("STATUSTEXT") if "parameters" in text.text]

    (tmp_path / "p.json").write_bytes(b"")
    vehicle = Vehicle(parameters=str(tmp_path / "p.json"))
    damaged = ["FUSION: saved parameters damaged, as deployed"]
    assert said() == damaged
    vehicle.hear(signatures.heartbeat())
    assert said() == damaged

    assert saved_by(vehicle) == [IN_PROGRESS, ACCEPTED]
    assert said() == ["FUSION: parameters are saved anew"]
    vehicle.hear(signatures.heartbeat(), sender=(254, 190))
    assert said() == []


def test_of_a_file_with_one_wrong_value_the_others_count(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"parameters": {"FUS_RATE_HZ": 5, "FUS_TEXT": 2, "FUS_OLD": 1}}')

    vehicle = Vehicle(parameters=str(tmp_path / "p.json"))
    assert vehicle.read("FUS_RATE_HZ") == {"FUS_RATE_HZ": 5}
    assert vehicle.read("FUS_TEXT") == {"FUS_TEXT": 1}
    assert saved_by(vehicle) == [IN_PROGRESS, ACCEPTED]
    assert read_saved(tmp_path / "p.json") == ({"FUS_RATE_HZ": 5}, "")
