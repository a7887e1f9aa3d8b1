import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.mavlink.geometry import rotation
from edge.mavlink.geometry.pose import MAX_READINGS, Direction, Place, Track, View
from edge.mavlink.geometry.rotation import STILL, Rotation, Vector
from edge.transport.messages import Pose

MS = 1_000_000
NOT_AT_ALL = (0.0, 0.0, 0.0)
NOWHERE = (math.nan, math.inf, 91.0, -90.5)


def turned(roll_deg: float = 0.0, pitch_deg: float = 0.0, yaw_deg: float = 0.0) -> Rotation:
    return rotation.of_angles(math.radians(roll_deg), math.radians(pitch_deg), math.radians(yaw_deg))


def place(longitude_deg: float = 8.0, **changes: float) -> Place:
    return Place(47.0, longitude_deg, changes.get("altitude_m", 500.0), changes.get("height_m", 100.0))


def track(*, period_ms: int = 100, yaw_deg: float = 10.0, readings: int = 5) -> Track:
    """Return a vehicle that climbs by 1 m and turns by `yaw_deg` a reading."""
    flown = Track()
    for n in range(readings):
        flown.add_place(n * period_ms * MS, place(8.0 + n * 1e-5, altitude_m=500.0 + n, height_m=100.0 + n))
        flown.add_angles(n * period_ms * MS, 0.0, 0.0, math.radians(n * yaw_deg))
    return flown


def at(flown: Track, time_ms: float, *, has_gimbal: bool = False) -> View:
    view = flown.at(round(time_ms * MS), has_gimbal=has_gimbal)
    assert view is not None
    return view


def test_between_two_readings_the_motion_is_interpolated() -> None:
    view = at(track(), 150)

    assert view.place == pytest.approx((47.0, 8.000015, 501.5, 101.5))
    assert math.degrees(view.rotation.yaw_rad) == pytest.approx(15.0)
    assert view.turn_rad_s == pytest.approx((0.0, 0.0, math.radians(100.0)))
    assert view.north_m_s == pytest.approx(0.0)
    assert view.east_m_s == pytest.approx(1e-5 * 111_320 * math.cos(math.radians(47)) / 0.1)


@pytest.mark.parametrize(("time_ms", "yaw_deg"), [(470, 47.0), (500, 50.0), (-100, -10.0)])
def test_beside_the_readings_the_motion_is_carried_on_for_100_ms(time_ms: float, yaw_deg: float) -> None:
    view = at(track(), time_ms)

    assert math.degrees(view.rotation.yaw_rad) == pytest.approx(yaw_deg)
    assert view.place.altitude_m == pytest.approx(500 + time_ms / 100)


@pytest.mark.parametrize("time_ms", [501, -101, 10_000])
def test_farther_beside_the_readings_nothing_is_known(time_ms: float) -> None:
    assert track().at(time_ms * MS, has_gimbal=False) is None


def test_between_readings_that_are_far_apart_only_what_is_near_one_is_known() -> None:
    flown = track(period_ms=1000)

    assert flown.at(1290 * MS, has_gimbal=False) is not None
    assert flown.at(1310 * MS, has_gimbal=False) is None
    assert flown.at(1710 * MS, has_gimbal=False) is not None


def test_readings_that_are_far_apart_tell_nothing_of_the_motion_behind_them() -> None:
    view = at(track(period_ms=1000), 4050)

    assert (view.place.altitude_m, view.turn_rad_s, view.east_m_s) == (504.0, NOT_AT_ALL, 0.0)


def test_a_single_reading_stands_for_its_surroundings() -> None:
    view = at(track(readings=1), 50)

    assert (view.place, view.turn_rad_s) == (place(), NOT_AT_ALL)


def test_the_shorter_way_is_taken_over_south_and_over_the_date_line() -> None:
    flown = Track()
    for time_ns, yaw_deg, longitude_deg in ((0, 179.0, 179.9999), (100 * MS, -179.0, -179.9999)):
        flown.add_place(time_ns, place(longitude_deg))
        flown.add_angles(time_ns, 0.0, 0.0, math.radians(yaw_deg))
    view = at(flown, 50)

    assert abs(math.degrees(view.rotation.yaw_rad)) == pytest.approx(180.0)
    assert abs(view.place.longitude_deg) == pytest.approx(180.0)
    assert view.turn_rad_s == pytest.approx((0.0, 0.0, math.radians(20.0)))
    assert view.east_m_s == pytest.approx(0.0002 * 111_320 * math.cos(math.radians(47)) / 0.1)


def test_a_height_that_one_reading_lacks_is_unknown_between() -> None:
    flown = track()
    flown.add_place(500 * MS, Place(47.0, 8.0, 505.0, None))

    assert at(flown, 450).place.height_m is None


def test_a_position_that_leaps_is_not_known_until_the_next_reading() -> None:
    flown = track()
    for n in (5, 6):
        flown.add_place(n * 100 * MS, place(8.01))
        flown.add_angles(n * 100 * MS, 0.0, 0.0, 0.0)

    assert flown.at(450 * MS, has_gimbal=False) is None
    assert at(flown, 550).place.longitude_deg == pytest.approx(8.01)


def test_a_clock_that_was_set_back_begins_anew_from_there() -> None:
    flown = track()
    flown.add_place(150 * MS, place(8.00009))

    assert at(flown, 150).place.longitude_deg == pytest.approx(8.00009, abs=1e-9)
    assert flown.places.at(350 * MS) is None


def test_readings_do_not_pile_up() -> None:
    flown = track(readings=10 * MAX_READINGS, period_ms=5)

    assert len(flown.places._times_ns) <= MAX_READINGS
    assert flown.at((10 * MAX_READINGS - 1) * 5 * MS, has_gimbal=False) is not None


@pytest.mark.parametrize("number", NOWHERE)
def test_a_position_that_is_none_is_left_out(number: float) -> None:
    flown = Track()

    assert not flown.add_place(0, Place(number, 8.0, 500.0, None))
    assert not flown.add_place(0, Place(0.0, 0.0, 500.0, None)), "what an autopilot without a fix says"
    assert flown.at(0, has_gimbal=False) is None


def test_an_attitude_that_is_none_is_left_out() -> None:
    flown = track()
    flown.add_angles(500 * MS, math.nan, 0.0, 0.0)

    assert math.degrees(at(flown, 500).rotation.yaw_rad) == pytest.approx(50.0)


def test_a_pose_is_a_position_and_an_attitude() -> None:
    flown = Track()
    flown.add_pose(Pose(capture_ns=5, latitude_deg=47.0, longitude_deg=8.0, altitude_m=500.0, pitch_rad=0.25))
    view = flown.at(5, has_gimbal=False)

    assert view is not None
    assert view.place == Place(47.0, 8.0, 500.0, None)
    assert view.rotation == pytest.approx(rotation.of_angles(0.0, 0.25, 0.0))


@pytest.mark.parametrize(("is_to_vehicle", "yaw_deg"), [(True, 50.0), (False, 30.0)])
def test_a_gimbal_looks_from_the_vehicles_heading_or_from_north(is_to_vehicle: bool, yaw_deg: float) -> None:
    flown = Track()
    flown.add_place(0, place())
    flown.add_angles(0, math.radians(25), math.radians(10), math.radians(20))
    flown.gimbal.add(0, Direction(turned(pitch_deg=-60, yaw_deg=30), is_to_vehicle))
    expected = turned(pitch_deg=-60, yaw_deg=yaw_deg).turn(Vector(1.0, 0.0, 0.0))

    assert at(flown, 0, has_gimbal=True).rotation.turn(Vector(1.0, 0.0, 0.0)) == pytest.approx(expected)


@pytest.mark.parametrize(("is_to_vehicle", "expected_deg_s"), [(True, (-50.0, 0.0, 100.0)), (False, (0.0, 50.0, 0.0))])
def test_a_gimbal_turns_by_itself_and_with_the_vehicles_heading(
    is_to_vehicle: bool, expected_deg_s: tuple[float, float, float]
) -> None:
    flown = Track()
    for n in range(2):
        flown.add_place(n * 100 * MS, place())
        flown.add_angles(n * 100 * MS, 0.3 * n, 0.2 * n, math.radians(80 + 10 * n))
        flown.gimbal.add(n * 100 * MS, Direction(turned(pitch_deg=-60 + 5 * n), is_to_vehicle))

    turns = at(flown, 100, has_gimbal=True).turn_rad_s
    assert [math.degrees(part) for part in turns] == pytest.approx(expected_deg_s, abs=0.1)


def test_without_a_reading_of_the_gimbal_nothing_is_known_of_its_camera() -> None:
    flown = track()

    assert flown.at(100 * MS, has_gimbal=True) is None
    flown.gimbal.add(0, Direction(STILL, is_to_vehicle=True))
    assert flown.at(101 * MS, has_gimbal=True) is None


angles = st.floats(-math.pi, math.pi)
rotations = st.builds(rotation.of_angles, angles, angles, angles)


@given(rotations, rotations)
def test_turning_there_and_back_changes_nothing(first: Rotation, second: Rotation) -> None:
    vector = Vector(0.3, -2.0, 5.0)

    assert first.inverse().turn(first.turn(vector)) == pytest.approx(vector)
    assert second.after(first).turn(vector) == pytest.approx(second.turn(first.turn(vector)))


@given(rotations)
def test_a_rotation_is_the_turn_that_it_says(turned: Rotation) -> None:
    vector = Vector(0.3, -2.0, 5.0)

    assert rotation.of_turn(turned.turn_rad).turn(vector) == pytest.approx(turned.turn(vector), abs=1e-6)


@given(rotations, rotations)
def test_halfway_is_as_far_from_either_end(start: Rotation, end: Rotation) -> None:
    half = rotation.between(start, end, 0.5)
    whole = end.after(start.inverse()).angle_rad

    assert half.after(start.inverse()).angle_rad == pytest.approx(whole / 2, abs=1e-5)
    assert end.after(half.inverse()).angle_rad == pytest.approx(whole / 2, abs=1e-5)


@given(rotations, rotations, st.floats(-0.5, 1.5))
def test_what_lies_between_is_a_rotation(start: Rotation, end: Rotation, share: float) -> None:
    assert sum(part * part for part in rotation.between(start, end, share)) == pytest.approx(1.0)


@pytest.mark.parametrize("numbers", [(0.0, 0.0, 0.0, 0.0), (math.nan, 0.0, 0.0, 1.0), (9.0, 0.0, 0.0, 0.0)])
def test_four_numbers_that_are_no_rotation_mean_none(numbers: tuple[float, float, float, float]) -> None:
    assert rotation.normalised(*numbers) is None


def test_roll_pitch_and_yaw_turn_the_axes_of_an_aircraft() -> None:
    ahead, right = Vector(1.0, 0.0, 0.0), Vector(0.0, 1.0, 0.0)

    assert turned(yaw_deg=90).turn(ahead) == pytest.approx((0.0, 1.0, 0.0))
    assert turned(pitch_deg=90).turn(ahead) == pytest.approx((0.0, 0.0, -1.0))
    assert turned(roll_deg=90).turn(right) == pytest.approx((0.0, 0.0, 1.0))
