"""Where on the ground a camera looks, and how far that may be wrong.

The ray of a pixel is turned from the camera to its mount, to the vehicle or gimbal, to north, east and down, and
followed to ground of constant height, which bends away as the earth does. Camera axes: right, down, along the optical
axis; mount axes: forward, right, down.

How far it may be wrong follows from how far each input may be, by the first derivatives (see `_covariance`).
Earth: WGS 84.
"""

import math
from dataclasses import dataclass

from edge.mavlink.geometry.pose import View
from edge.mavlink.geometry.rotation import Rotation, Vector

EQUATOR_M = 6_378_137.0
ECCENTRICITY_2 = 6.69437999014e-3
LEAST_DOWN = math.sin(math.radians(5))
"""A flatter ray meets the ground anywhere."""
MAX_LATITUDE_DEG = 89.0
ROUND_TO_68 = 0.0704
"""A circle that holds 68.27 % is larger than the root of both variances' sum by this much where they are equal, and not
at all where one is 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """How a camera sees, and how it is mounted."""

    ray: Vector
    """Of the pixel that is looked for, in mount axes with the camera looking forward; of any length."""
    mount: Rotation
    """Of the camera against the vehicle or gimbal."""
    ground_altitude_m: float | None
    """Above mean sea level; None: as high as where the vehicle took off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Errors:
    """How far the inputs may be wrong: one standard deviation each."""

    position_m: float
    """Of the vehicle's position, to the north and to the east each."""
    height_m: float
    """Of the vehicle above the ground, terrain included."""
    attitude_rad: float
    """About each axis, of vehicle, gimbal and mount together."""
    heading_rad: float
    """About the vertical, in addition."""
    time_s: float
    """Between the camera's clock and that of position and attitude."""
    aim_rad: float
    """How far beside the ray the thing itself may be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroundPoint:
    """A place on the ground."""

    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    h_acc_m: float
    """Radius that holds the true place in 68 % of all cases."""


def pixel_ray(pixel: tuple[float, float], focal_px: tuple[float, float], centre_px: tuple[float, float]) -> Vector:
    """Return the ray of a pixel of a pinhole camera that looks forward, in mount axes."""
    right = (pixel[0] - centre_px[0]) / focal_px[0]
    down = (pixel[1] - centre_px[1]) / focal_px[1]
    return Vector(1.0, right, down)


def ground_point(camera: Camera, view: View, errors: Errors) -> GroundPoint | None:
    """Return where the ray meets the ground, None where it does not, or so flat that nobody can tell.

    Args:
        camera: sees the ray.
        view: of the vehicle or gimbal at capture time.
        errors: of all that.
    """
    height_m = _height_m(camera, view)
    place = view.place
    if height_m is None or height_m <= 0 or abs(place.latitude_deg) > MAX_LATITUDE_DEG:
        return None
    ray = view.rotation.turn(camera.mount.turn(camera.ray))
    length = math.sqrt(sum(part * part for part in ray))
    ray = Vector(*(part / length for part in ray))
    north_radius_m, east_radius_m = radii_m(place.latitude_deg)
    bend = (ray.x**2 + ray.y**2) * height_m / math.sqrt(north_radius_m * east_radius_m)
    if ray.z < LEAST_DOWN or ray.z**2 < 2 * bend:
        return None
    range_m = 2 * height_m / (ray.z + math.sqrt(ray.z**2 - 2 * bend))
    altitude_m = place.altitude_m - height_m
    latitude_deg, longitude_deg = _moved(
        (place.latitude_deg, place.longitude_deg),
        range_m * ray.x / (north_radius_m + altitude_m),
        range_m * ray.y / (east_radius_m + altitude_m),
    )
    return GroundPoint(
        latitude_deg=latitude_deg,
        longitude_deg=longitude_deg,
        altitude_m=altitude_m,
        h_acc_m=radius_of_68(*_covariance(ray, range_m, view, errors)),
    )


def radii_m(latitude_deg: float) -> tuple[float, float]:
    """Return the ellipsoid's radii of curvature to the north and to the east."""
    flat = 1 - ECCENTRICITY_2 * math.sin(math.radians(latitude_deg)) ** 2
    return EQUATOR_M * (1 - ECCENTRICITY_2) / flat**1.5, EQUATOR_M / math.sqrt(flat)


def radius_of_68(north: float, cross: float, east: float) -> float:
    """Return the radius of the circle that holds 68 % of a normal distribution in the plane.

    Args:
        north: variance to the north.
        cross: covariance.
        east: variance to the east.
    """
    total, apart = north + east, math.hypot(north - east, 2 * cross)
    if total <= 0:
        return 0.0
    roundness = max(total - apart, 0.0) / (total + apart)
    return math.sqrt(total) * (1 + ROUND_TO_68 * roundness)


def _moved(start_deg: tuple[float, float], north_rad: float, east_rad: float) -> tuple[float, float]:
    """Return latitude and longitude in degrees after a way along a great circle, given in radians of both radii."""
    way_rad = math.hypot(north_rad, east_rad)
    share = math.sin(way_rad) / way_rad if way_rad else 1.0
    sine, cosine = math.sin(math.radians(start_deg[0])), math.cos(math.radians(start_deg[0]))
    inward = math.cos(way_rad) * cosine - share * north_rad * sine
    upward = math.cos(way_rad) * sine + share * north_rad * cosine
    sideways = share * east_rad
    latitude_deg = math.degrees(math.atan2(upward, math.hypot(inward, sideways)))
    return latitude_deg, (start_deg[1] + math.degrees(math.atan2(sideways, inward)) + 180) % 360 - 180


def _height_m(camera: Camera, view: View) -> float | None:
    if camera.ground_altitude_m is not None:
        return view.place.altitude_m - camera.ground_altitude_m
    return view.place.height_m


def _covariance(ray: Vector, range_m: float, view: View, errors: Errors) -> tuple[float, float, float]:
    """Return the variance to the north, the covariance, and the variance to the east, in m^2.

    A clock that is off moves the vehicle along its way and turns the ray as the vehicle turned, both at once.
    """
    turn_rad = math.hypot(errors.attitude_rad, errors.aim_rad)
    turned_m = _shift_m(ray, range_m, view.turn_rad_s)
    moves = (
        (errors.position_m, 0.0),
        (0.0, errors.position_m),
        (errors.height_m * ray.x / ray.z, errors.height_m * ray.y / ray.z),
        (errors.time_s * (view.north_m_s + turned_m[0]), errors.time_s * (view.east_m_s + turned_m[1])),
        _shift_m(ray, range_m, Vector(turn_rad, 0.0, 0.0)),
        _shift_m(ray, range_m, Vector(0.0, turn_rad, 0.0)),
        _shift_m(ray, range_m, Vector(0.0, 0.0, math.hypot(turn_rad, errors.heading_rad))),
    )
    return (
        sum(north * north for north, _ in moves),
        sum(north * east for north, east in moves),
        sum(east * east for _, east in moves),
    )


def _shift_m(ray: Vector, range_m: float, turn: Vector) -> tuple[float, float]:
    """Return how far north and east a ray's end moves where a small turn about an axis moves the ray by turn x ray."""
    down = turn.x * ray.y - turn.y * ray.x
    north = turn.y * ray.z - turn.z * ray.y - down * ray.x / ray.z
    east = turn.z * ray.x - turn.x * ray.z - down * ray.y / ray.z
    return range_m * north, range_m * east
