"""Poses from an ArduPilot log (.bin): GPS positions and estimated attitudes, where they can be true."""

import bisect
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymavlink.DFReader import DFReader_binary

from edge.transport.messages import Pose
from models.errors import RecordingError

FIX_3D = 3
MAX_CLIMB_M_S = 50.0
"""A fix that would need more vertical speed since the one before is refused."""
ALTITUDE_SLACK_M = 5.0
_LOG_START = b"\xa3\x95\x80"
_GPS_EPOCH_UNIX_S = 315_964_800
_LEAP_SECONDS = 18
"""Between GPS time and UTC since 2017; a second less before."""
_WEEK_S = 604_800


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedFlight:
    """Where a vehicle was, by its own log."""

    poses: tuple[Pose, ...]
    """In order; capture times are nanoseconds since the autopilot started."""
    refused: dict[str, int]
    """GPS fixes left out, by reason."""
    utc_offset_ns: int | None
    """UTC minus those times, by GPS; None where the log does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Attitudes:
    times_ns: list[int]
    angles_rad: list[tuple[float, float, float]]

    def at(self, time_ns: int) -> tuple[float, float, float]:
        """Return roll, pitch and yaw nearest in time; level and north where the log has none."""
        if not self.times_ns:
            return (0.0, 0.0, 0.0)
        after = min(bisect.bisect_left(self.times_ns, time_ns), len(self.times_ns) - 1)
        before = max(after - 1, 0)
        nearest = min(before, after, key=lambda n: abs(self.times_ns[n] - time_ns))
        return self.angles_rad[nearest]


def read_dataflash(path: Path) -> LoggedFlight:
    """Read the GPS track of an ArduPilot log.

    Raises:
        RecordingError: not such a log, or without one usable fix.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_LOG_START))
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror}): name an ArduPilot .bin log") from error
    if start != _LOG_START:
        raise RecordingError(f"{path}: expected an ArduPilot .bin log, found a file that starts with {start.hex(' ')}")
    fixes: list[dict[str, Any]] = []
    attitudes = _Attitudes(times_ns=[], angles_rad=[])
    for message in _messages(path):
        time_ns = _boot_ns(message)
        if message["mavpackettype"] == "GPS":
            if not message.get("I", 0):
                fixes.append(message)
        elif time_ns is not None and time_ns >= (attitudes.times_ns or [0])[-1]:
            attitudes.times_ns.append(time_ns)
            attitudes.angles_rad.append(_angles(message))
    return _flight(path, fixes, attitudes)


def _messages(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with DFReader_binary(str(path)) as log:
            while True:
                message = log.recv_match(type=["GPS", "ATT"])
                if message is None:
                    return
                yield message.to_dict()
    except (OSError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise RecordingError(f"{path}: not readable as an ArduPilot log ({error}): download it again") from error


def _flight(path: Path, fixes: list[dict[str, Any]], attitudes: _Attitudes) -> LoggedFlight:
    refused: Counter[str] = Counter()
    poses: list[Pose] = []
    utc_offset_ns: int | None = None
    before: tuple[int, float] | None = None
    for fix in fixes:
        time_ns = _boot_ns(fix)
        reason = _refusal(fix, time_ns, before)
        if time_ns is not None and fix.get("Status", 0) >= FIX_3D:
            before = (time_ns, float(fix["Alt"]))
        if reason or time_ns is None:
            refused[reason] += 1
            continue
        if utc_offset_ns is None:
            utc_offset_ns = _utc_offset_ns(fix, time_ns)
        roll_rad, pitch_rad, yaw_rad = attitudes.at(time_ns)
        poses.append(
            Pose(
                capture_ns=time_ns,
                latitude_deg=float(fix["Lat"]),
                longitude_deg=float(fix["Lng"]),
                altitude_m=float(fix["Alt"]),
                roll_rad=roll_rad,
                pitch_rad=pitch_rad,
                yaw_rad=yaw_rad,
            )
        )
    if not poses:
        raise RecordingError(f"{path}: no usable GPS fix among {len(fixes)}: take a log with 3D fixes")
    return LoggedFlight(poses=tuple(poses), refused=dict(refused), utc_offset_ns=utc_offset_ns)


def _refusal(fix: dict[str, Any], time_ns: int | None, before: tuple[int, float] | None) -> str:
    """Say why a fix cannot be true; empty where it can."""
    if time_ns is None or not {"Lat", "Lng", "Alt", "Status"} <= fix.keys():
        return "incomplete"
    if fix["Status"] < FIX_3D:
        return "no 3D fix"
    numbers = (fix["Lat"], fix["Lng"], fix["Alt"])
    if not all(math.isfinite(number) for number in numbers) or abs(fix["Lat"]) > 90 or abs(fix["Lng"]) > 180:
        return "impossible position"
    if before is None:
        return ""
    if time_ns <= before[0]:
        return "time goes back"
    climb_m = abs(fix["Alt"] - before[1])
    return "altitude jumps" if climb_m > ALTITUDE_SLACK_M + MAX_CLIMB_M_S * (time_ns - before[0]) / 1e9 else ""


def _boot_ns(message: dict[str, Any]) -> int | None:
    """Return when a message was logged, since the autopilot started; ArduPilot named this field in three ways."""
    if "TimeUS" in message:
        return int(message["TimeUS"]) * 1_000
    if "T" in message:
        return int(message["T"]) * 1_000_000
    if "TimeMS" in message and message["mavpackettype"] != "GPS":
        return int(message["TimeMS"]) * 1_000_000
    return None


def _utc_offset_ns(fix: dict[str, Any], time_ns: int) -> int | None:
    week = int(fix.get("GWk", fix.get("Week", 0)))
    week_ms = int(fix.get("GMS", fix.get("TimeMS", 0)))
    if not week:
        return None
    unix_s = _GPS_EPOCH_UNIX_S + week * _WEEK_S - _LEAP_SECONDS
    return unix_s * 1_000_000_000 + week_ms * 1_000_000 - time_ns


def _angles(message: dict[str, Any]) -> tuple[float, float, float]:
    """Return roll, pitch and yaw; 0 for what is missing or not a number."""
    angles = [math.radians(float(message.get(name, 0.0))) for name in ("Roll", "Pitch", "Yaw")]
    roll, pitch, yaw = (angle if math.isfinite(angle) else 0.0 for angle in angles)
    return (roll, pitch, yaw)
