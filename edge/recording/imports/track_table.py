"""A vehicle's track as a table: a time, a position, and an attitude where there is one, in each row."""

import math
from pathlib import Path

from edge.mavlink.logs.logged_flight import FIX_3D, Fix, LoggedFlight, Series, angles, check_usable, true_poses
from edge.recording.imports.table import TIME_COLUMNS, Table, read_table
from edge.recording.imports.utc import parse_utc
from models.errors import RecordingError

_LATITUDE = ("latitude_deg", "lat_deg", "latitude", "lat")
_LONGITUDE = ("longitude_deg", "lon_deg", "lng_deg", "longitude", "lon", "lng")
_ALTITUDE = ("altitude_m", "abs_alt_m", "alt_m", "altitude", "alt")
_QUALITY = ("fix_type", "fix")
_UTC_FROM_NS = 10**18
"""Times before 2001 count from some other beginning."""


def read_track(path: Path) -> LoggedFlight:
    """Read a track; rows without a time or a position are left out and counted.

    Raises:
        RecordingError: cannot be read, lacks a column, or has no usable row.
    """
    table = read_table(path, "a table of a track")
    wanted = {"time": TIME_COLUMNS, "latitude_deg": _LATITUDE, "longitude_deg": _LONGITUDE, "altitude_m": _ALTITUDE}
    places = {name: table.column(names) for name, names in wanted.items()}
    missing = [name for name, place in places.items() if place is None]
    if missing:
        raise RecordingError(f"{path}: no column {', '.join(missing)}: found {', '.join(table.columns)[:200]!r}")
    fixes: list[Fix | None] = []
    attitudes = Series()
    for _, row in table.rows:
        time_ns = parse_utc(table.cell(row, places["time"]))
        numbers = [_number(table, row, places[name]) for name in ("latitude_deg", "longitude_deg", "altitude_m")]
        if time_ns is None:
            fixes.append(None)
            continue
        quality = _number(table, row, table.column(_QUALITY), FIX_3D)
        fixes.append(
            Fix(
                time_ns=time_ns,
                quality=int(quality) if math.isfinite(quality) else 0,
                latitude_deg=numbers[0],
                longitude_deg=numbers[1],
                altitude_m=numbers[2],
            )
        )
        turned = (_number(table, row, table.column((f"{name}_deg", name)), 0.0) for name in ("roll", "pitch", "yaw"))
        attitudes.add(time_ns, angles(*map(math.radians, turned)))
    poses, refused = true_poses(fixes, attitudes)
    check_usable(path, poses, len(fixes))
    return LoggedFlight(
        poses=poses,
        refused=refused,
        utc_offset_ns=0 if poses[0].capture_ns >= _UTC_FROM_NS else None,
        messages=len(table.rows),
        span_ns=(poses[0].capture_ns, poses[-1].capture_ns),
    )


def _number(table: Table, row: list[str], place: int | None, default: float = math.nan) -> float:
    """Return a cell's number; the default where there is no such column, NaN where it is no number."""
    if place is None:
        return default
    try:
        return float(table.cell(row, place))
    except ValueError:
        return math.nan
