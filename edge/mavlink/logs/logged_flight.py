"""A vehicle's track by its own log, whatever wrote it: positions where they can be true, with the attitudes beside."""

import bisect
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.transport.messages import Pose
from models.errors import RecordingError

FIX_3D = 3
MAX_CLIMB_M_S = 50.0
"""A fix that would need more vertical speed since the one before is refused."""
ALTITUDE_SLACK_M = 5.0
MAX_SPEED_M_S = 300.0
POSITION_SLACK_M = 100.0
_M_PER_DEG = 111_320.0
_FARTHEST_M = 100_000.0
LOG_KINDS = "an ArduPilot .bin, a PX4 .ulg or a .tlog"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedFlight:
    """Where a vehicle was, by its own log."""

    poses: tuple[Pose, ...]
    """In order; capture times are of the log's clock."""
    refused: dict[str, int]
    """Fixes left out, by reason."""
    utc_offset_ns: int | None
    """UTC minus those times; None where the log does not say."""
    readings: tuple[tuple[int, int], ...] = ()
    """The log's clock and UTC by GPS at the same moments."""
    messages: int = 0
    """Whole ones in the log."""
    damage: dict[str, int] = field(default_factory=dict)
    """What of the file was not usable, by reason."""
    span_ns: tuple[int, int] = (0, 0)
    """Of the log's clock: what is imported begins and ends with it."""
    packet_times_us: Sequence[int] = ()
    """When its MAVLink frames arrived, of the log's clock."""
    packets: Callable[[], Iterator[tuple[int, bytes]]] | None = None
    """Yields the MAVLink frames of the log with their times, in order; None where it has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fix:
    """A position as logged."""

    time_ns: int
    quality: int
    """3 is a 3D fix, as all autopilots count."""
    latitude_deg: float
    longitude_deg: float
    altitude_m: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """Values over time, looked up by the nearest time."""

    times_ns: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, time_ns: int, value: Any) -> None:
        """Take a value; they come in order, but where a log is damaged."""
        place = bisect.bisect_right(self.times_ns, time_ns)
        self.times_ns.insert(place, time_ns)
        self.values.insert(place, value)

    def at(self, time_ns: int, default: Any) -> Any:
        """Return the value nearest in time."""
        if not self.times_ns:
            return default
        after = min(bisect.bisect_left(self.times_ns, time_ns), len(self.times_ns) - 1)
        before = max(after - 1, 0)
        nearest = min(before, after, key=lambda n: abs(self.times_ns[n] - time_ns))
        return self.values[nearest]


LEVEL = (0.0, 0.0, 0.0)
"""Attitude where a log has none: level, to the north."""


def angles(roll_rad: float, pitch_rad: float, yaw_rad: float) -> tuple[float, float, float]:
    """Return roll, pitch and yaw; 0 for what is not a number."""
    return (
        roll_rad if math.isfinite(roll_rad) else 0.0,
        pitch_rad if math.isfinite(pitch_rad) else 0.0,
        yaw_rad if math.isfinite(yaw_rad) else 0.0,
    )


def true_poses(fixes: Sequence[Fix | None], attitudes: Series) -> tuple[tuple[Pose, ...], dict[str, int]]:
    """Return the poses of the fixes that can be true, and how many cannot, by reason.

    Args:
        fixes: in the order of the log; None is one that lacks a field.
        attitudes: (roll, pitch, yaw) in rad over the same clock.
    """
    refused: Counter[str] = Counter()
    poses: list[Pose] = []
    before: Fix | None = None
    for n, fix in enumerate(fixes):
        reason = _refusal(fix, before) or _time_refusal(fix, fixes[n + 1] if n + 1 < len(fixes) else None, poses)
        if fix is not None and fix.quality >= FIX_3D and not reason.startswith(("time", "impossible")):
            before = fix
        if reason or fix is None:
            refused[reason] += 1
            continue
        roll_rad, pitch_rad, yaw_rad = attitudes.at(fix.time_ns, LEVEL)
        poses.append(
            Pose(
                capture_ns=fix.time_ns,
                latitude_deg=fix.latitude_deg,
                longitude_deg=fix.longitude_deg,
                altitude_m=fix.altitude_m,
                roll_rad=roll_rad,
                pitch_rad=pitch_rad,
                yaw_rad=yaw_rad,
            )
        )
    return tuple(poses), dict(refused)


def check_usable(path: Path, poses: tuple[Pose, ...], fixes: int) -> None:
    """Raise RecordingError where a log has no pose."""
    if not poses:
        raise RecordingError(f"{path}: no usable GPS fix among {fixes}: take a log with 3D fixes")


def _refusal(fix: Fix | None, before: Fix | None) -> str:
    """Say why a fix cannot be true; empty where it can."""
    if fix is None:
        return "incomplete"
    if fix.quality < FIX_3D:
        return "no 3D fix"
    numbers = (fix.latitude_deg, fix.longitude_deg, fix.altitude_m)
    if (
        not all(math.isfinite(number) for number in numbers)
        or abs(fix.latitude_deg) > 90
        or abs(fix.longitude_deg) > 180
    ):
        return "impossible position"
    if (fix.latitude_deg == 0.0 and fix.longitude_deg == 0.0) or abs(fix.altitude_m) > _FARTHEST_M:
        return "impossible position"
    if before is None:
        return ""
    seconds = (fix.time_ns - before.time_ns) / 1e9
    if seconds <= 0:
        return "time goes back"
    if abs(fix.altitude_m - before.altitude_m) > ALTITUDE_SLACK_M + MAX_CLIMB_M_S * seconds:
        return "altitude jumps"
    return "position jumps" if _distance_m(fix, before) > POSITION_SLACK_M + MAX_SPEED_M_S * seconds else ""


def _time_refusal(fix: Fix | None, following: Fix | None, poses: Sequence[Pose]) -> str:
    """Say why a fix's time cannot be true: it lies before the last pose, or after the fix that follows."""
    if fix is None or not poses:
        return ""
    if fix.time_ns <= poses[-1].capture_ns:
        return "time goes back"
    is_leap = following is not None and poses[-1].capture_ns < following.time_ns < fix.time_ns
    return "time leaps" if is_leap else ""


def _distance_m(fix: Fix, other: Fix) -> float:
    north_deg = fix.latitude_deg - other.latitude_deg
    east_deg = (fix.longitude_deg - other.longitude_deg + 180.0) % 360.0 - 180.0
    return _M_PER_DEG * math.hypot(north_deg, east_deg * math.cos(math.radians(fix.latitude_deg)))
