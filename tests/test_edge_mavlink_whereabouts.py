import math
from typing import Any

import mavlink_samples as samples
import pytest
from fake_autopilot import BOOT_NS, MS, UTC_US, FakeAutopilot, S
from hypothesis import given
from hypothesis import strategies as st
from mavlink_samples import camera
from pymavlink.dialects.v20 import common

from edge.mavlink.geometry import rotation
from edge.mavlink.place.autopilots import ANSWERS_HZ, MAX_AUTOPILOTS
from edge.mavlink.place.timesync import HOLD_NS
from edge.mavlink.place.whereabouts import Whereabouts
from edge.mavlink.wire import codec
from edge.mavlink.wire.codec import ClassificationReport, Flag, Position
from edge.transport.messages import Classification, Pose

START_NS = 5 * S
HOME = Position(47.0, 8.0, 500.0)
M_PER_DEG = 111_170.0
DOWN = common.GIMBAL_DEVICE_FLAGS_YAW_IN_VEHICLE_FRAME, rotation.of_angles(0.0, math.radians(-45), 0.0)


def answer(at_ns: int, **changes: Any) -> Classification:
    """Return an answer of radio and camera; the camera's frame is 30 ms older than the window."""
    radio = samples.modality("iq", stream="radio", capture_ns=at_ns)
    frame = samples.modality("image", stream="front", capture_ns=at_ns - 30 * MS)
    return samples.answer(**({"capture_ns": at_ns, "modalities": (radio, frame)} | changes))


def radio_alone(at_ns: int) -> Classification:
    return answer(at_ns, modalities=(samples.modality("iq", capture_ns=at_ns), samples.missing("image")))


def completed(whereabouts: Whereabouts, made: Classification, now_ns: int) -> ClassificationReport:
    report = codec.report_of(made, model_id=1, now_ns=now_ns, max_age_ms=300.0, is_replay=False)
    return whereabouts.complete(report, made, now_ns)


def north_m(report: ClassificationReport) -> float:
    assert report.position is not None
    return (report.position.latitude_deg - HOME.latitude_deg) * M_PER_DEG


# Time


def test_until_the_clocks_are_compared_time_counts_from_our_start_and_says_so() -> None:
    whereabouts = Whereabouts(system_id=1)
    report = completed(whereabouts, answer(START_NS), START_NS + 5 * MS)

    assert report.time_us == START_NS // 1000
    assert Flag.TIME_UNSYNCED in report.flags
    assert whereabouts.clock_offset_us(START_NS) is None


def test_an_autopilot_that_knows_the_date_gives_utc_of_the_capture() -> None:
    whereabouts = Whereabouts(system_id=1)
    now_ns = FakeAutopilot().fly(whereabouts, START_NS, 12)
    captured_ns = now_ns - 50 * MS
    report = completed(whereabouts, answer(captured_ns), now_ns)

    assert report.time_us == pytest.approx(UTC_US + (captured_ns + BOOT_NS) // 1000, abs=1000)
    assert Flag.TIME_UNSYNCED not in report.flags
    assert whereabouts.clock_offset_us(now_ns) == pytest.approx(BOOT_NS // 1000, abs=10)


@pytest.mark.parametrize("utc_us", [0, 1_500_000_000_000_000 - UTC_US, 5_000_000_000_000_000])
def test_an_autopilot_without_a_date_gives_its_own_time(utc_us: int) -> None:
    whereabouts = Whereabouts(system_id=1)
    now_ns = FakeAutopilot(utc_us=utc_us).fly(whereabouts, START_NS, 12)
    report = completed(whereabouts, answer(now_ns), now_ns)

    assert report.time_us == pytest.approx((now_ns + BOOT_NS) // 1000, abs=10)
    assert Flag.TIME_UNSYNCED not in report.flags


def test_a_date_that_is_corrected_holds_from_then_on() -> None:
    whereabouts, autopilot = Whereabouts(system_id=1), FakeAutopilot(utc_us=UTC_US - 3600 * 10**6)
    now_ns = autopilot.fly(whereabouts, START_NS, 12)
    autopilot.utc_us = UTC_US
    autopilot.say(whereabouts, now_ns, autopilot.system_time(now_ns))

    assert whereabouts.time_of(now_ns, now_ns).time_us == pytest.approx(UTC_US + (now_ns + BOOT_NS) // 1000, abs=1000)


def test_an_autopilot_that_began_anew_is_compared_anew() -> None:
    whereabouts, autopilot = Whereabouts(system_id=1), FakeAutopilot()
    now_ns = autopilot.fly(whereabouts, START_NS, 20)
    autopilot.boot_ns = -now_ns
    autopilot.say(whereabouts, now_ns, autopilot.system_time(now_ns))

    assert not whereabouts.time_of(now_ns, now_ns).is_synced
    asked = sum(autopilot.answers(whereabouts, now_ns + n * 100 * MS) for n in range(10))
    assert asked == 10
    now_ns += 2 * S
    assert whereabouts.clock_offset_us(now_ns) == pytest.approx(autopilot.boot_ns // 1000, abs=10)


def test_an_autopilot_that_is_gone_is_asked_nothing_and_its_time_holds_for_two_minutes() -> None:
    whereabouts = Whereabouts(system_id=1)
    now_ns = FakeAutopilot().fly(whereabouts, START_NS, 12)
    later_ns = now_ns + HOLD_NS - 20 * S

    assert whereabouts.autopilots.take(later_ns) == []
    told = whereabouts.time_of(later_ns, later_ns)
    assert told.time_us == pytest.approx(UTC_US + (later_ns + BOOT_NS) // 1000, abs=1000)
    assert told.is_synced
    assert whereabouts.clock_offset_us(later_ns) == pytest.approx(BOOT_NS // 1000, abs=10)
    assert not whereabouts.time_of(now_ns + HOLD_NS + S, now_ns + HOLD_NS + S).is_synced


def test_another_vehicle_does_not_take_the_place_of_ours_that_fell_silent_until_nobody_expects_that() -> None:
    whereabouts, other = Whereabouts(system_id=1), FakeAutopilot(system_id=7, boot_ns=999 * S)
    now_ns = FakeAutopilot().fly(whereabouts, START_NS, 12)
    now_ns = other.fly(whereabouts, now_ns, 30)
    assert whereabouts.clock_offset_us(now_ns) == pytest.approx(BOOT_NS // 1000, abs=10)
    assert completed(whereabouts, answer(now_ns), now_ns).position is None

    now_ns = other.fly(whereabouts, now_ns + HOLD_NS, 12)
    assert whereabouts.clock_offset_us(now_ns) == pytest.approx(other.boot_ns // 1000, abs=10)


def test_others_who_ask_for_our_time_get_it_on_their_link_and_a_flood_of_them_does_not() -> None:
    whereabouts, ground = Whereabouts(system_id=1), FakeAutopilot(system_id=255, component_id=190, link=1)
    ground.say(whereabouts, START_NS, common.MAVLink_timesync_message(tc1=0, ts1=42))
    ((link, reply),) = whereabouts.autopilots.take(START_NS)
    assert (link, reply.tc1, reply.ts1) == (1, START_NS, 42)

    ground.say(whereabouts, START_NS, *[common.MAVLink_timesync_message(tc1=0, ts1=n) for n in range(1000)])
    assert len(whereabouts.autopilots.take(START_NS)) < ANSWERS_HZ


def test_only_autopilots_are_asked_and_only_they_are_believed() -> None:
    whereabouts, liar = Whereabouts(system_id=1), FakeAutopilot(system_id=1, component_id=195)
    liar.say(whereabouts, START_NS, liar.system_time(START_NS), liar.attitude(START_NS), liar.position(START_NS))

    assert whereabouts.autopilots.take(START_NS) == []
    assert completed(whereabouts, answer(START_NS), START_NS).position is None


def test_of_two_autopilots_on_a_link_each_answers_every_question_and_ours_tells_the_time() -> None:
    whereabouts = Whereabouts(system_id=2)
    ours, other = FakeAutopilot(system_id=2), FakeAutopilot(system_id=7, boot_ns=999 * S)
    now_ns = START_NS
    for _ in range(12):
        for autopilot in (other, ours):
            autopilot.say(whereabouts, now_ns, autopilot.heartbeat())
        for _, question in whereabouts.autopilots.take(now_ns):
            for autopilot in (other, ours):
                reply = common.MAVLink_timesync_message(tc1=now_ns + autopilot.boot_ns, ts1=question.ts1)
                autopilot.say(whereabouts, now_ns, reply)
        now_ns += S

    assert whereabouts.clock_offset_us(now_ns) == ours.boot_ns // 1000


def test_questions_go_to_the_link_of_the_autopilot_alone() -> None:
    whereabouts, autopilot = Whereabouts(system_id=1), FakeAutopilot(link=3)
    autopilot.say(whereabouts, START_NS, autopilot.heartbeat())

    assert [link for link, _ in whereabouts.autopilots.take(START_NS)] == [3]


def test_a_stranger_alone_is_taken_for_ours_and_two_are_not() -> None:
    whereabouts = Whereabouts(system_id=1)
    now_ns = FakeAutopilot(system_id=7).fly(whereabouts, START_NS, 12)
    assert whereabouts.time_of(now_ns, now_ns).is_synced

    second = FakeAutopilot(system_id=8)
    second.say(whereabouts, now_ns, second.heartbeat())
    assert not whereabouts.time_of(now_ns, now_ns).is_synced


def test_the_same_autopilot_on_two_links_is_heard_on_the_one_that_tells_the_time() -> None:
    whereabouts, silent = Whereabouts(system_id=1), FakeAutopilot(link=0)
    now_ns = FakeAutopilot(link=1).fly(whereabouts, START_NS, 12)
    silent.say(whereabouts, now_ns, silent.heartbeat())

    assert whereabouts.time_of(now_ns, now_ns).is_synced


def test_a_crowd_of_autopilots_does_not_pile_up_and_makes_room_when_it_is_gone() -> None:
    whereabouts = Whereabouts(system_id=200)
    for system_id in range(1, 100):
        one = FakeAutopilot(system_id=system_id)
        one.say(whereabouts, START_NS, one.heartbeat())
    assert len(whereabouts.autopilots._known) == MAX_AUTOPILOTS

    now_ns = FakeAutopilot(system_id=200).fly(whereabouts, START_NS + 20 * S, 12)
    assert whereabouts.time_of(now_ns, now_ns).is_synced


# Place


def test_the_place_is_where_the_camera_looked_and_its_height_that_of_the_ground() -> None:
    whereabouts = Whereabouts(system_id=1, camera=camera())
    now_ns = FakeAutopilot().fly(whereabouts, START_NS, 3)
    report = completed(whereabouts, answer(now_ns), now_ns)

    assert Flag.GEO_VALID in report.flags
    assert report.position is not None
    assert report.position[1:] == pytest.approx((8.0, 400.0))
    assert north_m(report) == pytest.approx(100.0, abs=0.2)
    assert report.h_acc_m is not None
    assert 30 < report.h_acc_m < 100, "a quarter of 60 degrees, seen at 45"


def test_an_image_whose_centre_is_meant_is_placed_more_accurately() -> None:
    whereabouts = Whereabouts(system_id=1, camera=camera(target_spread_deg=0.0))
    now_ns = FakeAutopilot().fly(whereabouts, START_NS, 3)
    report = completed(whereabouts, answer(now_ns), now_ns)

    assert report.h_acc_m is not None
    assert 3 < report.h_acc_m < 15


def test_the_place_is_of_the_frames_time_not_of_the_answers() -> None:
    whereabouts, autopilot = Whereabouts(system_id=1, camera=camera()), FakeAutopilot(utc_us=0)
    now_ns = autopilot.fly(whereabouts, START_NS, 3)
    for heading_deg in (0.0, 90.0):
        now_ns += 100 * MS
        autopilot.heading_deg = heading_deg
        autopilot.say(whereabouts, now_ns, autopilot.attitude(now_ns), autopilot.position(now_ns))
    radio = samples.modality("iq", stream="radio", capture_ns=now_ns)
    frame = samples.modality("image", stream="front", capture_ns=now_ns - 50 * MS)
    report = completed(whereabouts, answer(now_ns, modalities=(radio, frame)), now_ns)

    assert north_m(report) == pytest.approx(100 * math.sqrt(0.5), abs=1.0)


def test_a_gimbal_is_heard_of_the_vehicles_own_system() -> None:
    whereabouts = Whereabouts(system_id=1, camera=camera(gimbal=True, mount_deg=(0.0, 0.0, 0.0)))
    autopilot = FakeAutopilot(heading_deg=180.0)
    now_ns = autopilot.fly(whereabouts, START_NS, 3)
    assert Flag.GEO_VALID not in completed(whereabouts, answer(now_ns), now_ns).flags

    flags, turned = DOWN
    device = FakeAutopilot(component_id=154, boot_ns=0)
    device.say(whereabouts, now_ns, device.gimbal(now_ns, turned, flags))
    stranger = FakeAutopilot(system_id=9, component_id=154)
    stranger.say(whereabouts, now_ns, stranger.gimbal(now_ns, rotation.STILL, flags))
    report = completed(whereabouts, answer(now_ns), now_ns)

    assert Flag.GEO_VALID in report.flags
    assert north_m(report) == pytest.approx(-100.0, abs=0.2)


@pytest.mark.parametrize(
    ("flags", "expected_m"),
    [
        (common.GIMBAL_DEVICE_FLAGS_YAW_IN_EARTH_FRAME, 100.0),
        (common.GIMBAL_DEVICE_FLAGS_YAW_IN_VEHICLE_FRAME | common.GIMBAL_DEVICE_FLAGS_YAW_LOCK, -100.0),
        (common.GIMBAL_DEVICE_FLAGS_YAW_LOCK, 100.0),
        (0, -100.0),
    ],
    ids=["earth frame", "vehicle frame", "old and locked", "old and following"],
)
def test_yaw_of_a_gimbal_counts_from_where_its_flags_say(flags: int, expected_m: float) -> None:
    whereabouts = Whereabouts(system_id=1, camera=camera(gimbal=True, mount_deg=(0.0, 0.0, 0.0)))
    autopilot = FakeAutopilot(heading_deg=180.0)
    now_ns = autopilot.fly(whereabouts, START_NS, 3)
    autopilot.say(whereabouts, now_ns, autopilot.gimbal(now_ns, DOWN[1], flags))

    assert north_m(completed(whereabouts, answer(now_ns), now_ns)) == pytest.approx(expected_m, abs=0.2)


@pytest.mark.parametrize(
    "changed",
    [
        {"mount_deg": (0.0, 10.0, 0.0)},
        {"ground_altitude_m": 600.0},
        {"stream": "rear"},
        {"gimbal": True},
    ],
    ids=["above the horizon", "below the ground", "another camera", "no gimbal there"],
)
def test_a_place_that_is_not_known_is_the_vehicles_and_not_called_the_things(changed: dict[str, Any]) -> None:
    whereabouts = Whereabouts(system_id=1, camera=camera(**changed), radio_radius_m=500.0)
    now_ns = FakeAutopilot().fly(whereabouts, START_NS, 3)
    report = completed(whereabouts, answer(now_ns), now_ns)

    assert Flag.GEO_VALID not in report.flags
    assert report.position == pytest.approx(HOME)
    assert report.h_acc_m is None


@pytest.mark.parametrize("late_ms", [120, 400, 5000])
def test_telemetry_that_is_too_old_places_nothing(late_ms: int) -> None:
    whereabouts = Whereabouts(system_id=1, camera=camera())
    now_ns = FakeAutopilot(utc_us=0).fly(whereabouts, START_NS, 3) + late_ms * MS
    report = completed(whereabouts, answer(now_ns + 30 * MS), now_ns)

    assert Flag.GEO_VALID not in report.flags
    assert report.position is None


def test_what_the_radio_alone_heard_is_within_its_radius_of_the_vehicle() -> None:
    whereabouts = Whereabouts(system_id=1, camera=camera(), radio_radius_m=500.0)
    now_ns = FakeAutopilot().fly(whereabouts, START_NS, 3)
    report = completed(whereabouts, radio_alone(now_ns), now_ns)

    assert report.position == pytest.approx(HOME)
    assert report.h_acc_m == 500.0
    assert Flag.GEO_VALID not in report.flags


def test_a_radius_about_nowhere_is_not_said() -> None:
    whereabouts = Whereabouts(system_id=1, radio_radius_m=500.0)

    assert completed(whereabouts, radio_alone(START_NS), START_NS).h_acc_m is None


def test_poses_of_a_recording_place_what_was_seen_where_no_autopilot_speaks() -> None:
    whereabouts = Whereabouts(system_id=1, camera=camera(ground_altitude_m=400.0))
    for n in range(10):
        whereabouts.on_pose(
            Pose(capture_ns=START_NS + n * 100 * MS, latitude_deg=47.0, longitude_deg=8.0, altitude_m=500.0)
        )
    now_ns = START_NS + 950 * MS
    report = completed(whereabouts, answer(now_ns), now_ns)

    assert Flag.GEO_VALID in report.flags
    assert north_m(report) == pytest.approx(100.0, abs=0.2)


def test_readings_take_the_time_of_the_autopilots_clock_and_not_of_their_arrival() -> None:
    whereabouts, autopilot = Whereabouts(system_id=1, camera=camera()), FakeAutopilot()
    now_ns = autopilot.fly(whereabouts, START_NS, 12)
    for heading_deg in (0.0, 90.0):
        now_ns += 100 * MS
        autopilot.heading_deg = heading_deg
        late = autopilot.attitude(now_ns), autopilot.position(now_ns)
        autopilot.say(whereabouts, now_ns + 80 * MS, *late)
    frame = samples.modality("image", stream="front", capture_ns=now_ns)
    report = completed(whereabouts, answer(now_ns, modalities=(frame,)), now_ns + 80 * MS)

    assert north_m(report) == pytest.approx(0.0, abs=2.0)


int64 = st.integers(-(2**63), 2**63 - 1)
int32 = st.integers(-(2**31), 2**31 - 1)
uint32 = st.integers(0, 2**32 - 1)
floats = st.floats(width=32)
strange = st.one_of(
    st.builds(common.MAVLink_timesync_message, tc1=int64, ts1=int64),
    st.builds(common.MAVLink_system_time_message, st.integers(0, 2**64 - 1), uint32),
    st.builds(common.MAVLink_attitude_message, uint32, *[floats] * 6),
    st.builds(
        common.MAVLink_global_position_int_message, uint32, *[int32] * 4, *[st.just(0)] * 4,
    ),
    st.builds(
        common.MAVLink_gimbal_device_attitude_status_message,
        st.just(0), st.just(0), uint32, st.integers(0, 2**16 - 1), st.lists(floats, min_size=4, max_size=4),
        floats, floats, floats, uint32,
    ),
    st.builds(
        common.MAVLink_gps_raw_int_message,
        st.just(0), st.integers(0, 255), int32, int32, int32, *[st.just(0)] * 5, h_acc=uint32,
    ),
)  # fmt: skip


@given(st.lists(st.tuples(strange, st.integers(0, 200 * MS)), max_size=12), st.booleans())
def test_no_telemetry_however_strange_keeps_an_answer_from_being_sent(said: list[Any], has_gimbal: bool) -> None:
    whereabouts, autopilot = Whereabouts(system_id=1, camera=camera(gimbal=has_gimbal)), FakeAutopilot()
    now_ns = autopilot.fly(whereabouts, START_NS, 1)
    for message, pause_ns in said:
        now_ns += pause_ns
        autopilot.say(whereabouts, now_ns, message)
        autopilot.answers(whereabouts, now_ns)
        report = completed(whereabouts, answer(now_ns), now_ns)
        codec.classification_message(report).pack(common.MAVLink(None))
