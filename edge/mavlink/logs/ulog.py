"""PX4 logs (.ulg), read with pyulog: estimated positions while the GPS has a 3D fix, and estimated attitudes."""

import contextlib
import io
import logging
import math
import struct
import tempfile
from pathlib import Path
from typing import Any

from edge.mavlink.logs.logged_flight import Fix, LoggedFlight, Series, angles, check_usable, true_poses
from edge.mavlink.logs.ulog_check import copy_sound
from models.errors import DeviceError, RecordingError

log = logging.getLogger(__name__)

LOG_START = b"ULog\x01\x125"
MAX_LOG_BYTES = 4 << 30
_POSITION, _ATTITUDE = "vehicle_global_position", "vehicle_attitude"
_GPS = ("vehicle_gps_position", "sensor_gps")
_US = 1_000
_FAULTS = (
    struct.error, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError,
    UnboundLocalError, MemoryError,
)  # fmt: skip
"""What pyulog raises over damaged files besides its own."""


def read_ulog(path: Path) -> LoggedFlight:
    """Read the track of a PX4 log; where the file is damaged, what pyulog can still read of it.

    Raises:
        DeviceError: pyulog is not installed.
        RecordingError: not such a log, or without one usable fix.
    """
    topics, damage = _topics(path)
    gps = next((topics[name] for name in _GPS if name in topics), {})
    qualities, attitudes = Series(), Series()
    readings: list[tuple[int, int]] = []
    for time_us, fix_type, utc_us in _rows(gps, ("timestamp", "fix_type", "time_utc_usec")):
        qualities.add(int(time_us) * _US, int(fix_type))
        if utc_us and fix_type >= 3:
            readings.append((int(time_us) * _US, int(utc_us) * _US))
    for time_us, *q in _rows(topics.get(_ATTITUDE, {}), ("timestamp", "q[0]", "q[1]", "q[2]", "q[3]")):
        attitudes.add(int(time_us) * _US, _angles(*map(float, q)))
    fixes = _fixes(topics.get(_POSITION, {}), gps, qualities)
    poses, refused = true_poses(fixes, attitudes)
    check_usable(path, poses, len(fixes))
    return LoggedFlight(
        poses=poses,
        refused=refused,
        utc_offset_ns=readings[0][1] - readings[0][0] if readings else None,
        readings=tuple(readings),
        messages=sum(len(topic.get("timestamp", ())) for topic in topics.values()),
        damage=damage,
        span_ns=(poses[0].capture_ns, poses[-1].capture_ns),
    )


def _topics(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """Return the columns of the topics wanted, of their first instance, and what is missing of the log."""
    try:
        with path.open("rb") as file:
            start = file.read(len(LOG_START))
        size = path.stat().st_size
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror}): name a PX4 .ulg log") from error
    if start != LOG_START:
        raise RecordingError(f"{path}: expected a PX4 .ulg log, found a file that starts with {start.hex(' ')}")
    if size > MAX_LOG_BYTES:
        raise RecordingError(f"{path}: more than {MAX_LOG_BYTES} bytes: cut the log")
    ulog_class, exception = _library(path)
    said = io.StringIO()
    try:
        with tempfile.TemporaryFile() as sound, contextlib.redirect_stdout(said):
            skipped = copy_sound(path, sound)
            sound.seek(0)
            read = ulog_class(sound, message_name_filter_list=[_POSITION, _ATTITUDE, *_GPS])
        topics = {topic.name: dict(topic.data) for topic in reversed(read.data_list)}
        dropouts = len(read.dropouts)
    except (*_FAULTS, exception, OSError) as error:
        raise RecordingError(f"{path}: not readable as a PX4 log ({error}): download it again") from error
    for line in said.getvalue().splitlines()[:3]:
        log.info("%s: %s", path, line)
    found = {"dropouts while logging": dropouts, "bytes skipped": skipped}
    return topics, {reason: count for reason, count in found.items() if count}


def _library(path: Path) -> tuple[Any, type[Exception]]:
    try:
        import pyulog
        from pyulog.exceptions import ULogException
    except ImportError as error:
        raise DeviceError(f"{path}: PX4 logs need pyulog: pip install 'uav-fusion-edge[import]'") from error
    return pyulog.ULog, ULogException


def _rows(topic: dict[str, Any], columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """Return a topic's rows in these columns; none where it lacks one."""
    if any(name not in topic for name in columns):
        return []
    return list(zip(*(topic[name].tolist() for name in columns), strict=False))


def _fixes(position: dict[str, Any], gps: dict[str, Any], qualities: Series) -> list[Fix | None]:
    """Return the estimated positions, each with the quality of the GPS about that time; without any, the GPS's own."""
    rows = _rows(position, ("timestamp", "lat", "lon", "alt"))
    if not rows:
        rows = _rows(gps, ("timestamp", "latitude_deg", "longitude_deg", "altitude_msl_m"))
    if not rows:
        whole = _rows(gps, ("timestamp", "lat", "lon", "alt"))  # until PX4 1.14: 1e-7 degrees, and mm
        rows = [(time_us, lat / 1e7, lon / 1e7, alt / 1e3) for time_us, lat, lon, alt in whole]
    fixes: list[Fix | None] = []
    for time_us, latitude_deg, longitude_deg, altitude_m in rows:
        time_ns = int(time_us) * _US
        fixes.append(
            Fix(
                time_ns=time_ns,
                quality=qualities.at(time_ns, 0),
                latitude_deg=float(latitude_deg),
                longitude_deg=float(longitude_deg),
                altitude_m=float(altitude_m),
            )
        )
    return fixes


def _angles(w: float, x: float, y: float, z: float) -> tuple[float, float, float]:
    """Return roll, pitch and yaw of a quaternion from body to north-east-down."""
    if not all(map(math.isfinite, (w, x, y, z))):
        return angles(math.nan, math.nan, math.nan)
    roll_rad = math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch_rad = math.asin(min(max(2 * (w * y - z * x), -1.0), 1.0))
    yaw_rad = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return angles(roll_rad, pitch_rad, yaw_rad)
