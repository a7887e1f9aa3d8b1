"""A vehicle that somebody attacks who has no key: its links, and what they are sent."""

from typing import Any

import mavlink_samples as samples
from fake_autopilot import MS, S
from mavlink_vehicle import OURS
from pymavlink.dialects.v20 import common
from signatures import NOW, plain, signed, signing

from edge.clock import VirtualClock
from edge.mavlink.network.link import Link
from edge.mavlink.place.whereabouts import Whereabouts
from edge.mavlink.trust.security import Security
from edge.mavlink.wire.frames import MESSAGES


class Air:
    """Links, each with what it demands, and what is made of time and place."""

    def __init__(self, *securities: Security) -> None:
        self.clock = VirtualClock(S)
        self.ports = [samples.FakeTransport() for _ in securities]
        self.links = [
            Link(port, *OURS, self.clock, security) for port, security in zip(self.ports, securities, strict=True)
        ]
        self.whereabouts = Whereabouts(1)
        self._time = NOW

    def hear(self, number: int, *messages: Any, sender: tuple[int, int] = (1, 1), is_signed: bool = False) -> None:
        """Let messages arrive on a link, 10 ms later."""
        self.clock.advance_to(self.clock.now_ns() + 10 * MS)
        for message in messages:
            self._time += 1
            frame = signed(message, self._time, sender=sender) if is_signed else plain(message, sender)
            self.ports[number].incoming.append(("peer", frame))
        self.whereabouts.on_received(number, self.links[number].receive(), self.clock.now_ns())

    @property
    def key(self) -> tuple[int, int, int] | None:
        """Link, system and component of the vehicle's autopilot."""
        return self.whereabouts.autopilots.ours_key(self.clock.now_ns())

    @property
    def latitude_deg(self) -> float | None:
        """Of the vehicle."""
        now_ns = self.clock.now_ns()
        autopilot = self.whereabouts.autopilots.ours(now_ns)
        found = autopilot.track.places.at(now_ns) if autopilot is not None else None
        return None if found is None else float(found.value.latitude_deg)


def keyed(**demands: Any) -> Security:
    return Security(**({"require_signed": "commands", "signing": signing()} | demands))


def at_us(number: int) -> Any:
    """Return a message of an id that is addressed to us where it can be, and sets a parameter where it can."""
    kind = MESSAGES[number]
    named = {"target_system": OURS[0], "target_component": OURS[1], "param_type": common.MAV_PARAM_TYPE_REAL32}
    values: dict[str, Any] = {}
    for name, field_type in zip(kind.fieldnames, kind.fieldtypes, strict=True):
        count = kind.array_lengths[kind.ordered_fieldnames.index(name)]
        number_or_numbers = [1] * count if count else named.get(name, 1)
        values[name] = b"FUS_RATE_HZ"[: count or 1] if field_type == "char" else number_or_numbers
    return kind(**values)
