"""What autopilots say of the time and of the vehicle's motion, each link and each autopilot by itself.

An autopilot is who sends a HEARTBEAT with an autopilot type. Nothing is asked of anybody else, and what others say of
time, position and attitude is not heard.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pymavlink.dialects.v20 import common

from edge.mavlink import rotation
from edge.mavlink.link import Received
from edge.mavlink.pace import NS_PER_S, Allowance
from edge.mavlink.pose import Direction, Place, Track
from edge.mavlink.timesync import TimeSync

log = logging.getLogger(__name__)

NS_PER_MS = 1_000_000
NS_PER_US = 1_000
GONE_NS = 10 * NS_PER_S
MAX_AUTOPILOTS = 8
ANSWERS_HZ = 20.0
"""Most questions of others for our time that are answered on one link."""
FIRST_UTC_US, LAST_UTC_US = 1_577_836_800_000_000, 4_102_444_800_000_000
"""2020 to 2100: outside of these an autopilot does not know the date."""
UTC_READINGS = 8
UTC_JUMP_NS = 100 * NS_PER_MS
EARLIEST_NS, LATEST_NS = NS_PER_S, 5 * NS_PER_MS
"""A reading's time by the autopilot's clock is believed where it lies so little before, or after, its arrival."""
_IN_VEHICLE_FRAME = common.GIMBAL_DEVICE_FLAGS_YAW_IN_VEHICLE_FRAME
_IN_EARTH_FRAME = common.GIMBAL_DEVICE_FLAGS_YAW_IN_EARTH_FRAME
_YAW_LOCK = common.GIMBAL_DEVICE_FLAGS_YAW_LOCK


class CaptureTime(NamedTuple):
    """A moment as it is written into messages."""

    time_us: int
    is_synced: bool
    """Whether it is UTC or the autopilot's time; else it counts from the start of this computer."""


class Autopilot:
    """One autopilot on one link: its clock against ours, and the vehicle's motion."""

    def __init__(self, now_ns: int) -> None:
        self.clock = TimeSync(now_ns)
        self.track = Track()
        self.heard_ns = now_ns
        self._boot_ms = 0
        self._utc_ns: deque[int] = deque(maxlen=UTC_READINGS)
        """UTC minus the autopilot's time; each is up to 1 ms too much, because that is told in whole ms."""
        self._readers: dict[str, Callable[[Any, int], object]] = {
            "TIMESYNC": self._on_timesync,
            "SYSTEM_TIME": self._on_system_time,
            "ATTITUDE": self._on_attitude,
            "GLOBAL_POSITION_INT": self._on_position,
        }

    def on_message(self, name: str, message: Any, now_ns: int) -> None:
        """Take a message of it."""
        reader = self._readers.get(name)
        if reader is not None:
            reader(message, now_ns)

    def on_gimbal(self, message: Any, now_ns: int, *, is_own: bool) -> None:
        """Take the attitude of the vehicle's gimbal; one that is another component (not own) has another clock."""
        turned = rotation.normalised(*message.q)
        if turned is not None:
            is_to_vehicle = bool(message.flags & _IN_VEHICLE_FRAME)
            if not message.flags & (_IN_VEHICLE_FRAME | _IN_EARTH_FRAME):  # an older device: it says what it holds
                is_to_vehicle = not message.flags & _YAW_LOCK
            read_ns = self._read_ns(message.time_boot_ms, now_ns) if is_own else now_ns
            self.track.gimbal.add(read_ns, Direction(turned, is_to_vehicle))

    def time_of(self, at_ns: int, now_ns: int) -> CaptureTime | None:
        """Return a moment of our clock as UTC, or as its own time where it does not know that; None until locked."""
        offset_ns = self.clock.offset_at(now_ns)
        if offset_ns is None:
            return None
        utc_ns = min(self._utc_ns, default=0)
        return CaptureTime(max(at_ns + offset_ns + utc_ns, 0) // NS_PER_US, True)

    def _on_timesync(self, message: Any, now_ns: int) -> None:
        self.clock.on_answer(message.tc1, message.ts1, now_ns)

    def _on_system_time(self, message: Any, now_ns: int) -> None:
        if message.time_boot_ms < self._boot_ms:
            log.warning("the autopilot restarted, after %d s: its time is asked for anew", self._boot_ms // 1000)
            self.clock.restart(now_ns)
            self.track = Track()
            self._utc_ns.clear()
        self._boot_ms = message.time_boot_ms
        if FIRST_UTC_US <= message.time_unix_usec < LAST_UTC_US:
            utc_ns = message.time_unix_usec * NS_PER_US - message.time_boot_ms * NS_PER_MS
            if self._utc_ns and abs(utc_ns - self._utc_ns[-1]) > UTC_JUMP_NS:
                self._utc_ns.clear()
            self._utc_ns.append(utc_ns)
        else:
            self._utc_ns.clear()

    def _on_attitude(self, message: Any, now_ns: int) -> None:
        read_ns = self._read_ns(message.time_boot_ms, now_ns)
        self.track.add_angles(read_ns, message.roll, message.pitch, message.yaw)

    def _on_position(self, message: Any, now_ns: int) -> None:
        place = Place(message.lat / 1e7, message.lon / 1e7, message.alt / 1e3, message.relative_alt / 1e3)
        self.track.add_place(self._read_ns(message.time_boot_ms, now_ns), place)

    def _read_ns(self, boot_ms: int, now_ns: int) -> int:
        """Return when a reading was made, by our clock: its arrival where the autopilot's clock does not tell."""
        offset_ns = self.clock.offset_at(now_ns)
        read_ns = now_ns if offset_ns is None else boot_ms * NS_PER_MS - offset_ns
        return read_ns if now_ns - EARLIEST_NS <= read_ns <= now_ns + LATEST_NS else now_ns


class Autopilots:
    """All that are heard, on all links. Knows no socket and no clock.

    Args:
        system_id: ours: the autopilot that has it is the vehicle's; else the only one that there is.
    """

    def __init__(self, system_id: int) -> None:
        self._system_id = system_id
        self._known: dict[tuple[int, int, int], Autopilot] = {}
        """By link, system and component."""
        self._answers: list[tuple[int, Any]] = []
        self._allowances: dict[int, Allowance] = {}

    def on_received(self, link: int, item: Received, now_ns: int) -> None:
        """Take a message of a link."""
        key = (link, item.system_id, item.component_id)
        if item.name == "HEARTBEAT" and item.message.autopilot != common.MAV_AUTOPILOT_INVALID:
            self._note(key, now_ns)
        elif item.name == "TIMESYNC" and item.message.tc1 == 0:
            self._answer(link, item.message.ts1, now_ns)
        elif item.name == "GIMBAL_DEVICE_ATTITUDE_STATUS":
            for other, autopilot in self._known.items():
                if other[:2] == key[:2]:
                    autopilot.on_gimbal(item.message, now_ns, is_own=other == key)
        elif key in self._known:
            self._known[key].on_message(item.name, item.message, now_ns)

    def take(self, now_ns: int) -> list[tuple[int, Any]]:
        """Return what is to be sent now, each with its link: questions and answers about the time."""
        messages, self._answers = self._answers, []
        for (link, _, _), autopilot in self._present(now_ns):
            ts1 = autopilot.clock.question(now_ns)
            if ts1 is not None:
                messages.append((link, common.MAVLink_timesync_message(tc1=0, ts1=ts1)))
        return messages

    def is_waiting_at(self, now_ns: int) -> bool:
        """Say whether an answer about the time may come any moment, so that it must be read without delay."""
        return any(autopilot.clock.is_waiting_at(now_ns) for autopilot in self._known.values())

    def ours(self, now_ns: int) -> Autopilot | None:
        """Return the vehicle's autopilot, by the link that tells its time; None while nobody knows which it is."""
        key = self.ours_key(now_ns)
        return self._known[key] if key is not None else None

    def ours_key(self, now_ns: int) -> tuple[int, int, int] | None:
        """Return the link, system and component of the vehicle's autopilot; None while nobody knows which it is."""
        present = list(self._present(now_ns))
        ours = [(key, autopilot) for key, autopilot in present if key[1] == self._system_id]
        if not ours and len({key[1] for key, _ in present}) == 1:
            ours = present
        ours.sort(key=lambda entry: (not entry[1].clock.is_locked_at(now_ns), entry[0]))
        return ours[0][0] if ours else None

    def _present(self, now_ns: int) -> Iterator[tuple[tuple[int, int, int], Autopilot]]:
        return (entry for entry in self._known.items() if now_ns - entry[1].heard_ns <= GONE_NS)

    def _note(self, key: tuple[int, int, int], now_ns: int) -> None:
        if key not in self._known and len(self._known) >= MAX_AUTOPILOTS:
            gone = [other for other, autopilot in self._known.items() if now_ns - autopilot.heard_ns > GONE_NS]
            if not gone:
                return
            del self._known[gone[0]]
        self._known.setdefault(key, Autopilot(now_ns)).heard_ns = now_ns

    def _answer(self, link: int, ts1: int, now_ns: int) -> None:
        if self._allowances.setdefault(link, Allowance(ANSWERS_HZ, 1.0)).take(now_ns):
            self._answers.append((link, common.MAVLink_timesync_message(tc1=now_ns, ts1=ts1)))
