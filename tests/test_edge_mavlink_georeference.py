import dataclasses
import math
from typing import Any

import numpy as np
import place_by_chance
import pytest
from mavlink_samples import camera as camera_config
from place_by_chance import SCENES, SURE, TIME_S, Scene, coverage, offset_m

from edge.mavlink.geometry import rotation
from edge.mavlink.geometry.georeference import (
    Camera,
    Errors,
    GroundPoint,
    ground_point,
    pixel_ray,
    radius_of_68,
)
from edge.mavlink.geometry.pose import Place, View
from edge.mavlink.geometry.rotation import STILL, Rotation, Vector

FORWARD = Vector(1.0, 0.0, 0.0)
USUAL = Errors(
    position_m=1.5, height_m=2.0, attitude_rad=math.radians(1), heading_rad=math.radians(2), time_s=0.02, aim_rad=0.0
)
CLOSE_DEG = 1e-6
A_M, B_M = 6_378_137.0, 6_356_752.314245


def turned(roll_deg: float = 0.0, pitch_deg: float = 0.0, yaw_deg: float = 0.0) -> Rotation:
    return rotation.of_angles(math.radians(roll_deg), math.radians(pitch_deg), math.radians(yaw_deg))


def camera(**changes: Any) -> Camera:
    """Return a camera that looks straight down, over ground at 400 m."""
    values = {"ray": FORWARD, "mount": turned(pitch_deg=-90), "ground_altitude_m": 400.0}
    return Camera(**(values | changes))


def view(**changes: Any) -> View:
    """Return the view of a level vehicle, heading north, 100 m above that ground."""
    place = Place(
        changes.pop("latitude_deg", 47.0), changes.pop("longitude_deg", 8.0), changes.pop("altitude_m", 500.0),
        changes.pop("height_m", None),
    )  # fmt: skip
    values = {"place": place, "rotation": STILL, "north_m_s": 0.0, "east_m_s": 0.0, "turn_rad_s": Vector(0.0, 0.0, 0.0)}
    return View(**(values | changes))


def seen(camera: Camera, view: View, errors: Errors = SURE) -> GroundPoint:
    point = ground_point(camera, view, errors)
    assert point is not None
    return point


def test_straight_down_is_where_the_vehicle_is() -> None:
    point = seen(camera(), view())

    assert (point.latitude_deg, point.longitude_deg) == pytest.approx((47.0, 8.0), abs=1e-12)
    assert (point.altitude_m, point.h_acc_m) == (400.0, 0.0)


@pytest.mark.parametrize(
    ("mount", "attitude", "expected"),
    [
        (turned(pitch_deg=-45), STILL, (100.0, 0.0)),
        (turned(pitch_deg=-45), turned(yaw_deg=90), (0.0, 100.0)),
        (turned(pitch_deg=-45), turned(yaw_deg=-135), (-math.sqrt(0.5) * 100, -math.sqrt(0.5) * 100)),
        (turned(pitch_deg=-90), turned(pitch_deg=30), (math.tan(math.radians(30)) * 100, 0.0)),
        (turned(pitch_deg=-90), turned(roll_deg=30), (0.0, -math.tan(math.radians(30)) * 100)),
        (turned(pitch_deg=-30), turned(pitch_deg=-30), (math.tan(math.radians(30)) * 100, 0.0)),
        (turned(pitch_deg=-60, yaw_deg=90), STILL, (0.0, math.tan(math.radians(30)) * 100)),
        (turned(pitch_deg=-90), turned(pitch_deg=20, yaw_deg=180), (-math.tan(math.radians(20)) * 100, 0.0)),
    ],
    ids=["ahead", "ahead, to the east", "ahead, to the south-west", "nose up", "right side down", "nose and mount",
         "mounted to the right", "nose up, to the south"],
)  # fmt: skip
def test_the_centre_of_the_image_is_where_geometry_says(
    mount: Rotation, attitude: Rotation, expected: tuple[float, float]
) -> None:
    looking = view(rotation=attitude)
    north_m, east_m = offset_m(seen(camera(mount=mount), looking), looking)

    close_m = math.radians(CLOSE_DEG) * A_M * math.cos(math.radians(47))
    assert (north_m, east_m) == pytest.approx(expected, abs=close_m)


def ecef(latitude_deg: float, longitude_deg: float, altitude_m: float) -> np.ndarray:
    lat, lon = math.radians(latitude_deg), math.radians(longitude_deg)
    across = A_M**2 / math.hypot(A_M * math.cos(lat), B_M * math.sin(lat))
    up = (B_M / A_M) ** 2 * across
    return np.array([
        (across + altitude_m) * math.cos(lat) * math.cos(lon),
        (across + altitude_m) * math.cos(lat) * math.sin(lon),
        (up + altitude_m) * math.sin(lat),
    ])  # fmt: skip


def geodetic(point: np.ndarray) -> tuple[float, float, float]:
    """Return latitude, longitude and altitude, by iterating to the ellipsoid's normal."""
    across = math.hypot(point[0], point[1])
    lat, altitude_m = math.atan2(point[2], across), 0.0
    for _ in range(8):
        radius = A_M**2 / math.hypot(A_M * math.cos(lat), B_M * math.sin(lat))
        altitude_m = across / math.cos(lat) - radius
        lat = math.atan2(point[2], across * (1 - (1 - (B_M / A_M) ** 2) * radius / (radius + altitude_m)))
    return math.degrees(lat), math.degrees(math.atan2(point[1], point[0])), altitude_m


def followed(view: View, ray: Vector, ground_altitude_m: float) -> tuple[float, float]:
    """Return where the ray comes to the ground's altitude above the ellipsoid, in three dimensions, by bisection."""
    lat, lon = math.radians(view.place.latitude_deg), math.radians(view.place.longitude_deg)
    north = np.array([-math.sin(lat) * math.cos(lon), -math.sin(lat) * math.sin(lon), math.cos(lat)])
    east = np.array([-math.sin(lon), math.cos(lon), 0.0])
    way = ray.x * north + ray.y * east + ray.z * np.cross(north, east)
    start = ecef(*view.place[:3])
    near_m, far_m = 0.0, 1.2 * (view.place.altitude_m - ground_altitude_m) / ray.z
    for _ in range(60):
        middle_m = (near_m + far_m) / 2
        above = geodetic(start + middle_m * way)[2] > ground_altitude_m
        near_m, far_m = (middle_m, far_m) if above else (near_m, middle_m)
    return geodetic(start + near_m * way)[:2]


@pytest.mark.parametrize("latitude_deg", [-80.0, -33.0, 0.0, 47.0, 70.0])
@pytest.mark.parametrize("depression_deg", [10.0, 30.0, 60.0, 85.0])
def test_rays_end_where_they_end_in_three_dimensions(latitude_deg: float, depression_deg: float) -> None:
    for heading_deg in range(0, 360, 60):
        looking = view(
            latitude_deg=latitude_deg, longitude_deg=-122.0, altitude_m=620.0, rotation=turned(yaw_deg=heading_deg)
        )
        fixed = camera(mount=turned(pitch_deg=-depression_deg))
        expected = followed(looking, looking.rotation.turn(fixed.mount.turn(FORWARD)), 400.0)

        point = seen(fixed, looking)

        assert (point.latitude_deg, point.longitude_deg) == pytest.approx(expected, abs=CLOSE_DEG)


def test_a_pixel_beside_the_centre_is_where_its_ray_meets_the_ground() -> None:
    ray = pixel_ray((1000.0, 100.0), (800.0, 900.0), (600.0, 400.0))
    north_m, east_m = offset_m(seen(camera(ray=ray), view()), view())

    assert (north_m, east_m) == pytest.approx((300 / 900 * 100, 400 / 800 * 100), abs=0.02)


@pytest.mark.parametrize(("longitude_deg", "yaw_deg"), [(179.9999, 90.0), (-179.9999, -90.0)])
def test_a_ray_over_the_date_line_ends_on_its_other_side(longitude_deg: float, yaw_deg: float) -> None:
    looking = view(latitude_deg=0.0, longitude_deg=longitude_deg, rotation=turned(yaw_deg=yaw_deg))

    point = seen(camera(mount=turned(pitch_deg=-45)), looking)

    assert math.copysign(1, point.longitude_deg) == -math.copysign(1, longitude_deg)
    assert abs(point.longitude_deg) == pytest.approx(180 - (math.degrees(100 / (A_M + 400)) - 0.0001), abs=CLOSE_DEG)


@pytest.mark.parametrize(
    ("camera", "view"),
    [
        (camera(mount=STILL), view()),
        (camera(mount=turned(pitch_deg=10)), view()),
        (camera(mount=turned(pitch_deg=-4.9)), view()),
        (camera(), view(altitude_m=400.0)),
        (camera(), view(altitude_m=399.0)),
        (camera(ground_altitude_m=None), view(height_m=None)),
        (camera(ground_altitude_m=None), view(height_m=-3.0)),
        (camera(), view(latitude_deg=89.5)),
        (camera(mount=turned(pitch_deg=-5.5)), view(altitude_m=100_000.0)),
    ],
    ids=["level", "upward", "flatter than 5 degrees", "on the ground", "below it", "height unknown",
         "below where it took off", "at the pole", "beyond the horizon"],
)  # fmt: skip
def test_a_ray_that_tells_nothing_has_no_end(camera: Camera, view: View) -> None:
    assert ground_point(camera, view, USUAL) is None


def test_a_ray_just_steeper_than_5_degrees_has_an_end() -> None:
    assert ground_point(camera(mount=turned(pitch_deg=-5.1)), view(), USUAL) is not None


def test_the_ground_is_where_the_vehicle_took_off_where_nobody_configured_it() -> None:
    looking = view(height_m=50.0)
    point = seen(camera(mount=turned(pitch_deg=-45), ground_altitude_m=None), looking)

    assert point.altitude_m == 450.0
    assert offset_m(point, looking)[0] == pytest.approx(50.0, abs=0.01)


@pytest.mark.parametrize(
    ("errors", "expected_m"),
    [
        ({"attitude_rad": math.radians(1)}, math.hypot(math.radians(1) * 200, math.radians(1) * 100 * math.sqrt(2))),
        ({"height_m": 3.0}, 3.0),
        ({"time_s": 0.05}, 0.75),
        ({"heading_rad": math.radians(2)}, math.radians(2) * 100),
        ({"position_m": 2.0}, 2.0 * math.sqrt(2)),
    ],
    ids=["attitude", "height", "time", "heading", "position"],
)
def test_the_accuracy_estimate_follows_each_error_alone(errors: dict[str, float], expected_m: float) -> None:
    """At 100 m, 45 degrees, 15 m/s: the cases that can be written down."""
    only = Errors(
        **{
            name: errors.get(name, 0.0)
            for name in ("position_m", "height_m", "attitude_rad", "heading_rad", "time_s", "aim_rad")
        }
    )
    point = seen(camera(mount=turned(pitch_deg=-45)), view(north_m_s=15.0), only)

    assert point.h_acc_m == pytest.approx(expected_m, rel=0.08)


def test_a_vehicle_that_turns_makes_a_late_clock_worse_as_far_as_the_ray_swings() -> None:
    fixed, late = camera(mount=turned(pitch_deg=-45)), dataclasses.replace(SURE, time_s=0.02)

    yawing, pitching = view(turn_rad_s=Vector(0.0, 0.0, 1.0)), view(turn_rad_s=Vector(0.0, 1.0, 0.0))
    assert seen(fixed, yawing, late).h_acc_m == pytest.approx(0.02 * 100, rel=1e-3)
    assert seen(fixed, pitching, late).h_acc_m == pytest.approx(0.02 * 200, rel=1e-3)
    assert seen(camera(), yawing, late).h_acc_m == pytest.approx(0.0, abs=1e-6)


def test_turning_against_the_flight_holds_the_ray_still_under_a_late_clock() -> None:
    """At 45 degrees over 100 m, 10 m/s ahead and 0.05 rad/s nose down: what is looked at stays where it is."""
    late = dataclasses.replace(SURE, time_s=0.1)
    circling = view(north_m_s=10.0, turn_rad_s=Vector(0.0, -0.05, 0.0))

    assert seen(camera(mount=turned(pitch_deg=-45)), circling, late).h_acc_m == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize(
    ("north", "cross", "east"), [(1.0, 0.0, 1.0), (4.0, 0.0, 1.0), (1.0, 0.9, 1.0), (9.0, 1.0, 0.2)]
)
def test_the_circle_holds_68_percent_of_a_normal_distribution(north: float, cross: float, east: float) -> None:
    drawn = np.random.default_rng(1).multivariate_normal((0.0, 0.0), [[north, cross], [cross, east]], 100_000)

    inside = np.mean(np.hypot(*drawn.T) <= radius_of_68(north, cross, east))

    assert inside == pytest.approx(0.6827, abs=0.02)


def test_without_any_error_the_circle_is_a_point() -> None:
    assert radius_of_68(0.0, 0.0, 0.0) == 0.0


@pytest.mark.parametrize("scene", SCENES)
def test_the_truth_lies_within_the_estimate_in_68_percent_of_all_flights(scene: str) -> None:
    assert coverage(SCENES[scene], flights=1_500) == pytest.approx(0.68, abs=0.05)


@pytest.mark.parametrize("forgotten", ["position_m", "attitude_rad", "time_s", "height_m", "aim_rad"])
def test_the_simulation_sees_each_error_that_an_estimate_forgets(forgotten: str) -> None:
    scene = Scene(depression_deg=35.0, height_m=30.0, speed_m_s=30.0, turn_deg_s=60.0, aim_deg=2.0)
    config = camera_config(target_spread_deg=scene.aim_deg)
    known, full = (coverage(scene, flights=800, errors=errors) for errors in (
        dataclasses.replace(config.errors(TIME_S), **{forgotten: 0.0}), config.errors(TIME_S),
    ))  # fmt: skip

    assert known < full - 0.005


def test_the_simulation_prints_its_shares(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["place_by_chance", "--flights", "3"])

    place_by_chance.main()

    assert capsys.readouterr().out.count('"within"') == len(SCENES)
