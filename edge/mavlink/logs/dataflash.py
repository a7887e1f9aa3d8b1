"""ArduPilot logs (.bin): GPS positions and estimated attitudes, and what is damaged of the file, in bytes.

Our own reader: pymavlink's prints what it skips instead of counting it, and keeps an index of the whole file.
Source: libraries/AP_Logger/LogStructure.h and README.md of ArduPilot.
"""

import math
import mmap
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.mavlink.logs.logged_flight import Fix, LoggedFlight, Series, angles, check_usable, true_poses
from models.errors import RecordingError

LOG_START = b"\xa3\x95\x80"
_HEAD = LOG_START[:2]
_FORMAT_KIND = LOG_START[2]
_FORMAT = struct.Struct("<BB4s16s64s")
_FORMAT_BYTES = 3 + _FORMAT.size
_LETTERS = {
    "a": "64s", "b": "b", "B": "B", "h": "h", "H": "H", "i": "i", "I": "I", "f": "f", "d": "d", "n": "4s", "N": "16s",
    "Z": "64s", "c": "h", "C": "H", "e": "i", "E": "I", "L": "i", "M": "B", "q": "q", "Q": "Q", "g": "e",
}  # fmt: skip
_SCALES = {"c": 1e-2, "C": 1e-2, "e": 1e-2, "E": 1e-2, "L": 1e-7}
_WANTED = frozenset({"GPS", "ATT"})
_GPS_EPOCH_UNIX_S = 315_964_800
_LEAP_SECONDS = 18
"""Between GPS time and UTC since 2017; a second less before."""
_WEEK_S = 604_800


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layout:
    name: str
    fields: struct.Struct
    columns: tuple[str, ...]
    scales: tuple[float, ...]
    """0 where there is none."""

    def decode(self, data: Any, at: int) -> dict[str, Any]:
        """Return the fields of a message whose content begins at `at`."""
        values = self.fields.unpack_from(data, at)
        scaled = (value * scale if scale else value for value, scale in zip(values, self.scales, strict=True))
        return dict(zip(self.columns, scaled, strict=True))


def read_dataflash(path: Path) -> LoggedFlight:
    """Read the GPS track of an ArduPilot log; what is damaged is skipped and counted.

    Raises:
        RecordingError: not such a log, or without one usable fix.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(LOG_START))
            if start != LOG_START:
                raise RecordingError(
                    f"{path}: expected an ArduPilot .bin log, found a file that starts with {start.hex(' ')}"
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _read(path, data)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror}): name an ArduPilot .bin log") from error


def _read(path: Path, data: mmap.mmap) -> LoggedFlight:
    counts: Counter[str] = Counter()
    fixes: list[Fix | None] = []
    attitudes = Series()
    readings: list[tuple[int, int]] = []
    for name, message in _messages(data, counts):
        time_ns = _boot_ns(name, message)
        if name == "ATT":
            if time_ns is not None:
                attitudes.add(time_ns, _angles(message))
        elif not message.get("I", 0):
            fix = _fix(message, time_ns)
            fixes.append(fix)
            utc_ns = _utc_ns(message)
            if fix is not None and fix.quality >= 3 and utc_ns is not None:
                readings.append((fix.time_ns, utc_ns))
    poses, refused = true_poses(fixes, attitudes)
    check_usable(path, poses, len(fixes))
    by_own = dict(readings)
    first = next(((pose.capture_ns, by_own[pose.capture_ns]) for pose in poses if pose.capture_ns in by_own), None)
    return LoggedFlight(
        poses=poses,
        refused=refused,
        utc_offset_ns=None if first is None else first[1] - first[0],
        readings=tuple(readings),
        messages=counts.pop("messages", 0),
        damage=dict(counts),
        span_ns=(poses[0].capture_ns, poses[-1].capture_ns),
    )


def _messages(data: mmap.mmap, counts: "Counter[str]") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and fields of the messages wanted; one counts only where the next one, or the end, follows it."""
    lengths = {_FORMAT_KIND: _FORMAT_BYTES}
    layouts: dict[int, _Layout | None] = {}
    at, size = 0, len(data)
    while at < size:
        length = lengths.get(data[at + 2], 0) if data[at : at + 2] == _HEAD and at + 3 <= size else 0
        end = at + length
        if not length or end > size or (end != size and data[end : end + 2] != _HEAD[: size - end]):
            following = data.find(_HEAD, at + 1)
            following = following if following >= 0 else size
            counts["bytes skipped"] += following - at
            at = following
            continue
        counts["messages"] += 1
        kind = data[at + 2]
        if kind == _FORMAT_KIND:
            _take_format(data, at + 3, lengths, layouts)
        elif (layout := layouts.get(kind)) is not None:
            yield layout.name, layout.decode(data, at + 3)
        at = end


def _take_format(data: mmap.mmap, at: int, lengths: dict[int, int], layouts: dict[int, _Layout | None]) -> None:
    """Learn a message's length and, where it is wanted, its fields; formats that contradict themselves are left."""
    kind, length, *texts = _FORMAT.unpack_from(data, at)
    name, letters, columns = (text.split(b"\0")[0].decode("ascii", "replace") for text in texts)
    if length <= 3 or kind == _FORMAT_KIND:
        return
    lengths[kind] = length
    layouts.pop(kind, None)
    names = tuple(columns.split(","))
    if name not in _WANTED or len(names) != len(letters) or not set(letters) <= _LETTERS.keys():
        return
    fields = struct.Struct("<" + "".join(_LETTERS[letter] for letter in letters))
    if fields.size == length - 3:
        scales = tuple(_SCALES.get(letter, 0.0) for letter in letters)
        layouts[kind] = _Layout(name=name, fields=fields, columns=names, scales=scales)


def _fix(message: dict[str, Any], time_ns: int | None) -> Fix | None:
    if time_ns is None or not {"Lat", "Lng", "Alt", "Status"} <= message.keys():
        return None
    numbers = [message[name] for name in ("Lat", "Lng", "Alt", "Status")]
    if any(isinstance(number, bytes) for number in numbers):
        return None
    latitude_deg, longitude_deg, altitude_m, status = numbers
    return Fix(
        time_ns=time_ns,
        quality=int(status) if math.isfinite(status) else 0,
        latitude_deg=float(latitude_deg),
        longitude_deg=float(longitude_deg),
        altitude_m=float(altitude_m),
    )


def _boot_ns(name: str, message: dict[str, Any]) -> int | None:
    """Return when a message was logged, since the autopilot started; ArduPilot named this field in three ways."""
    for column, unit_ns in (("TimeUS", 1_000), ("T", 1_000_000), ("TimeMS", 1_000_000)):
        value = message.get(column)
        if isinstance(value, int) and not (column == "TimeMS" and name == "GPS"):
            return value * unit_ns
    return None


def _utc_ns(fix: dict[str, Any]) -> int | None:
    week, week_ms = fix.get("GWk", fix.get("Week")), fix.get("GMS", fix.get("TimeMS"))
    if not isinstance(week, int) or not isinstance(week_ms, int) or week <= 0:
        return None
    unix_s = _GPS_EPOCH_UNIX_S + week * _WEEK_S - _LEAP_SECONDS
    return unix_s * 1_000_000_000 + week_ms * 1_000_000


def _angles(message: dict[str, Any]) -> tuple[float, float, float]:
    values = [message.get(name, 0.0) for name in ("Roll", "Pitch", "Yaw")]
    return angles(*(math.radians(value) if isinstance(value, int | float) else 0.0 for value in values))
