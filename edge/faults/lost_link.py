"""A MAVLink port of a flight with faults: carries nothing while `link:loss` lasts, and nothing to an autopilot."""

import dataclasses

from edge.faults.fault import LINK_LOSS
from edge.faults.heartbeats import Heartbeats
from edge.faults.orders import Orders
from edge.mavlink.network.vehicle_watch import VehicleWatch
from edge.mavlink.ports.transport import Transport, TransportCounts


class LostLink:
    """A transport that loses what goes through another one, and falls silent where an autopilot is heard."""

    def __init__(self, transport: Transport, orders: Orders, *, is_vehicle_safe: bool = False) -> None:
        """Take the port, the faults of the flight, and whether an autopilot that is not armed may hear of them."""
        self._transport = transport
        self._orders = orders
        self._vehicle = VehicleWatch(transport.name, is_vehicle_safe=is_vehicle_safe)
        self._heartbeats = Heartbeats(link=transport.name)

    @property
    def counts(self) -> TransportCounts:
        """What became of what was to be sent: what is lost or held back counts as dropped."""
        return self._transport.counts

    @counts.setter
    def counts(self, counts: TransportCounts) -> None:
        self._transport.counts = counts

    @property
    def name(self) -> str:
        """The link as a configuration writes it."""
        return self._transport.name

    @property
    def is_open(self) -> bool:
        """Whether the port is there."""
        return self._transport.is_open

    def send(self, frame: bytes) -> None:
        """Send one frame, or lose it."""
        if self._vehicle.why or self._is_lost():
            self._transport.counts.frames_dropped += 1
            return
        before = dataclasses.replace(self._transport.counts)
        self._transport.send(frame)
        after = self._transport.counts
        is_lost = after.frames_dropped > before.frames_dropped  # neither, where nobody is there to take it
        if after.frames_sent > before.frames_sent or not is_lost:
            self._heartbeats.note(frame, self._orders.now_ns())

    def receive(self) -> list[tuple[str, bytes]]:
        """Return what arrived since the last call, or lose it."""
        arrived = self._transport.receive()
        self._vehicle.look(arrived)
        if self._vehicle.why and self._heartbeats.muted_ns is None:
            self._heartbeats.muted_ns = self._orders.now_ns()
        return [] if self._is_lost() else arrived

    def welcome(self, peer: str, *, is_proven: bool) -> None:
        """Take notice of a peer whose frames count."""
        self._transport.welcome(peer, is_proven=is_proven)

    def wait(self, timeout_s: float) -> None:
        """Return when something arrived, or after `timeout_s`."""
        self._transport.wait(timeout_s)

    def reopen(self) -> None:
        """Open the port anew where that can help."""
        self._transport.reopen()

    def close(self) -> None:
        """Give the port back, and tell of the heartbeats."""
        self._transport.close()
        self._heartbeats.write(self._orders.folder)

    def _is_lost(self) -> bool:
        return any(fault.name == LINK_LOSS for fault in self._orders.on_now())
