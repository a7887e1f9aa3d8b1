"""MAVLink over UDP: to one peer (`udpout`), or to whoever sent us frames lately (`udpin`)."""

import logging
import select
import socket

from edge.clock import Clock
from edge.mavlink.ports.hosts import Host, SocketAddress, listening_socket
from edge.mavlink.ports.transport import READ_AT_ONCE_BYTES, NetworkAddress, TransportCounts

log = logging.getLogger(__name__)

MAX_CLIENTS = 8
CLIENT_EXPIRY_NS = 10_000_000_000
"""A ground station sends a heartbeat a second; one that was silent for longer than this is gone."""
READ_BYTES = 4096
ASK_AGAIN_NS = 10_000_000_000
"""So long a peer is not heard until its name is asked for, and again and again."""


class _Udp:
    """A non-blocking UDP socket that counts; absent while nobody knows where the peer is."""

    def __init__(self, link: str, sock: socket.socket | None = None) -> None:
        self.counts = TransportCounts()
        self._link = link
        self._socket = sock
        self._told = ""
        """Why nothing could be sent, as far as people know."""

    @property
    def name(self) -> str:
        """The link as a configuration writes it."""
        return self._link

    @property
    def is_open(self) -> bool:
        """Whether there is a socket."""
        return self._socket is not None

    def wait(self, timeout_s: float) -> None:
        """Return when something arrived, or after `timeout_s`."""
        select.select([] if self._socket is None else [self._socket], [], [], timeout_s)

    def close(self) -> None:
        """Give the port back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send_to(self, frame: bytes, address: SocketAddress) -> None:
        if self._socket is None:
            self.counts.frames_dropped += 1
            return
        try:
            self._socket.sendto(frame, address)
            self.counts.frames_sent += 1
        except BlockingIOError:
            self.counts.frames_dropped += 1
        except OSError as error:
            self.counts.frames_dropped += 1
            self._tell(error)

    def _tell(self, error: OSError) -> None:
        """Say why nothing can be sent, each time that it is for another reason."""
        why = (error.strerror or str(error)).lower()
        if why != self._told:
            self._told = why
            log.warning("link %s: not sent (%s): look at the network; trying on", self._link, why)

    def _datagrams(self) -> list[tuple[SocketAddress, bytes]]:
        found: list[tuple[SocketAddress, bytes]] = []
        size = 0
        while self._socket is not None and size < READ_AT_ONCE_BYTES:
            try:
                data, address = self._socket.recvfrom(READ_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                log.debug("link %s: not received: %s", self._link, error)
                break
            size += max(len(data), 1)
            found.append((address, data))
        return found


class UdpClient(_Udp):
    """`udpout`: sends to one address and hears only that one."""

    def __init__(self, link: str, address: NetworkAddress, clock: Clock) -> None:
        super().__init__(link)
        self._host = Host(link, address, socket.SOCK_DGRAM, clock)
        self._clock = clock
        self._sought_ns = clock.now_ns()
        """When the peer was heard, or asked for because it was not."""
        self._is_stranger_told = False
        self._peer()

    def welcome(self, peer: str, *, is_proven: bool) -> None:
        """Do nothing: the one peer hears everything."""

    def reopen(self) -> None:
        """Ask anew where the peer is, where it has a name."""
        self._host.ask()

    def send(self, frame: bytes) -> None:
        """Send one frame, or count it as dropped."""
        self._send_to(frame, self._peer())

    def receive(self) -> list[tuple[str, bytes]]:
        """Return the datagrams of the one peer that arrived since the last call."""
        peer = self._peer()
        found = self._datagrams()
        ours = [(peer_name(address), data) for address, data in found if address[:2] == peer[:2]]
        strangers = [address for address, _ in found if address[:2] != peer[:2]]
        self.counts.refused += len(strangers)
        if strangers and not self._is_stranger_told:
            self._is_stranger_told = True
            log.warning(
                "link %s: datagrams of %s are not heard, only those of its one peer: name that address, or use udpin",
                self._link, peer_name(strangers[0]),
            )  # fmt: skip
        self._look_for_peer(is_heard=bool(ours))
        return ours

    def _look_for_peer(self, *, is_heard: bool) -> None:
        """Ask anew where a peer is that is not heard, where it has a name: it may have moved, now or in an hour."""
        now_ns = self._clock.now_ns()
        if not is_heard and now_ns - self._sought_ns < ASK_AGAIN_NS:
            return
        self._sought_ns = now_ns
        if not is_heard:
            self._host.ask()

    def _peer(self) -> SocketAddress:
        """Return where the peer is now, with a socket for it; nothing while that is not known."""
        place = self._host.poll()
        if place is None:
            return ()
        if self._socket is None or self._socket.family != place[0]:
            self.close()
            try:
                self._socket = socket.socket(place[0], socket.SOCK_DGRAM)
                self._socket.setblocking(False)
            except OSError as error:  # no IPv6 here, or no descriptors left
                self._tell(error)
        return place[1]


class UdpServer(_Udp):
    """`udpin`: waits at an address; whoever sent frames there lately that count gets every frame.

    Anybody's bytes are read, but only those who are welcome are answered: noise from many addresses takes nobody's
    place, and a false address of a sender makes us send to nobody who did not ask.
    """

    def __init__(self, link: str, address: NetworkAddress, clock: Clock) -> None:
        sock = listening_socket(link, address, socket.SOCK_DGRAM)
        super().__init__(link, sock)
        self.port = int(sock.getsockname()[1])
        """Where it listens: tells the port that `udpin:HOST:0` was given."""
        self._clock = clock
        self._heard_ns: dict[SocketAddress, int] = {}
        self._unproven: set[SocketAddress] = set()
        self._senders: dict[str, SocketAddress] = {}

    @property
    def clients(self) -> int:
        """How many peers hear us."""
        self._expire()
        return len(self._heard_ns)

    def reopen(self) -> None:
        """Do nothing: peers come by themselves."""

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
        if address is None:  # it is judged by bytes of an earlier call
            return
        self._expire()
        if is_proven and self._unproven and len(self._heard_ns) >= MAX_CLIENTS and address not in self._heard_ns:
            self._forget(next(iter(self._unproven)))
        if address not in self._heard_ns and len(self._heard_ns) >= MAX_CLIENTS:
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


def peer_name(address: SocketAddress) -> str:
    """Return how a peer is called."""
    return f"{address[0]}:{address[1]}"
