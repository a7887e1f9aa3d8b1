"""Where the vehicle was and which way it and its gimbal looked at a moment of the recent past: rings of what was heard.

Between two readings is interpolated; behind the newest the motion is carried on for at most 100 ms.
"""

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from edge.mavlink.geometry import rotation
from edge.mavlink.geometry.rotation import Rotation, Vector
from edge.transport.messages import Pose

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
MAX_READINGS = 512
"""Of a sensor at 200 Hz the last two and a half seconds."""
MAX_CARRIED_NS = 100 * NS_PER_MS
MAX_AGE_NS = 300 * NS_PER_MS
"""A moment is known only where a reading lies so near."""

MAX_SPEED_M_S = 300.0
"""Faster is no motion: a recording began again, or a position was corrected."""

T = TypeVar("T")


class Place(NamedTuple):
    """Where the vehicle was."""

    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    """Above mean sea level."""
    height_m: float | None
    """Above where it took off, None where nobody said."""


class Direction(NamedTuple):
    """Which way a gimbal looked."""

    rotation: Rotation
    is_to_vehicle: bool
    """Whether yaw counts from the vehicle's heading; else from north. Roll and pitch always count from the horizon."""


@dataclass(frozen=True, slots=True)
class Moving(Generic[T]):  # a NamedTuple cannot be generic before Python 3.11
    """A value at a moment, and the two readings that it was made of, for its rate of change."""

    value: T
    earlier: T
    later: T
    apart_s: float
    """0 where there was one reading only."""


class Ring(Generic[T]):
    """The last readings of one sensor, ordered by time.

    Args:
        blend: returns what lies at a share of the way from one reading to another, also beyond 1.
    """

    def __init__(self, blend: Callable[[T, T, float], T]) -> None:
        self._blend = blend
        self._times_ns: list[int] = []
        self._values: list[T] = []

    def add(self, time_ns: int, value: T) -> None:
        """Take a reading; one of an earlier time than the last, or of the same, begins anew: a clock was set."""
        if self._times_ns and time_ns <= self._times_ns[-1]:
            first = bisect.bisect_left(self._times_ns, time_ns)
            del self._times_ns[first:], self._values[first:]
        if len(self._times_ns) >= MAX_READINGS:
            del self._times_ns[: MAX_READINGS // 2], self._values[: MAX_READINGS // 2]
        self._times_ns.append(time_ns)
        self._values.append(value)

    @property
    def newest_ns(self) -> int | None:
        """When the last reading was made, None before the first."""
        return self._times_ns[-1] if self._times_ns else None

    def at(self, time_ns: int) -> Moving[T] | None:
        """Return the value at a moment, None where no reading is near enough to tell."""
        times_ns = self._times_ns
        if not times_ns or not times_ns[0] - MAX_CARRIED_NS <= time_ns <= times_ns[-1] + MAX_CARRIED_NS:
            return None
        if len(times_ns) == 1:
            return Moving(self._values[0], self._values[0], self._values[0], 0.0)
        after = min(max(bisect.bisect_left(times_ns, time_ns), 1), len(times_ns) - 1)
        first_ns, second_ns = times_ns[after - 1], times_ns[after]
        if min(abs(time_ns - first_ns), abs(time_ns - second_ns)) > MAX_AGE_NS:
            return None
        earlier, later = self._values[after - 1], self._values[after]
        is_carried = not first_ns <= time_ns <= second_ns
        if is_carried and second_ns - first_ns > MAX_AGE_NS:  # too far apart to tell how it moves now
            nearest = later if time_ns > second_ns else earlier
            return Moving(nearest, nearest, nearest, 0.0)
        share = (time_ns - first_ns) / (second_ns - first_ns)
        return Moving(self._blend(earlier, later, share), earlier, later, (second_ns - first_ns) / NS_PER_S)


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """Where the vehicle was at a moment, and which way its camera's mount looked."""

    place: Place
    rotation: Rotation
    """Of the vehicle, or of its gimbal."""
    north_m_s: float
    east_m_s: float
    turn_rad_s: Vector
    """How fast that rotation changed: the axis, in north, east and down, as long as the speed."""


def _blend_places(start: Place, end: Place, share: float) -> Place:
    across_deg = (end.longitude_deg - start.longitude_deg + 180) % 360 - 180
    is_level = start.height_m is None or end.height_m is None
    return Place(
        start.latitude_deg + share * (end.latitude_deg - start.latitude_deg),
        (start.longitude_deg + share * across_deg + 180) % 360 - 180,
        start.altitude_m + share * (end.altitude_m - start.altitude_m),
        None if is_level else start.height_m + share * (end.height_m - start.height_m),  # type: ignore[operator]
    )


def _blend_directions(start: Direction, end: Direction, share: float) -> Direction:
    if start.is_to_vehicle != end.is_to_vehicle:
        return start if share < 0.5 else end
    return Direction(rotation.between(start.rotation, end.rotation, share), end.is_to_vehicle)


@dataclass(frozen=True, kw_only=True, slots=True)
class Track:
    """What is known of one vehicle's recent motion."""

    places: Ring[Place] = field(default_factory=lambda: Ring(_blend_places))
    attitudes: Ring[Rotation] = field(default_factory=lambda: Ring(rotation.between))
    gimbal: Ring[Direction] = field(default_factory=lambda: Ring(_blend_directions))

    def add_pose(self, pose: Pose) -> None:
        """Take a position and an attitude at once; what is not finite, or no place on earth, is left out."""
        if self.add_place(pose.capture_ns, Place(pose.latitude_deg, pose.longitude_deg, pose.altitude_m, None)):
            self.add_angles(pose.capture_ns, pose.roll_rad, pose.pitch_rad, pose.yaw_rad)

    def add_place(self, time_ns: int, place: Place) -> bool:
        """Take a position; say whether it is one."""
        numbers = (place.latitude_deg, place.longitude_deg, place.altitude_m, place.height_m or 0.0)
        is_one = all(map(math.isfinite, numbers)) and abs(place.latitude_deg) <= 90 and abs(place.longitude_deg) <= 180
        if not is_one or place[:2] == (0.0, 0.0):
            return False
        self.places.add(time_ns, place)
        return True

    def add_angles(self, time_ns: int, roll_rad: float, pitch_rad: float, yaw_rad: float) -> None:
        """Take an attitude, if it is one."""
        if all(map(math.isfinite, (roll_rad, pitch_rad, yaw_rad))):
            self.attitudes.add(time_ns, rotation.of_angles(roll_rad, pitch_rad, yaw_rad))

    def at(self, time_ns: int, *, has_gimbal: bool) -> View | None:
        """Return the view at a moment, None where a part of it is not known.

        Args:
            time_ns: the moment.
            has_gimbal: whether the camera hangs on the gimbal instead of being fixed to the vehicle.
        """
        place, attitude = self.places.at(time_ns), self.attitudes.at(time_ns)
        gimbal = self.gimbal.at(time_ns) if has_gimbal else None
        if place is None or attitude is None or (has_gimbal and gimbal is None):
            return None
        north_m_s, east_m_s = _speed(place)
        if math.hypot(north_m_s, east_m_s) > MAX_SPEED_M_S:
            return None
        if gimbal is None:
            turned, turns = attitude.value, _turn_rad_s(attitude.earlier, attitude.later, attitude.apart_s)
        else:
            turned, turns = _held(gimbal, attitude)
        return View(place=place.value, rotation=turned, north_m_s=north_m_s, east_m_s=east_m_s, turn_rad_s=turns)


def _held(gimbal: Moving[Direction], attitude: Moving[Rotation]) -> tuple[Rotation, Vector]:
    """Return which way a gimbal looks, and how fast that changes: of the vehicle it has the heading, at most."""
    own = _turn_rad_s(gimbal.earlier.rotation, gimbal.later.rotation, gimbal.apart_s)
    if not gimbal.value.is_to_vehicle:
        return gimbal.value.rotation, own
    yaw, earlier, later = (
        rotation.of_angles(0.0, 0.0, one.yaw_rad) for one in (attitude.value, attitude.earlier, attitude.later)
    )
    turns = zip(yaw.turn(own), _turn_rad_s(earlier, later, attitude.apart_s), strict=True)
    return yaw.after(gimbal.value.rotation), Vector(*(mine + heading for mine, heading in turns))


def _speed(place: Moving[Place]) -> tuple[float, float]:
    if not place.apart_s:
        return 0.0, 0.0
    m_per_deg = 111_320.0
    north_deg = place.later.latitude_deg - place.earlier.latitude_deg
    east_deg = (place.later.longitude_deg - place.earlier.longitude_deg + 180) % 360 - 180
    east_m = east_deg * m_per_deg * math.cos(math.radians(place.value.latitude_deg))
    return north_deg * m_per_deg / place.apart_s, east_m / place.apart_s


def _turn_rad_s(earlier: Rotation, later: Rotation, apart_s: float) -> Vector:
    if not apart_s:
        return Vector(0.0, 0.0, 0.0)
    return Vector(*(part / apart_s for part in later.after(earlier.inverse()).turn_rad))
