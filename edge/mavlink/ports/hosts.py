"""Where a host is. A name server may take half a minute to say that it does not know, so names are asked for aside."""

import errno
import logging
import socket
from typing import Any

from edge.clock import Clock
from edge.mavlink.ports.aside import Aside
from edge.mavlink.ports.backoff import Backoff
from edge.mavlink.ports.transport import NetworkAddress
from models.errors import LinkError

log = logging.getLogger(__name__)

BACKLOG = 16
"""Of those who connect at once."""
SocketAddress = tuple[Any, ...]
"""As the socket module has it: host and port first, two more for IPv6."""
Place = tuple[int, SocketAddress]
"""Family and address of a socket."""


def find(address: NetworkAddress, kind: socket.SocketKind, flags: int = 0) -> Place:
    """Return where a host is, by IPv4 where it has both; may wait for the network.

    Raises:
        OSError: there is no such host.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=kind, flags=flags)
    except UnicodeError as error:
        raise OSError(socket.EAI_NONAME, "not a name") from error
    family, _, _, _, place = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, place


def listening_socket(link: str, address: NetworkAddress, kind: socket.SocketKind) -> socket.socket:
    """Return a non-blocking socket that waits at an address of this machine.

    Raises:
        LinkError: there is no such address here, or another program has it.
    """
    try:
        family, place = find(address, kind)
    except OSError as error:
        raise LinkError(f"link {link}: host {address.host} not found ({error}): check the name") from error
    try:
        return _bound(family, kind, place)
    except OSError as error:
        remedy = "name another port" if error.errno == errno.EADDRINUSE else "name an address of this machine"
        why = error.strerror or str(error)
        raise LinkError(f"link {link}: cannot listen there ({why}): {remedy}, or stop what uses it") from error


def _bound(family: int, kind: socket.SocketKind, place: SocketAddress) -> socket.socket:
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(place)
        if kind == socket.SOCK_STREAM:
            sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


class Host:
    """Where one host is: known at once where it is a number, else as soon as a name server says so.

    Args:
        link: as a configuration writes it.
        address: of the host.
        kind: of socket.
        clock: of pauses.
    """

    def __init__(self, link: str, address: NetworkAddress, kind: socket.SocketKind, clock: Clock) -> None:
        self.place: Place | None = None
        """As far as it is known."""
        self._link = link
        self._address = address
        self._kind = kind
        self._clock = clock
        self._asking: Aside[Place] = Aside("host name")
        self._backoff = Backoff()
        self._is_absence_told = False
        self._is_name = False
        try:
            self.place = find(address, kind, 0 if address.host == "localhost" else socket.AI_NUMERICHOST)
        except OSError:
            self._is_name = True
            self.ask()

    def ask(self) -> None:
        """Ask anew: a host that is not heard may have moved. Until there is an answer the last one counts."""
        if self._is_name and not self._asking.is_busy:
            self._backoff.begin(self._clock.now_ns())
            self._asking.begin(lambda: find(self._address, self._kind))

    def poll(self) -> Place | None:
        """Return where it is, None while that is not known; call often."""
        try:
            found = self._asking.take()
        except OSError as error:
            self._tell(error)
            found = None
        if found is not None:
            self.place, self._is_absence_told = found, False
            self._backoff.succeed()
        elif self.place is None and self._backoff.is_due(self._clock.now_ns()):
            self.ask()
        return self.place

    def wait(self, timeout_s: float) -> None:
        """Wait for an answer, for so long at most."""
        self._asking.wait(timeout_s)

    def _tell(self, error: OSError) -> None:
        if not self._is_absence_told and self.place is None:
            self._is_absence_told = True
            log.warning(
                "link %s: host %s not found (%s): check the name, and the network; asking again",
                self._link, self._address.host, error.strerror or error,
            )  # fmt: skip
