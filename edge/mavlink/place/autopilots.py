"""What autopilots say of the time and of the vehicle's motion, each link and each autopilot by itself.

An autopilot is who sends a HEARTBEAT with an autopilot type. Nothing is asked of anybody else, and what others say of
time, position and attitude is not heard. Where one has proven who it is, by a signature or by being on a wire, what
is not proven moves nobody any more: neither in its name, nor as another autopilot, even after it has fallen silent.
"""

from typing import Any

from pymavlink.dialects.v20 import common

from edge.mavlink.network.link import Received
from edge.mavlink.network.link_state import LATE_NS
from edge.mavlink.pace import NS_PER_S, Allowance
from edge.mavlink.place.autopilot import Autopilot
from edge.mavlink.place.timesync import HOLD_NS

GONE_NS = 10 * NS_PER_S
MAX_AUTOPILOTS = 8
"""On one link."""
ANSWERS_HZ = 20.0
"""Most questions of others for our time that are answered on one link."""
RANKED_NS = NS_PER_S // 10
"""So long it holds which is the best, unless something is heard that tells."""
MUCH_FASTER = 2
"""Of two links to one autopilot the other is taken only where its round trip is so much shorter."""
_TELLING = frozenset({"TIMESYNC", "SYSTEM_TIME"})

Key = tuple[int, int, int]
"""Link, system and component."""


class Autopilots:
    """All that are heard, on all links. Knows no socket and no clock.

    Args:
        system_id: ours: the autopilot that has it is the vehicle's; where none was for long, the only one there is.
        gimbal: device that counts; None: the first one that is heard.
    """

    def __init__(self, system_id: int, gimbal: int | None = None) -> None:
        self._system_id = system_id
        self._gimbal = gimbal
        self._known: dict[Key, Autopilot] = {}
        self._answers: list[tuple[int, Any]] = []
        self._allowances: dict[tuple[int, bool], Allowance] = {}
        self._ranked: list[Key] = []
        self._ranked_ns: int | None = None
        self._last: Key | None = None
        """Who was ours when anybody was."""

    def on_received(self, link: int, item: Received, now_ns: int) -> None:
        """Take a message of a link."""
        key = (link, item.system_id, item.component_id)
        if item.name == "HEARTBEAT" and item.message.autopilot != common.MAV_AUTOPILOT_INVALID:
            self._note(key, now_ns, is_proven=item.is_proven)
        elif item.name == "TIMESYNC" and item.message.tc1 == 0:
            self._answer(link, item, now_ns)
        elif not self.believes(link, item):
            return
        elif item.name == "GIMBAL_DEVICE_ATTITUDE_STATUS":
            self._on_gimbal(key, item.message, now_ns)
        elif key in self._known:
            self._known[key].on_message(item.name, item.message, now_ns)
            if item.name in _TELLING:
                self._ranked_ns = None

    def believes(self, link: int, item: Received) -> bool:
        """Say whether a message may be of its vehicle: it is proven, or its autopilot on that link is not either."""
        autopilots = (one for key, one in self._known.items() if key[:2] == (link, item.system_id))
        return item.is_proven or not any(autopilot.is_proven for autopilot in autopilots)

    def take(self, now_ns: int) -> list[tuple[int, Any]]:
        """Return what is to be sent now, each with its link: questions and answers about the time.

        Only the vehicle's autopilot is asked, on each link where it is heard.
        """
        messages, self._answers = self._answers, []
        for key in self._ranking(now_ns):
            ts1 = self._known[key].clock.question(now_ns)
            if ts1 is not None:
                messages.append((key[0], common.MAVLink_timesync_message(tc1=0, ts1=ts1)))
        return messages

    def is_waiting_at(self, now_ns: int) -> bool:
        """Say whether an answer about the time may come any moment, so that it must be read without delay."""
        return any(autopilot.clock.is_waiting_at(now_ns) for autopilot in self._known.values())

    def ours(self, now_ns: int) -> Autopilot | None:
        """Return the vehicle's autopilot, by the link that tells its time best; None while nobody knows which it is."""
        return next(iter(self.all_ours(now_ns)), None)

    def all_ours(self, now_ns: int) -> list[Autopilot]:
        """Return the vehicle's autopilot by each link where it is heard, the best first."""
        return [self._known[key] for key in self._ranking(now_ns)]

    def timekeeper(self, now_ns: int) -> Autopilot | None:
        """Return who tells the vehicle's time: its autopilot, and that same one for a while after it fell silent."""
        ours, last = self.ours(now_ns), self._known.get(self._last) if self._last is not None else None
        if ours is not None or last is None:
            return ours
        is_gone = now_ns - last.heard_ns > GONE_NS
        return last if is_gone and last.is_proven >= self._is_any_proven() else None

    def ours_key(self, now_ns: int) -> Key | None:
        """Return the link, system and component of the vehicle's autopilot; None while nobody knows which it is."""
        return next(iter(self._ranking(now_ns)), None)

    def _ranking(self, now_ns: int) -> list[Key]:
        if self._ranked_ns is None or not 0 <= now_ns - self._ranked_ns < RANKED_NS:
            self._ranked, self._ranked_ns = self._rank(now_ns), now_ns
            self._last = self._ranked[0] if self._ranked else self._last
        return self._ranked

    def _rank(self, now_ns: int) -> list[Key]:
        """Return who is the vehicle's autopilot: whose clock is known, who is not late, who answers fast, first."""
        is_proven = self._is_any_proven()
        known = [key for key, autopilot in self._known.items() if autopilot.is_proven >= is_proven]
        present = [key for key in known if now_ns - self._known[key].heard_ns <= GONE_NS]
        ours = [key for key in present if key[1] == self._system_id]
        is_awaited = any(key[1] == self._system_id and now_ns - self._known[key].heard_ns <= HOLD_NS for key in known)
        if not ours and not is_awaited and len({key[1] for key in present}) == 1:
            ours = present
        chosen = self._ranked[0] if self._ranked else None

        def rank(key: Key) -> tuple[object, ...]:
            autopilot = self._known[key]
            is_late, is_locked = now_ns - autopilot.heard_ns > LATE_NS, autopilot.clock.is_locked_at(now_ns)
            rtt_ns = autopilot.clock.rtt_ns * (1 if key == chosen else MUCH_FASTER) if is_locked else 0
            is_other = key[2] != common.MAV_COMP_ID_AUTOPILOT1
            return not is_locked, is_late, is_other, rtt_ns, key != chosen, key

        return sorted(ours, key=rank)

    def _is_any_proven(self) -> bool:
        return any(autopilot.is_proven for autopilot in self._known.values())

    def _on_gimbal(self, key: Key, message: Any, now_ns: int) -> None:
        device = message.gimbal_device_id or key[2]
        for other, autopilot in self._known.items():
            if other[:2] == key[:2] and self._gimbal in (None, device):
                autopilot.on_gimbal(message, (key[2], device), now_ns, is_own=other == key)

    def _note(self, key: Key, now_ns: int, *, is_proven: bool) -> None:
        """Take notice of an autopilot's heartbeat; what one is known by that proves itself now may have been forged."""
        known = self._known.get(key)
        if known is not None and known.is_proven and not is_proven:
            return
        if known is None and not self._has_room(key, now_ns, is_proven=is_proven):
            return
        if known is None or known.is_proven != is_proven:
            self._known[key] = Autopilot(now_ns, is_proven=is_proven)
            self._ranked_ns = None
        if now_ns - self._known[key].heard_ns > LATE_NS:
            self._ranked_ns = None
        self._known[key].heard_ns = now_ns

    def _has_room(self, key: Key, now_ns: int, *, is_proven: bool) -> bool:
        """Say whether one more has room on its link; for it goes who is gone, less proven, or of another system."""
        here = {other: autopilot for other, autopilot in self._known.items() if other[0] == key[0]}
        if len(here) < MAX_AUTOPILOTS:
            return True
        for other, autopilot in sorted(here.items(), key=lambda entry: entry[1].is_proven):
            is_gone = now_ns - autopilot.heard_ns > GONE_NS or other[1] != self._system_id == key[1]
            if autopilot.is_proven < is_proven or (is_gone and autopilot.is_proven == is_proven):
                del self._known[other]
                return True
        return False

    def _answer(self, link: int, item: Received, now_ns: int) -> None:
        """Answer a question for our time; those that are not proven have answers of their own to use up."""
        if self._allowances.setdefault((link, item.is_proven), Allowance(ANSWERS_HZ, 1.0)).take(now_ns):
            self._answers.append((link, common.MAVLink_timesync_message(tc1=now_ns, ts1=item.message.ts1)))
