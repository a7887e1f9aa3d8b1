"""What is believed of autopilots: which of several ways to one, and which of its messages."""

import logging
import math

import mavlink_samples as samples
import pytest
from fake_autopilot import BOOT_NS, MS, UTC_US, FakeAutopilot, S
from mavlink_samples import camera
from mavlink_vehicle import Vehicle
from pymavlink.dialects.v20 import common

from edge.mavlink.geometry import rotation
from edge.mavlink.place.autopilots import MAX_AUTOPILOTS
from edge.mavlink.place.whereabouts import Whereabouts
from edge.mavlink.wire import codec
from edge.mavlink.wire.codec import ClassificationReport, Flag
from edge.transport.messages import Pose

START_NS = 5 * S
TURN_NS = (1 << 32) * MS
DAY_NS = 86_400 * S


def seen(whereabouts: Whereabouts, at_ns: int, now_ns: int, *, is_replay: bool = False) -> ClassificationReport:
    """Return the report of a frame."""
    frame = samples.modality("image", stream="front", capture_ns=at_ns)
    answer = samples.answer(capture_ns=at_ns, modalities=(frame,))
    report = codec.report_of(answer, model_id=1, now_ns=now_ns, max_age_ms=300.0, is_replay=is_replay)
    return whereabouts.complete(report, answer, now_ns)


def fly_both(whereabouts: Whereabouts, pair: list[FakeAutopilot], begin_ns: int, seconds: float) -> int:
    """Let one autopilot speak by two ways; return the time then."""
    for n in range(round(seconds * 10)):
        now_ns = begin_ns + n * 100 * MS
        for one in pair:
            if n % 10 == 0:
                one.say(whereabouts, now_ns, one.heartbeat(), one.system_time(now_ns))
            one.say(whereabouts, now_ns, one.attitude(now_ns), one.position(now_ns))
        asked = whereabouts.autopilots.take(now_ns)
        for one, question in [(one, asks) for one in pair for link, asks in asked if link == one.link]:
            reply = common.MAVLink_timesync_message(tc1=now_ns + one.rtt_ns // 2 + one.boot_ns, ts1=question.ts1)
            one.say(whereabouts, now_ns + one.rtt_ns, reply)
    return begin_ns + round(seconds * S)


# Which way


def test_of_two_links_to_one_autopilot_the_faster_tells_the_time() -> None:
    whereabouts = Whereabouts(system_id=1)
    pair = [FakeAutopilot(link=0, rtt_ns=90 * MS), FakeAutopilot(link=1)]
    now_ns = fly_both(whereabouts, pair, START_NS, 5)

    assert whereabouts.autopilots.ours_key(now_ns) == (1, 1, 1)


def test_of_two_links_that_are_alike_one_stays_chosen() -> None:
    whereabouts = Whereabouts(system_id=1)
    pair = [FakeAutopilot(link=0, rtt_ns=5 * MS), FakeAutopilot(link=1, rtt_ns=7 * MS)]
    now_ns = fly_both(whereabouts, pair, START_NS, 5)
    pair[0].rtt_ns, pair[1].rtt_ns = 7 * MS, 5 * MS

    assert whereabouts.autopilots.ours_key(now_ns) == (0, 1, 1)
    now_ns = fly_both(whereabouts, pair, now_ns, 400)
    assert whereabouts.autopilots.ours_key(now_ns) == (0, 1, 1)


def test_when_a_link_to_the_autopilot_is_lost_the_other_places_at_once_and_soon_tells_the_time() -> None:
    whereabouts = Whereabouts(system_id=1, camera=camera())
    pair = [FakeAutopilot(link=0), FakeAutopilot(link=1)]
    now_ns = fly_both(whereabouts, pair, START_NS, 12)
    assert whereabouts.autopilots.ours_key(now_ns) == (0, 1, 1)

    now_ns = fly_both(whereabouts, pair[1:], now_ns, 1)
    report = seen(whereabouts, now_ns - 50 * MS, now_ns)
    assert Flag.GEO_VALID in report.flags
    assert Flag.TIME_UNSYNCED not in report.flags
    now_ns = fly_both(whereabouts, pair[1:], now_ns, 4)
    assert whereabouts.autopilots.ours_key(now_ns) == (1, 1, 1)


def test_another_component_that_claims_to_be_the_autopilot_comes_after_the_first() -> None:
    whereabouts = Whereabouts(system_id=1)
    rival = FakeAutopilot(component_id=5, boot_ns=999 * S)
    rival.say(whereabouts, START_NS, rival.heartbeat())
    now_ns = FakeAutopilot().fly(whereabouts, START_NS, 3)

    assert whereabouts.autopilots.ours_key(now_ns) == (0, 1, 1)


def test_only_our_vehicle_is_asked_for_its_time() -> None:
    whereabouts = Whereabouts(system_id=1)
    for system_id in (1, 2, 3):
        one = FakeAutopilot(system_id=system_id)
        one.say(whereabouts, START_NS, one.heartbeat())

    assert len(whereabouts.autopilots.take(START_NS)) == 1


def test_a_crowd_on_one_link_keeps_our_autopilot_out_of_none() -> None:
    for link in (0, 1):
        whereabouts = Whereabouts(system_id=200)
        for system_id in range(1, 3 * MAX_AUTOPILOTS):
            one = FakeAutopilot(system_id=system_id)
            one.say(whereabouts, START_NS, one.heartbeat())
        now_ns = FakeAutopilot(system_id=200, link=link).fly(whereabouts, START_NS, 3)

        assert whereabouts.time_of(now_ns, now_ns).is_synced


def test_the_time_of_an_answer_is_that_of_its_reading_and_not_when_the_round_began() -> None:
    vehicle = Vehicle()
    port, encoder = vehicle.ports[0], common.MAVLink(None, srcSystem=1, srcComponent=1)
    asked: list[int] = []

    def busy() -> list[tuple[str, bytes]]:
        """Take 3 ms to read, in which an answer comes in."""
        vehicle.clock.advance_to(vehicle.now_ns + 3 * MS)
        middles = [(ts1 + vehicle.now_ns) // 2 for ts1 in asked]
        replies = [
            common.MAVLink_timesync_message(tc1=at_ns + BOOT_NS, ts1=ts1)
            for at_ns, ts1 in zip(middles, asked, strict=True)
        ]
        asked.clear()
        return [("", message.pack(encoder)) for message in (FakeAutopilot().heartbeat(), *replies)]

    port.receive = busy
    for _ in range(30):
        vehicle.wait(0.1)
        asked += [message.ts1 for message in vehicle.take("TIMESYNC")]

    assert vehicle.publisher.whereabouts.clock_offset_us(vehicle.now_ns) == pytest.approx(BOOT_NS // 1000, abs=5)


# Which messages


def test_what_comes_once_more_by_a_slower_way_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    whereabouts, autopilot = Whereabouts(system_id=1, camera=camera()), FakeAutopilot()
    now_ns = autopilot.fly(whereabouts, START_NS, 12)
    for n in range(30):
        now_ns += 100 * MS
        autopilot.say(whereabouts, now_ns, autopilot.attitude(now_ns), autopilot.position(now_ns))
        slow_ns = now_ns - 1200 * MS
        autopilot.say(whereabouts, now_ns, autopilot.attitude(slow_ns), autopilot.position(slow_ns))
        if n % 10 == 0:
            autopilot.say(whereabouts, now_ns, autopilot.heartbeat(), autopilot.system_time(now_ns))
            autopilot.say(whereabouts, now_ns, autopilot.system_time(slow_ns))
        report = seen(whereabouts, now_ns - 30 * MS, now_ns)
        assert Flag.GEO_VALID in report.flags
        assert Flag.TIME_UNSYNCED not in report.flags
    assert not caplog.records


def test_a_copy_of_an_attitude_tells_no_second_pose() -> None:
    whereabouts, autopilot = Whereabouts(system_id=1), FakeAutopilot()
    autopilot.say(whereabouts, START_NS, autopilot.heartbeat(), autopilot.position(START_NS))
    spoken = [autopilot.attitude(START_NS), autopilot.attitude(START_NS), autopilot.attitude(START_NS - 50 * MS)]
    for message in spoken:
        message.pack(common.MAVLink(None, srcSystem=1, srcComponent=1))
    whereabouts.hearing._kept.clear()
    autopilot.say(whereabouts, START_NS, *spoken)

    assert [item.pose is not None for item in whereabouts.hearing.take()] == [True, False, False]


def test_after_49_days_its_milliseconds_begin_anew_and_time_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    whereabouts = Whereabouts(system_id=1, camera=camera())
    autopilot = FakeAutopilot(boot_ns=TURN_NS - START_NS - 12 * S)
    now_ns = autopilot.fly(whereabouts, START_NS, 12)
    for n in range(30):
        now_ns += 100 * MS
        if n % 10 == 0:
            autopilot.say(whereabouts, now_ns, autopilot.heartbeat(), autopilot.system_time(now_ns))
        late_ns = now_ns + 60 * MS
        autopilot.say(whereabouts, late_ns, autopilot.attitude(now_ns), autopilot.position(now_ns))
        told = whereabouts.time_of(now_ns, late_ns)
        assert told.is_synced
        assert told.time_us == pytest.approx(UTC_US + (now_ns + autopilot.boot_ns) // 1000, abs=1100)
        newest_ns = whereabouts.autopilots.ours(late_ns).track.attitudes.newest_ns
        assert newest_ns == pytest.approx(now_ns, abs=2 * MS)
    assert autopilot.boot_ms(now_ns) < 10_000
    assert not caplog.records


def test_a_restart_after_a_month_is_no_overflow() -> None:
    whereabouts, autopilot = Whereabouts(system_id=1), FakeAutopilot(boot_ns=30 * DAY_NS)
    now_ns = autopilot.fly(whereabouts, START_NS, 12)
    autopilot.boot_ns = 3 * S - now_ns
    autopilot.say(whereabouts, now_ns, autopilot.system_time(now_ns))
    assert not whereabouts.time_of(now_ns, now_ns).is_synced

    now_ns = autopilot.fly(whereabouts, now_ns, 3)
    told = whereabouts.time_of(now_ns, now_ns)
    assert told.time_us == pytest.approx(UTC_US + (now_ns + autopilot.boot_ns) // 1000, abs=1100)


def test_a_restart_that_no_message_tells_is_known_by_its_clock_within_a_question_and_the_next() -> None:
    whereabouts, autopilot = Whereabouts(system_id=1), FakeAutopilot(boot_ns=2 * S - START_NS)
    now_ns = autopilot.fly(whereabouts, START_NS, 2, telemetry=False)
    autopilot.boot_ns -= 3 * S
    now_ns = autopilot.fly(whereabouts, now_ns, 14, telemetry=False)

    assert whereabouts.clock_offset_us(now_ns) == pytest.approx(autopilot.boot_ns // 1000, abs=10)


# How accurate


def test_without_a_fix_nothing_is_placed_and_the_vehicle_is_where_it_says() -> None:
    whereabouts, autopilot = Whereabouts(system_id=1, camera=camera()), FakeAutopilot()
    now_ns = autopilot.fly(whereabouts, START_NS, 3)
    for fix_type, is_placed in ((common.GPS_FIX_TYPE_3D_FIX, True), (common.GPS_FIX_TYPE_NO_FIX, False)):
        autopilot.say(whereabouts, now_ns, autopilot.fix(fix_type))
        report = seen(whereabouts, now_ns - 100 * MS, now_ns)
        assert (Flag.GEO_VALID in report.flags) is is_placed
        assert report.position is not None
        assert (report.h_acc_m is not None) is is_placed


def test_the_radius_grows_with_what_the_receiver_says_of_itself_and_the_better_of_two_counts() -> None:
    whereabouts = Whereabouts(system_id=1, camera=camera(target_spread_deg=0.0))
    autopilot = FakeAutopilot()
    now_ns = autopilot.fly(whereabouts, START_NS, 12)
    before_m = seen(whereabouts, now_ns - 100 * MS, now_ns).h_acc_m
    autopilot.say(whereabouts, now_ns, autopilot.fix(h_acc_m=40.0))
    worse_m = seen(whereabouts, now_ns - 100 * MS, now_ns).h_acc_m
    assert before_m is not None
    assert worse_m is not None
    assert worse_m > 39 > 3 * before_m

    second = common.MAVLink_gps2_raw_message(0, common.GPS_FIX_TYPE_RTK_FIXED, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, h_acc=20)
    autopilot.say(whereabouts, now_ns, second)
    assert seen(whereabouts, now_ns - 100 * MS, now_ns).h_acc_m == before_m


def test_a_date_that_no_fix_has_confirmed_is_not_believed_and_one_fix_is_enough() -> None:
    whereabouts, autopilot = Whereabouts(system_id=1), FakeAutopilot()
    now_ns = autopilot.fly(whereabouts, START_NS, 3)
    for fix_type, utc_us in ((1, 0), (3, UTC_US), (1, UTC_US)):
        autopilot.say(whereabouts, now_ns, autopilot.fix(fix_type))
        told = whereabouts.time_of(now_ns, now_ns)
        assert told.is_synced
        assert told.time_us == pytest.approx(utc_us + (now_ns + BOOT_NS) // 1000, abs=1000)


def test_a_slow_link_tells_the_time_less_accurately_and_places_say_so() -> None:
    radii_m = []
    for rtt_ms in (4, 90):
        whereabouts = Whereabouts(system_id=1, camera=camera(target_spread_deg=0.0))
        autopilot = FakeAutopilot(rtt_ns=rtt_ms * MS)
        now_ns = autopilot.fly(whereabouts, START_NS, 12)
        for heading_deg in (0.0, 10.0):
            now_ns += 100 * MS
            autopilot.heading_deg = heading_deg
            autopilot.say(whereabouts, now_ns, autopilot.attitude(now_ns), autopilot.position(now_ns))
        radii_m.append(seen(whereabouts, now_ns - 50 * MS, now_ns).h_acc_m)

    assert radii_m[1] > 1.05 * radii_m[0]


# Whose places


def test_what_was_recorded_is_not_placed_by_an_autopilot_that_is_elsewhere_today() -> None:
    whereabouts, autopilot = Whereabouts(system_id=1, camera=camera(ground_altitude_m=400.0)), FakeAutopilot()
    now_ns = autopilot.fly(whereabouts, START_NS, 3)
    for n in range(10):
        at_ns = now_ns - n * 100 * MS
        whereabouts.on_pose(Pose(capture_ns=at_ns, latitude_deg=-33.0, longitude_deg=151.0, altitude_m=450.0))
    at_ns = now_ns - 950 * MS

    live, replayed = (seen(whereabouts, at_ns, now_ns, is_replay=flag) for flag in (False, True))
    assert live.position is not None
    assert replayed.position is not None
    assert live.position.latitude_deg == pytest.approx(47.0, abs=0.01)
    assert replayed.position[:2] == pytest.approx((-33.0, 151.0), abs=0.01)
    assert Flag.GEO_VALID in replayed.flags


def test_what_was_recorded_is_placed_by_the_autopilot_of_the_same_flight() -> None:
    whereabouts, autopilot = Whereabouts(system_id=1, camera=camera()), FakeAutopilot()
    now_ns = autopilot.fly(whereabouts, START_NS, 3)
    whereabouts.on_pose(Pose(capture_ns=now_ns - 100 * MS, latitude_deg=47.0, longitude_deg=8.0, altitude_m=500.0))

    assert Flag.GEO_VALID in seen(whereabouts, now_ns - 100 * MS, now_ns, is_replay=True).flags


def test_of_two_gimbals_the_first_counts_until_it_is_silent() -> None:
    whereabouts = Whereabouts(system_id=1, camera=camera(gimbal=True, mount_deg=(0.0, 0.0, 0.0)))
    autopilot = FakeAutopilot()
    now_ns = autopilot.fly(whereabouts, START_NS, 3)
    first, second = FakeAutopilot(component_id=154), FakeAutopilot(component_id=171)
    flags = common.GIMBAL_DEVICE_FLAGS_YAW_IN_VEHICLE_FRAME
    down, up = (rotation.of_angles(0.0, math.radians(angle), 0.0) for angle in (-45, 45))
    first.say(whereabouts, now_ns - 100 * MS, first.gimbal(now_ns, down, flags))
    second.say(whereabouts, now_ns - 50 * MS, second.gimbal(now_ns, up, flags))
    assert Flag.GEO_VALID in seen(whereabouts, now_ns - 50 * MS, now_ns).flags

    now_ns = autopilot.fly(whereabouts, now_ns, 3)
    second.say(whereabouts, now_ns - 100 * MS, second.gimbal(now_ns, down, flags))
    first.say(whereabouts, now_ns - 50 * MS, first.gimbal(now_ns, up, flags))
    assert Flag.GEO_VALID in seen(whereabouts, now_ns - 50 * MS, now_ns).flags


@pytest.mark.parametrize(("chosen", "is_placed"), [(154, False), (171, True), (2, True), (1, False)])
def test_of_several_gimbals_the_chosen_one_counts(chosen: int, is_placed: bool) -> None:
    config = camera(gimbal=True, gimbal_device=chosen, mount_deg=(0.0, 0.0, 0.0))
    whereabouts, autopilot = Whereabouts(system_id=1, camera=config), FakeAutopilot()
    now_ns = autopilot.fly(whereabouts, START_NS, 3)
    flags = common.GIMBAL_DEVICE_FLAGS_YAW_IN_VEHICLE_FRAME
    down, up = (rotation.of_angles(0.0, math.radians(angle), 0.0) for angle in (-45, 45))
    for component_id, device, turned in ((154, 0, up), (171, 0, down), (1, 1, up), (1, 2, down)):
        one = FakeAutopilot(component_id=component_id)
        message = one.gimbal(now_ns - 50 * MS, turned, flags)
        message.gimbal_device_id = device
        one.say(whereabouts, now_ns - 50 * MS, message)

    assert (Flag.GEO_VALID in seen(whereabouts, now_ns - 50 * MS, now_ns).flags) is is_placed
