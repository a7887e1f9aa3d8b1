"""Telemetry logs (.tlog), as ground stations write them: MAVLink frames, each after 8 bytes of time.

The time is the ground's, of arrival, in microseconds since 1970, big endian; positions and attitudes also carry the
autopilot's own, which knows nothing of the radio's delays, and counts here where it is there.
"""

import mmap
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymavlink.dialects.v20 import ardupilotmega

from edge.mavlink.logs.logged_flight import Fix, LoggedFlight, Series, angles, true_poses
from edge.mavlink.wire import frames
from models.errors import RecordingError

_TIME_BYTES = 8
_WANTED = frozenset(
    {
        ardupilotmega.MAVLINK_MSG_ID_SYSTEM_TIME,
        ardupilotmega.MAVLINK_MSG_ID_GPS_RAW_INT,
        ardupilotmega.MAVLINK_MSG_ID_ATTITUDE,
        ardupilotmega.MAVLINK_MSG_ID_GLOBAL_POSITION_INT,
    }
)
"""What tells the track."""
_MESSAGES: dict[int, Any] = {**ardupilotmega.mavlink_map, **frames.MESSAGES}
_SEARCH_BYTES = 1 << 16
"""A file without one frame in its first part is no such log."""
_MAX_GAP_US = 3_600_000_000
_REORDERED_US = 1_000_000
_REBOOT_MS = 1_000
_US = 1_000


@dataclass(kw_only=True, slots=True)
class _Track:
    """What of the frames says where the first vehicle was."""

    system: int | None = None
    positions: list[tuple[int, int, Any]] = field(default_factory=list)
    """(number of the autopilot's start, its ms, GLOBAL_POSITION_INT)"""
    attitudes: list[tuple[int, int, Any]] = field(default_factory=list)
    qualities: list[tuple[int, int]] = field(default_factory=list)
    """(arrival in us, fix type)"""
    readings: list[tuple[int, int]] = field(default_factory=list)
    offsets_us: list[int] = field(default_factory=list)
    """Of each start: arrival minus the autopilot's time, the least seen: that of the fastest frame."""
    last_boot_ms: int = -1

    def take(self, time_us: int, message: Any) -> None:
        """Look at a message, one of those in _WANTED."""
        name = message.get_type()
        if self.system is None:
            self.system = message.get_srcSystem()
        if message.get_srcSystem() != self.system:
            return
        if name == "GPS_RAW_INT":
            self.qualities.append((time_us, message.fix_type))
            return
        boot_ms = message.time_boot_ms
        if not self.offsets_us or boot_ms < self.last_boot_ms - _REBOOT_MS:
            self.offsets_us.append(time_us - boot_ms * 1000)
        self.offsets_us[-1] = min(self.offsets_us[-1], time_us - boot_ms * 1000)
        self.last_boot_ms = boot_ms
        if name == "SYSTEM_TIME":
            if message.time_unix_usec:
                self.readings.append((time_us * _US, message.time_unix_usec * _US))
            return
        kept = self.positions if name == "GLOBAL_POSITION_INT" else self.attitudes
        kept.append((len(self.offsets_us) - 1, boot_ms, message))

    def time_ns(self, start: int, boot_ms: int) -> int:
        """Return the autopilot's time on the ground's clock."""
        return (boot_ms * 1000 + self.offsets_us[start]) * _US


def read_tlog(path: Path) -> LoggedFlight:
    """Read a telemetry log: the track of the first vehicle in it, and every frame; damage is skipped and counted.

    Raises:
        RecordingError: not such a log.
    """
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise RecordingError(f"{path}: empty: expected a .tlog")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _read(path, data)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror}): name a .tlog") from error


def _read(path: Path, data: mmap.mmap) -> LoggedFlight:
    counts: Counter[str] = Counter()
    track, index, times_us = _Track(), array("Q"), array("Q")
    decoder = ardupilotmega.MAVLink(None)
    last_us = 0
    for time_us, next_us, at, size in _with_next(_frames(path, data, counts)):
        if frames.message_id(data[at : at + size]) == ardupilotmega.MAVLINK_MSG_ID_SETUP_SIGNING:
            counts["keys left out"] += 1
            continue
        if not last_us - _REORDERED_US <= time_us:
            counts["frames whose time goes back"] += 1
            continue
        if _is_leap(last_us, time_us, next_us):
            counts["frames of a wrong time"] += 1
            continue
        last_us = max(last_us, time_us)
        index.append(at << 16 | size)
        times_us.append(last_us)
        message = _decode(decoder, data[at : at + size])
        if message is not None:
            track.take(last_us, message)
    if not index:
        raise RecordingError(f"{path}: not one frame with a time that can be true: download it again")
    return _flight(path, track, index, times_us, counts)


def _is_leap(last_us: int, time_us: int, next_us: int | None) -> bool:
    """Say whether a time lies ahead of the one that follows, or far ahead of the last without one that agrees."""
    if next_us is None:
        return bool(last_us) and time_us - last_us > _MAX_GAP_US
    if last_us <= next_us < time_us - _REORDERED_US:
        return True
    return time_us - last_us > _MAX_GAP_US and not 0 <= next_us - time_us <= _MAX_GAP_US


def _flight(
    path: Path, track: _Track, index: "array[int]", times_us: "array[int]", counts: "Counter[str]"
) -> LoggedFlight:
    qualities, attitudes = Series(), Series()
    for arrival_us, quality in track.qualities:
        qualities.add(arrival_us * _US, quality)
    for start, boot_ms, message in track.attitudes:
        attitudes.add(track.time_ns(start, boot_ms), angles(message.roll, message.pitch, message.yaw))
    fixes = []
    for start, boot_ms, message in track.positions:
        time_ns = track.time_ns(start, boot_ms)
        fixes.append(
            Fix(
                time_ns=time_ns,
                quality=qualities.at(time_ns, 0),
                latitude_deg=message.lat / 1e7,
                longitude_deg=message.lon / 1e7,
                altitude_m=message.alt / 1e3,
            )
        )
    poses, refused = true_poses(fixes, attitudes)

    def packets() -> Iterator[tuple[int, bytes]]:
        with path.open("rb") as file:
            for place, time_us in zip(index, times_us, strict=True):
                file.seek(place >> 16)
                yield time_us * _US, file.read(place & 0xFFFF)

    return LoggedFlight(
        poses=poses,
        refused=refused,
        utc_offset_ns=0,
        readings=tuple(track.readings),
        messages=len(index),
        damage={reason: count for reason, count in counts.items() if count},
        span_ns=(times_us[0] * _US, times_us[-1] * _US),
        packets=packets,
        packet_times_us=times_us,
    )


def _frames(path: Path, data: mmap.mmap, counts: "Counter[str]") -> Iterator[tuple[int, int, int]]:
    """Yield (time in us, where the frame begins, its bytes) of every sound frame."""
    at, end, has_frame = 0, len(data), False
    while at < end:
        size = _sound_bytes(data, at + _TIME_BYTES)
        if size:
            has_frame = True
            yield int.from_bytes(data[at : at + _TIME_BYTES], "big"), at + _TIME_BYTES, size
            at += _TIME_BYTES + size
            continue
        found = [data.find(marker, at + _TIME_BYTES + 1) for marker in (b"\xfe", b"\xfd")]
        following = min((place - _TIME_BYTES for place in found if place >= 0), default=end)
        counts["bytes skipped"] += following - at
        at = following
        if not has_frame and at > _SEARCH_BYTES:
            break
    if not has_frame:
        raise RecordingError(f"{path}: no MAVLink frame in its beginning: expected a .tlog, 8 bytes of time per frame")


def _sound_bytes(data: mmap.mmap, at: int) -> int:
    """Return the length of the frame that begins here; 0 where none does."""
    head = data[at : at + frames.HEADER_V2_BYTES]
    size = frames.frame_bytes(head, 0) if head[:1] in (b"\xfe", b"\xfd") else None
    if head[:1] == b"\xfd" and head[2:3] not in (b"\0", b"\1"):  # flags that nobody knows
        return 0
    if size is None or at + size > len(data) or len(head) < frames.HEADER_V1_BYTES:
        return 0
    frame = data[at : at + size]
    number = frames.message_id(frame)
    if number in _MESSAGES:
        return size if frames.has_right_crc(frame, _MESSAGES[number].crc_extra) else 0
    following = data[at + size + _TIME_BYTES : at + size + _TIME_BYTES + 1]  # of a dialect that we lack
    return size if following in (b"\xfe", b"\xfd", b"") else 0


def _decode(decoder: Any, frame: bytes) -> Any | None:
    if frames.message_id(frame) not in _WANTED:
        return None
    try:
        return decoder.decode(bytearray(frame))
    except ardupilotmega.MAVError:
        return None


def _with_next(found: Iterator[tuple[int, int, int]]) -> Iterator[tuple[int, int | None, int, int]]:
    """Yield each frame with the time of the next one beside its own."""
    waiting: tuple[int, int, int] | None = None
    for frame in found:
        if waiting is not None:
            yield waiting[0], frame[0], waiting[1], waiting[2]
        waiting = frame
    if waiting is not None:
        yield waiting[0], None, waiting[1], waiting[2]
