"""MAVLink over TCP: to one server (`tcpout`), tried again for ever, or for whoever connects (`tcpin`).

TCP delivers late rather than never: what it holds back comes out, old, when a network is back. So little is kept here,
whole frames are left out when that is full, and a connection whose bytes nobody acknowledges is given up.
"""

import contextlib
import errno
import logging
import os
import select
import socket

from edge.clock import Clock
from edge.mavlink.ports.backoff import Backoff
from edge.mavlink.ports.hosts import Host, Place, listening_socket
from edge.mavlink.ports.transport import READ_AT_ONCE_BYTES, NetworkAddress, TransportCounts
from edge.mavlink.ports.udp import peer_name

log = logging.getLogger(__name__)

MAX_CLIENTS = 8
READ_BYTES = 16_384
"""Of one client in one call: noise of the worst sort costs 2 us a byte."""
MAX_BACKLOG_BYTES = 4096
SEND_BUFFER_BYTES = 16_384
UNACKNOWLEDGED_MS = 5_000


class _Connection:
    """A connected socket that never blocks."""

    def __init__(self, sock: socket.socket, peer: str) -> None:
        self.socket = sock
        self.peer = peer
        self.is_proven = False
        """Whether something came from it that counts."""
        self._backlog = b""

    def send(self, frame: bytes) -> bool:
        """Send a frame, the rest of it later where the peer is slow; say whether it goes at all.

        Raises:
            OSError: the connection is gone.
        """
        self.flush()
        if len(self._backlog) + len(frame) > MAX_BACKLOG_BYTES:
            return False
        self._backlog += frame
        self.flush()
        return True

    def flush(self) -> None:
        """Send what waits, as far as it goes now. Raises as `send`."""
        if not self._backlog:
            return
        with contextlib.suppress(BlockingIOError):
            self._backlog = self._backlog[self.socket.send(self._backlog) :]

    def read(self, most_bytes: int) -> bytes:
        """Return what arrived; nothing where nothing did. Raises as `send`."""
        try:
            data = self.socket.recv(most_bytes)
        except BlockingIOError:
            return b""
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "closed by the other side")
        return data


class TcpServer:
    """`tcpin`: waits at an address; whoever is connected gets every frame."""

    is_open = True

    def __init__(self, link: str, address: NetworkAddress) -> None:
        self.counts = TransportCounts()
        self._link = link
        self._listener = listening_socket(link, address, socket.SOCK_STREAM)
        self._clients: list[_Connection] = []

    @property
    def name(self) -> str:
        """The link as a configuration writes it."""
        return self._link

    @property
    def port(self) -> int:
        """Where it listens: tells the port that `tcpin:HOST:0` was given."""
        return int(self._listener.getsockname()[1])

    def send(self, frame: bytes) -> None:
        """Send one frame to each client; without any it is not counted."""
        for client in tuple(self._clients):
            try:
                is_sent = client.send(frame)
            except OSError as error:
                is_sent = False
                self._lose(client, error)
            self.counts.frames_sent += is_sent
            self.counts.frames_dropped += not is_sent

    def receive(self) -> list[tuple[str, bytes]]:
        """Return what the clients sent since the last call; newcomers become clients."""
        self._accept()
        received = []
        for client in tuple(self._clients):
            try:
                client.flush()
                if data := client.read(READ_BYTES):
                    received.append((client.peer, data))
            except OSError as error:
                self._lose(client, error)
        return received

    def welcome(self, peer: str, *, is_proven: bool) -> None:
        """Note who may stay when there are too many; whoever is connected hears everything."""
        for client in self._clients:
            client.is_proven = client.is_proven or (is_proven and client.peer == peer)

    def wait(self, timeout_s: float) -> None:
        """Return when something arrived, or after `timeout_s`."""
        select.select([self._listener, *(client.socket for client in self._clients)], [], [], timeout_s)

    def reopen(self) -> None:
        """Do nothing: clients come by themselves, and those that are gone are noticed by what they do not take."""

    def close(self) -> None:
        """Give the port back."""
        for client in self._clients:
            client.socket.close()
        self._clients.clear()
        self._listener.close()

    def _accept(self) -> None:
        for _ in range(MAX_CLIENTS):
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # gone again before it was accepted, or no descriptors left
                log.debug("link %s: not accepted: %s", self._link, error)
                return
            is_full = len(self._clients) >= MAX_CLIENTS
            self.counts.refused += is_full
            if is_full and not self._make_room():
                sock.close()
                continue
            try:
                _set_up(sock)
            except OSError as error:  # gone already
                log.debug("link %s: not accepted: %s", self._link, error)
                sock.close()
                continue
            self._clients.append(_Connection(sock, peer_name(address)))
            log.log(logging.DEBUG if is_full else logging.INFO, "link %s: %s is here", self._link, peer_name(address))

    def _make_room(self) -> bool:
        """End the oldest of the connections on which nothing came that counts; say whether there was one."""
        silent = next((client for client in self._clients if not client.is_proven), None)
        if silent is not None:
            silent.socket.close()
            self._clients.remove(silent)
        return silent is not None

    def _lose(self, client: _Connection, error: OSError) -> None:
        log.info("link %s: %s is gone (%s)", self._link, client.peer, error.strerror or error)
        client.socket.close()
        self._clients.remove(client)


class TcpClient:
    """`tcpout`: connects to one server, and again whenever that is lost; what is to be sent meanwhile is dropped."""

    def __init__(self, link: str, address: NetworkAddress, clock: Clock) -> None:
        self.counts = TransportCounts()
        self._link = link
        self._host = Host(link, address, socket.SOCK_STREAM, clock)
        self._clock = clock
        self._backoff = Backoff()
        self._attempt: socket.socket | None = None
        self._connection: _Connection | None = None
        self._is_absence_told = False
        self._connect()

    @property
    def name(self) -> str:
        """The link as a configuration writes it."""
        return self._link

    @property
    def is_open(self) -> bool:
        """Whether it is connected."""
        return self._connection is not None

    def send(self, frame: bytes) -> None:
        """Send one frame, or count it as dropped."""
        self._connect()
        is_sent = False
        try:
            is_sent = self._connection is not None and self._connection.send(frame)
        except OSError as error:
            self._lose(error)
        self.counts.frames_sent += is_sent
        self.counts.frames_dropped += not is_sent

    def receive(self) -> list[tuple[str, bytes]]:
        """Return what arrived since the last call."""
        self._connect()
        if self._connection is None:
            return []
        try:
            self._connection.flush()
            data = self._connection.read(READ_AT_ONCE_BYTES)
        except OSError as error:
            self._lose(error)
            return []
        if data:
            self._backoff.succeed()
            self._is_absence_told = False
        return [(self._link, data)] if data else []

    def welcome(self, peer: str, *, is_proven: bool) -> None:
        """Do nothing: whoever is connected hears everything."""

    def wait(self, timeout_s: float) -> None:
        """Return when something arrived, or after `timeout_s`."""
        connection, attempt = self._connection, self._attempt
        reading = [connection.socket] if connection is not None else []
        writing = [attempt] if attempt is not None else []
        select.select(reading, writing, [], timeout_s)

    def reopen(self) -> None:
        """Connect anew."""
        if self._connection is not None:
            self._lose(ConnectionResetError(errno.ETIMEDOUT, "nobody there"))

    def close(self) -> None:
        """Give the port back."""
        self._give_up()
        if self._connection is not None:
            self._connection.socket.close()
            self._connection = None

    def _connect(self) -> None:
        """Go on with connecting, as far as that goes without waiting."""
        if self._connection is not None:
            return
        now_ns, place = self._clock.now_ns(), self._host.poll()
        if self._attempt is None and place is not None and self._backoff.is_due(now_ns):
            self._backoff.begin(now_ns)
            self._begin(place)
        elif self._attempt is not None and _is_decided(self._attempt):
            self._finish(self._attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        elif self._attempt is not None and self._backoff.is_due(now_ns):  # nobody says even no
            self._finish(errno.ETIMEDOUT)

    def _begin(self, place: Place) -> None:
        try:
            self._attempt = socket.socket(place[0], socket.SOCK_STREAM)
            _set_up(self._attempt)
            number = self._attempt.connect_ex(place[1])
        except OSError as error:  # no IPv6 here, or no descriptors left
            number = error.errno or errno.EIO
        self._finish(number)

    def _finish(self, number: int) -> None:
        """Take what became of the attempt: an errno."""
        if number == errno.EINPROGRESS:
            return
        if not number and self._attempt is not None and _is_to_itself(self._attempt):
            number = errno.ECONNREFUSED
        if number or self._attempt is None:
            self._give_up()
            self._host.ask()
            self._tell(f"{os.strerror(number).lower()}: trying again for ever")
            return
        self._connection, self._attempt = _Connection(self._attempt, self._link), None
        log.info("link %s: connected", self._link)

    def _give_up(self) -> None:
        if self._attempt is not None:
            self._attempt.close()
            self._attempt = None

    def _lose(self, error: OSError) -> None:
        self._tell(f"lost ({error.strerror or error}): connecting again, for ever")
        self.close()
        self._host.ask()
        self._backoff.begin(self._clock.now_ns())

    def _tell(self, text: str) -> None:
        """Warn once, until the server has said something again."""
        if not self._is_absence_told:
            self._is_absence_told = True
            log.warning("link %s: %s", self._link, text)


def _set_up(sock: socket.socket) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


def _is_decided(attempt: socket.socket) -> bool:
    return bool(select.select([], [attempt], [], 0)[1])


def _is_to_itself(sock: socket.socket) -> bool:
    """Say whether the kernel chose the server's port for our end, and so connected us to ourselves.

    On one machine it does so where nobody listens, and who would listen there finds the port taken.
    """
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:
        return False
