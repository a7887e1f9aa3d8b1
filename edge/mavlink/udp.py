"""MAVLink over UDP: to one peer (`udpout`), or to whoever sent us frames lately (`udpin`)."""

import errno
import logging
import select
import socket
from typing import Any

from edge.clock import Clock
from edge.mavlink.transport import NetworkAddress, TransportCounts
from models.errors import LinkError

log = logging.getLogger(__name__)

MAX_CLIENTS = 8
CLIENT_EXPIRY_NS = 10_000_000_000
"""A ground station sends a heartbeat a second; one that was silent for longer than this is gone."""
MAX_READS = 256
"""Datagrams taken in one call, so that a flood cannot hold up the caller."""
READ_BYTES = 4096
MAX_READ_BYTES = 65_536
"""Of one call: noise of the worst sort costs 2 us a byte."""

SocketAddress = tuple[Any, ...]
"""As the socket module has it: host and port first, two more for IPv6."""


class _Udp:
    """A non-blocking UDP socket that counts."""

    is_open = True

    def __init__(self, link: str, address: NetworkAddress) -> None:
        self.counts = TransportCounts()
        self._link = link
        family, self._address = resolve(link, address, socket.SOCK_DGRAM)
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    @property
    def name(self) -> str:
        """The link as a configuration writes it."""
        return self._link

    def wait(self, timeout_s: float) -> None:
        """Return when something arrived, or after `timeout_s`."""
        select.select([self._socket], [], [], timeout_s)

    def reopen(self) -> None:
        """Do nothing: a UDP socket is never lost."""

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()

    def _send_to(self, frame: bytes, address: SocketAddress) -> None:
        try:
            self._socket.sendto(frame, address)
            self.counts.frames_sent += 1
        except OSError as error:
            self.counts.frames_dropped += 1
            log.debug("link %s: not sent: %s", self._link, error)

    def _datagrams(self) -> list[tuple[SocketAddress, bytes]]:
        found: list[tuple[SocketAddress, bytes]] = []
        left = MAX_READ_BYTES
        while len(found) < MAX_READS and left > 0:
            try:
                data, address = self._socket.recvfrom(READ_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                log.debug("link %s: not received: %s", self._link, error)
                break
            found.append((address, data))
            left -= len(data)
        return found


class UdpClient(_Udp):
    """`udpout`: sends to one address and hears only that one."""

    def welcome(self, peer: str, *, is_proven: bool) -> None:
        """Do nothing: the one peer hears everything."""

    def send(self, frame: bytes) -> None:
        """Send one frame, or count it as dropped."""
        self._send_to(frame, self._address)

    def receive(self) -> list[tuple[str, bytes]]:
        """Return the datagrams of the one peer that arrived since the last call."""
        found = self._datagrams()
        ours = [(peer_name(address), data) for address, data in found if address[:2] == self._address[:2]]
        self.counts.refused += len(found) - len(ours)
        return ours


class UdpServer(_Udp):
    """`udpin`: waits at an address; whoever sent frames there lately that count gets every frame.

    Anybody's bytes are read, but only those who are welcome are answered: noise from many addresses takes nobody's
    place, and a false address of a sender makes us send to nobody who did not ask.
    """

    def __init__(self, link: str, address: NetworkAddress, clock: Clock) -> None:
        super().__init__(link, address)
        self._clock = clock
        self._heard_ns: dict[SocketAddress, int] = {}
        self._unproven: set[SocketAddress] = set()
        self._senders: dict[str, SocketAddress] = {}
        try:
            self._socket.bind(self._address)
        except OSError as error:
            self._socket.close()
            remedy = "name another port" if error.errno == errno.EADDRINUSE else "name an address of this machine"
            why = error.strerror or str(error)
            raise LinkError(f"link {link}: cannot listen there ({why}): {remedy}, or stop what uses it") from error

    @property
    def port(self) -> int:
        """Where it listens: tells the port that `udpin:HOST:0` was given."""
        return int(self._socket.getsockname()[1])

    @property
    def clients(self) -> int:
        """How many peers hear us."""
        self._expire()
        return len(self._heard_ns)

    def send(self, frame: bytes) -> None:
        """Send one frame to each client; without any it is not counted."""
        self._expire()
        for address in self._heard_ns:
            self._send_to(frame, address)

    def receive(self) -> list[tuple[str, bytes]]:
        """Return the datagrams that arrived since the last call, whoever sent them."""
        received = [(address, peer_name(address), data) for address, data in self._datagrams()]
        self._senders = {peer: address for address, peer, _ in received}
        return [(peer, data) for _, peer, data in received]

    def welcome(self, peer: str, *, is_proven: bool) -> None:
        """Let a sender of the last call hear us for a while, unless there are too many already."""
        address = self._senders.get(peer)
        self._expire()
        if is_proven and self._unproven and len(self._heard_ns) >= MAX_CLIENTS and address not in self._heard_ns:
            self._forget(next(iter(self._unproven)))
        if address is None or (address not in self._heard_ns and len(self._heard_ns) >= MAX_CLIENTS):
            self.counts.refused += 1
            return
        if address not in self._heard_ns:
            log.info("link %s: %s is here", self._link, peer)
            self._unproven.add(address)
        if is_proven:
            self._unproven.discard(address)
        self._heard_ns[address] = self._clock.now_ns()

    def _expire(self) -> None:
        limit_ns = self._clock.now_ns() - CLIENT_EXPIRY_NS
        for address in [address for address, heard_ns in self._heard_ns.items() if heard_ns < limit_ns]:
            self._forget(address)
            log.info("link %s: %s is gone", self._link, peer_name(address))

    def _forget(self, address: SocketAddress) -> None:
        del self._heard_ns[address]
        self._unproven.discard(address)


def resolve(link: str, address: NetworkAddress, kind: socket.SocketKind) -> tuple[int, SocketAddress]:
    """Return the family and the socket address of a host, IPv4 where it has both.

    Raises:
        LinkError: no such host.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=kind)
    except (OSError, UnicodeError) as error:
        raise LinkError(f"link {link}: host {address.host} not found ({error}): check the name") from error
    family, _, _, _, place = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, place


def peer_name(address: SocketAddress) -> str:
    """Return how a peer is called."""
    return f"{address[0]}:{address[1]}"
