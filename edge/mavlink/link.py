"""One MAVLink 2 connection: who we are, our sequence numbers, and what arrives from the others."""

import logging
from dataclasses import dataclass
from typing import Any

from pymavlink.dialects.v20 import common

from edge.clock import Clock
from edge.mavlink.frames import FrameCounts, FrameParser
from edge.mavlink.serial_port import SerialPort
from edge.mavlink.transport import SerialAddress, Transport, parse_link
from edge.mavlink.udp import UdpClient, UdpServer

log = logging.getLogger(__name__)

MAX_PARSERS = 32
"""More peers than any transport keeps: beyond, unfinished frames of all are forgotten."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """One message of a peer."""

    system_id: int
    component_id: int
    sequence: int
    """Of the frame, counting all messages of that component up to 255, then from 0."""
    name: str
    message: Any
    """As pymavlink decodes it."""


class Link:
    """Sends and receives messages over a transport. For one thread."""

    def __init__(self, transport: Transport, system_id: int, component_id: int) -> None:
        self.transport = transport
        self.counts = FrameCounts()
        self._encoder = common.MAVLink(None, srcSystem=system_id, srcComponent=component_id)
        self._parsers: dict[str, FrameParser] = {}
        self._is_duplicate_told = False
        self._autopilots: set[int] = set()

    def send(self, message: Any) -> None:
        """Send one message of pymavlink to all peers. Never waits, never raises on what the port does."""
        frame = message.pack(self._encoder)
        self._encoder.seq = (self._encoder.seq + 1) % 256
        self.transport.send(frame)

    def receive(self) -> list[Received]:
        """Return the messages that arrived since the last call; what is none is counted."""
        received = []
        for peer, data in self.transport.receive():
            if peer not in self._parsers and len(self._parsers) >= MAX_PARSERS:
                self._parsers.clear()
            parser = self._parsers.setdefault(peer, FrameParser(self.counts))
            received += [_received(message) for message in parser.feed(data)]
        for item in received:
            if item.name == "HEARTBEAT":
                self._note_heartbeat(item)
        return received

    def close(self) -> None:
        """Give the port back."""
        self.transport.close()

    def _note_heartbeat(self, heartbeat: Received) -> None:
        system_id, component_id = self._encoder.srcSystem, self._encoder.srcComponent
        is_ours = (heartbeat.system_id, heartbeat.component_id) == (system_id, component_id)
        if is_ours and not self._is_duplicate_told:
            self._is_duplicate_told = True
            log.warning(
                "link %s: another sender calls itself system %d component %d too: give one of them another id",
                self.transport.name, system_id, component_id,
            )  # fmt: skip
        is_autopilot = heartbeat.message.autopilot != common.MAV_AUTOPILOT_INVALID
        if is_autopilot and heartbeat.system_id not in self._autopilots:
            self._autopilots.add(heartbeat.system_id)
            log.info("link %s: autopilot of system %d is here", self.transport.name, heartbeat.system_id)
            if heartbeat.system_id != system_id:
                log.warning(
                    "link %s: the autopilot is system %d, we are %d: set mavlink.system_id to %d to belong to it",
                    self.transport.name, heartbeat.system_id, system_id, heartbeat.system_id,
                )  # fmt: skip


def open_link(link: str, system_id: int, component_id: int, clock: Clock) -> Link:
    """Open the link that a string names.

    Raises:
        ConfigError: as `parse_link`.
        LinkError: the port cannot be opened.
    """
    address = parse_link(link)
    transport: Transport
    if isinstance(address, SerialAddress):
        transport = SerialPort(link, address, clock)
    elif address.is_listening:
        transport = UdpServer(link, address, clock)
    else:
        transport = UdpClient(link, address)
    return Link(transport, system_id, component_id)


def _received(message: Any) -> Received:
    return Received(
        system_id=message.get_srcSystem(),
        component_id=message.get_srcComponent(),
        sequence=message.get_seq(),
        name=message.get_type(),
        message=message,
    )
