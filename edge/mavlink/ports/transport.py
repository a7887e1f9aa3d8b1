"""What a link is to those who use it: an address, and a port that never blocks and, once open, never raises.

pymavlink's own connections are not used: they swallow socket errors, keep every UDP peer for ever and sleep inside
reads. What goes wrong in flight is counted here.
"""

import ipaddress
import re
import typing
from dataclasses import dataclass
from typing import Literal, Protocol, cast

from models.errors import ConfigError

NetworkKind = Literal["udpin", "udpout", "tcpin", "tcpout"]
LOOPBACK = "127.0.0.1"
READ_AT_ONCE_BYTES = 32_768
"""Taken from one link in one call, so that a flood holds up nobody: noise of the worst sort costs 2 us a byte."""
_FORMS = (
    "expected udpout:HOST:PORT, udpin:HOST:PORT, tcpout:HOST:PORT, tcpin:HOST:PORT, serial:DEVICE:BAUD or file:PATH"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkAddress:
    """A link over UDP or TCP: with `in` we wait for peers at the address, with `out` the peer is there."""

    kind: NetworkKind
    host: str
    port: int

    @property
    def is_listening(self) -> bool:
        """Whether we wait there for others."""
        return self.kind in ("udpin", "tcpin")

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this computer is there; who forwards what it hears may be one of its programs."""
        try:
            return ipaddress.ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True, kw_only=True, slots=True)
class SerialAddress:
    """A serial port."""

    device: str
    baud: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FileAddress:
    """A telemetry log to write."""

    path: str


@dataclass(kw_only=True, slots=True)
class TransportCounts:
    """What became of what was to be sent, and who was turned away."""

    frames_sent: int = 0
    """Handed to the system, once for each peer."""
    frames_dropped: int = 0
    """Not sent: the port was busy, closed, or unplugged."""
    refused: int = 0
    """Datagrams of strangers to `udpout`, and peers beyond those that there is room for, each time they come."""


class Transport(Protocol):
    """One open link."""

    counts: TransportCounts

    @property
    def name(self) -> str:
        """The link as a configuration writes it."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether the port is there; says nothing of who is at its other end."""
        ...

    def send(self, frame: bytes) -> None:
        """Send one frame to whoever is there, or count it as dropped."""
        ...

    def receive(self) -> list[tuple[str, bytes]]:
        """Return what arrived since the last call, each with the peer that it came from."""
        ...

    def welcome(self, peer: str, *, is_proven: bool) -> None:
        """Let a sender of the last call of `receive` hear us from now on.

        Args:
            peer: whom.
            is_proven: whether what it sent counts; else only while there is room.
        """
        ...

    def wait(self, timeout_s: float) -> None:
        """Return when something arrived, or after `timeout_s`."""
        ...

    def reopen(self) -> None:
        """Open the port anew where that can help: nobody was heard for long."""
        ...

    def close(self) -> None:
        """Give the port back."""
        ...


def parse_link(link: str) -> NetworkAddress | SerialAddress | FileAddress:
    """Return the address that a link string names.

    Raises:
        ConfigError: none of the forms, or a port or baud rate out of range.
    """
    kind, _, rest = link.partition(":")
    if kind == "file" and rest:
        return FileAddress(path=rest)
    place, _, number = rest.rpartition(":")
    if kind in ("udpin", "tcpin") and ":" not in rest:
        place = LOOPBACK
    is_known = kind == "serial" or kind in typing.get_args(NetworkKind)
    if not is_known or not place or not re.fullmatch(r"[0-9]{1,8}", number):
        raise ConfigError(f"link {link!r}: {_FORMS}, for example udpout:127.0.0.1:14550")
    if kind == "serial":
        return _serial(link, place, int(number))
    return _network(link, cast(NetworkKind, kind), place, int(number))


def _serial(link: str, device: str, baud: int) -> SerialAddress:
    if not 1_200 <= baud <= 12_000_000:
        raise ConfigError(f"link {link!r}: baud rate {baud}, expected 1200 to 12000000, often 57600 or 921600")
    return SerialAddress(device=device, baud=baud)


def _network(link: str, kind: NetworkKind, place: str, port: int) -> NetworkAddress:
    lowest = 0 if kind in ("udpin", "tcpin") else 1
    if not lowest <= port <= 65_535:
        raise ConfigError(f"link {link!r}: port {port}, expected {lowest} to 65535")
    host = place[1:-1] if place.startswith("[") and place.endswith("]") else place
    if ":" in host and not _is_ipv6(host):
        raise ConfigError(f"link {link!r}: host {host!r}, {_FORMS}")
    return NetworkAddress(kind=kind, host=host, port=port)


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return False
    return True
