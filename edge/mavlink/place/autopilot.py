"""What one autopilot says on one link of the time and of the vehicle's motion."""

import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from pymavlink.dialects.v20 import common

from edge.mavlink.geometry import rotation
from edge.mavlink.geometry.pose import Direction, Place, Track
from edge.mavlink.pace import NS_PER_S
from edge.mavlink.place.timesync import TimeSync

log = logging.getLogger(__name__)

NS_PER_MS = 1_000_000
NS_PER_US = 1_000
TURN_MS = 1 << 32
"""`time_boot_ms` begins anew after 49.7 days."""
FIRST_UTC_US, LAST_UTC_US = 1_577_836_800_000_000, 4_102_444_800_000_000
"""2020 to 2100: outside of these an autopilot does not know the date."""
UTC_READINGS = 8
UTC_JUMP_NS = 100 * NS_PER_MS
EARLIEST_NS, LATEST_NS = NS_PER_S, 5 * NS_PER_MS
"""A reading's time by the autopilot's clock is believed where it lies so little before, or after, its arrival."""
COPY_NS = 5 * NS_PER_S
"""A message that is older than the last of its kind by less came by a slower way; by more: the autopilot restarted."""
OTHER_GIMBAL_NS = 2 * NS_PER_S
"""A gimbal that is silent for so long gives way to another."""
FIX_NS = 5 * NS_PER_S
"""So long the word of a receiver for satellites holds."""
FIX_3D = common.GPS_FIX_TYPE_3D_FIX
SIGMAS_IN_RADIUS = 1.515
"""The radius that holds 68 % of a round normal distribution, in its standard deviations along one axis."""
_IN_VEHICLE_FRAME = common.GIMBAL_DEVICE_FLAGS_YAW_IN_VEHICLE_FRAME
_IN_EARTH_FRAME = common.GIMBAL_DEVICE_FLAGS_YAW_IN_EARTH_FRAME
_YAW_LOCK = common.GIMBAL_DEVICE_FLAGS_YAW_LOCK


class CaptureTime(NamedTuple):
    """A moment as it is written into messages."""

    time_us: int
    is_synced: bool
    """Whether it is UTC or the autopilot's time; else it counts from the start of this computer."""


class _Fix(NamedTuple):
    heard_ns: int
    is_one: bool
    error_m: float
    """One standard deviation to the north and to the east each; 0 where the receiver does not say."""


class Autopilot:
    """One autopilot on one link: its clock against ours, and the vehicle's motion."""

    def __init__(self, now_ns: int, *, is_proven: bool = True) -> None:
        self.is_proven = is_proven
        """Whether all that is heard of it shows who sent it."""
        self.clock = TimeSync(now_ns)
        self.track = Track()
        self.heard_ns = now_ns
        self._newest_ns: dict[str, int] = {}
        """By message, the sender's time of the last one."""
        self._utc_ns: deque[int] = deque(maxlen=UTC_READINGS)
        """UTC minus the autopilot's time; each is up to 1 ms too much, because that is told in whole ms."""
        self._fixes: dict[str, _Fix] = {}
        """By receiver."""
        self._had_fix = False
        self._gimbal: tuple[tuple[int, int], int] | None = None
        """Which gimbal counts, and when it was heard."""
        self._readers: dict[str, Callable[[Any, int], object]] = {
            "TIMESYNC": self._on_timesync,
            "SYSTEM_TIME": self._on_system_time,
            "ATTITUDE": self._on_attitude,
            "GLOBAL_POSITION_INT": self._on_position,
            "GPS_RAW_INT": self._on_fix,
            "GPS2_RAW": self._on_fix,
        }

    def on_message(self, name: str, message: Any, now_ns: int) -> None:
        """Take a message of it."""
        reader = self._readers.get(name)
        if reader is not None:
            reader(message, now_ns)

    def on_gimbal(self, message: Any, source: tuple[int, int], now_ns: int, *, is_own: bool) -> None:
        """Take the attitude of the vehicle's gimbal.

        Args:
            message: GIMBAL_DEVICE_ATTITUDE_STATUS.
            source: component that sent it, and number that it gave the gimbal; of several the first one counts.
            now_ns: the time.
            is_own: whether the autopilot sent it; another component has another clock.
        """
        turned = rotation.normalised(*message.q)
        known = self._gimbal
        if turned is None or (known is not None and known[0] != source and now_ns - known[1] < OTHER_GIMBAL_NS):
            return
        self._gimbal = source, now_ns
        is_to_vehicle = bool(message.flags & _IN_VEHICLE_FRAME)
        if not message.flags & (_IN_VEHICLE_FRAME | _IN_EARTH_FRAME):  # an older device: it says what it holds
            is_to_vehicle = not message.flags & _YAW_LOCK
        read_ns = self._read_ns(message, now_ns) if is_own else now_ns
        if read_ns is not None:
            self.track.gimbal.add(read_ns, Direction(turned, is_to_vehicle))

    def time_of(self, at_ns: int, now_ns: int) -> CaptureTime | None:
        """Return a moment of our clock as UTC, or as its own time where it does not know that; None until locked."""
        offset_ns = self.clock.offset_at(now_ns)
        if offset_ns is None:
            return None
        is_dated = self._had_fix or not self._fixes
        utc_ns = min(self._utc_ns, default=0) if is_dated else 0
        return CaptureTime(max(at_ns + offset_ns + utc_ns, 0) // NS_PER_US, True)

    def position_error_m(self, now_ns: int) -> float:
        """Return how far its position may be off by what its receivers say, one standard deviation along each axis.

        Returns:
            0 where none says anything, infinite where none has a fix.
        """
        told = [fix for fix in self._fixes.values() if now_ns - fix.heard_ns <= FIX_NS]
        return min((fix.error_m if fix.is_one else math.inf for fix in told), default=0.0)

    def _on_timesync(self, message: Any, now_ns: int) -> None:
        self.clock.on_answer(message.tc1, message.ts1, now_ns)

    def _on_system_time(self, message: Any, now_ns: int) -> None:
        boot_ns, newest_ns = self._boot_ns(message.time_boot_ms, now_ns), self._newest_ns.get("SYSTEM_TIME", 0)
        if boot_ns <= newest_ns - COPY_NS:
            log.warning("the autopilot restarted, after %d s: its time is asked for anew", newest_ns // NS_PER_S)
            self.clock.restart(now_ns)
            self.track = Track()
            self._newest_ns.clear()
            self._utc_ns.clear()
            self._fixes.clear()
            self._had_fix = False
            boot_ns = message.time_boot_ms * NS_PER_MS
        if not self._is_news("SYSTEM_TIME", boot_ns):
            return
        utc_ns = message.time_unix_usec * NS_PER_US - boot_ns
        is_date = FIRST_UTC_US <= message.time_unix_usec < LAST_UTC_US
        if not is_date or (self._utc_ns and abs(utc_ns - self._utc_ns[-1]) > UTC_JUMP_NS):
            self._utc_ns.clear()
        if is_date:
            self._utc_ns.append(utc_ns)

    def _on_attitude(self, message: Any, now_ns: int) -> None:
        read_ns = self._read_ns(message, now_ns)
        if read_ns is not None:
            self.track.add_angles(read_ns, message.roll, message.pitch, message.yaw)

    def _on_position(self, message: Any, now_ns: int) -> None:
        place = Place(message.lat / 1e7, message.lon / 1e7, message.alt / 1e3, message.relative_alt / 1e3)
        read_ns = self._read_ns(message, now_ns)
        if read_ns is not None:
            self.track.add_place(read_ns, place)

    def _on_fix(self, message: Any, now_ns: int) -> None:
        is_one = message.fix_type >= FIX_3D
        self._had_fix = self._had_fix or is_one
        error_m = message.h_acc / 1e3 / SIGMAS_IN_RADIUS
        self._fixes[message.get_type()] = _Fix(now_ns, is_one, error_m)

    def _read_ns(self, message: Any, now_ns: int) -> int | None:
        """Return when a reading was made, by our clock; None of one that came before, or after a later one.

        Where the autopilot's clock does not tell, that is its arrival.
        """
        boot_ns, offset_ns = self._boot_ns(message.time_boot_ms, now_ns), self.clock.offset_at(now_ns)
        if boot_ns and not self._is_news(message.get_type(), boot_ns):
            return None
        read_ns = now_ns if offset_ns is None else boot_ns - offset_ns
        return read_ns if now_ns - EARLIEST_NS <= read_ns <= now_ns + LATEST_NS else now_ns

    def _is_news(self, name: str, boot_ns: int) -> bool:
        """Say whether a message is later than the last of its name, or of a new beginning; then it is the last."""
        newest_ns = self._newest_ns.get(name, -1)
        if newest_ns - COPY_NS < boot_ns <= newest_ns:
            return False
        self._newest_ns[name] = boot_ns
        return True

    def _boot_ns(self, boot_ms: int, now_ns: int) -> int:
        """Return a time since its start in ns, with the turns of 32 bits that its clock tells."""
        offset_ns = self.clock.offset_at(now_ns)
        expected_ms = (now_ns + offset_ns) // NS_PER_MS if offset_ns is not None else boot_ms
        turns = round((expected_ms - boot_ms) / TURN_MS)
        unrolled_ns = (boot_ms + turns * TURN_MS) * NS_PER_MS
        is_told = turns > 0 and abs(unrolled_ns - expected_ms * NS_PER_MS) < COPY_NS
        return unrolled_ns if is_told else boot_ms * NS_PER_MS
