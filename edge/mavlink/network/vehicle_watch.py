"""Looks for an autopilot at the other end of a link, of which faults have made what is sent."""

import logging
from collections.abc import Sequence
from typing import Any

from pymavlink.dialects.v20 import common

from edge.mavlink.wire.frames import FrameCounts, FrameParser

log = logging.getLogger(__name__)

MAX_PARSERS = 32


class VehicleWatch:
    """Says from when on nothing may be sent on one link: once it may not, it may not for the rest of the flight.

    Args:
        link: as a configuration writes it.
        is_vehicle_safe: whether somebody has said that an autopilot may hear of the faults; an armed one never may.
    """

    def __init__(self, link: str, *, is_vehicle_safe: bool) -> None:
        self.why = ""
        """Why nothing may be sent; empty while something may."""
        self._link = link
        self._is_vehicle_safe = is_vehicle_safe
        self._parsers: dict[str, FrameParser] = {}

    def look(self, arrived: Sequence[tuple[str, bytes]]) -> None:
        """Take what arrived, each with the peer that it came from. A signature is not asked for."""
        for peer, data in () if self.why else arrived:
            if peer not in self._parsers and len(self._parsers) >= MAX_PARSERS:
                self._parsers.clear()
            for message in self._parsers.setdefault(peer, FrameParser(FrameCounts())).feed(data):
                self._look_at(message)

    def _look_at(self, message: Any) -> None:
        if message.get_type() != "HEARTBEAT" or message.autopilot == common.MAV_AUTOPILOT_INVALID or self.why:
            return
        is_armed = bool(message.base_mode & common.MAV_MODE_FLAG_SAFETY_ARMED)
        if self._is_vehicle_safe and not is_armed:
            return
        self.why = f"{'an armed autopilot' if is_armed else 'an autopilot'} is heard, system {message.get_srcSystem()}"
        log.critical(
            "link %s: %s, and faults are injected into this flight: NOTHING MORE IS SENT on this link until its end;"
            " let no vehicle be there, or disarm it and say --faults-reach-vehicle where nothing can be harmed",
            self._link, self.why,
        )  # fmt: skip
