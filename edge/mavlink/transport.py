"""What a link is to those who use it: an address, and a port that never blocks and, once open, never raises.

pymavlink's own connections are not used: they swallow socket errors, keep every UDP peer for ever and sleep inside
reads. What goes wrong in flight is counted here.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Protocol

from models.errors import ConfigError

_FORMS = "expected udpout:HOST:PORT, udpin:HOST:PORT or serial:DEVICE:BAUD"


@dataclass(frozen=True, kw_only=True, slots=True)
class UdpAddress:
    """A UDP link: `is_listening` waits for peers at the address, else the peer is there."""

    is_listening: bool
    host: str
    port: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SerialAddress:
    """A serial port."""

    device: str
    baud: int


@dataclass(kw_only=True, slots=True)
class TransportCounts:
    """What became of what was to be sent, and who was turned away."""

    frames_sent: int = 0
    """Handed to the system, once for each peer."""
    frames_dropped: int = 0
    """Not sent: the port was busy, closed, or unplugged."""
    refused: int = 0
    """Datagrams of strangers, or of more peers than the table holds."""


class Transport(Protocol):
    """One open link."""

    counts: TransportCounts

    @property
    def name(self) -> str:
        """The link as a configuration writes it."""
        ...

    def send(self, frame: bytes) -> None:
        """Send one frame to whoever is there, or count it as dropped."""
        ...

    def receive(self) -> list[tuple[str, bytes]]:
        """Return what arrived since the last call, each with the peer that it came from."""
        ...

    def wait(self, timeout_s: float) -> None:
        """Return when something arrived, or after `timeout_s`."""
        ...

    def close(self) -> None:
        """Give the port back."""
        ...


def parse_link(link: str) -> UdpAddress | SerialAddress:
    """Return the address that a link string names.

    Raises:
        ConfigError: not one of the three forms, or a port or baud rate out of range.
    """
    kind, _, rest = link.partition(":")
    place, _, number = rest.rpartition(":")
    if kind not in ("udpout", "udpin", "serial") or not place or not re.fullmatch(r"[0-9]{1,8}", number):
        raise ConfigError(f"link {link!r}: {_FORMS}, for example udpout:127.0.0.1:14550")
    value = int(number)
    if kind == "serial":
        if not 1_200 <= value <= 12_000_000:
            raise ConfigError(f"link {link!r}: baud rate {value}, expected 1200 to 12000000, often 57600 or 921600")
        return SerialAddress(device=place, baud=value)
    lowest = 0 if kind == "udpin" else 1
    if not lowest <= value <= 65_535:
        raise ConfigError(f"link {link!r}: port {value}, expected {lowest} to 65535")
    host = place[1:-1] if place.startswith("[") and place.endswith("]") else place
    if ":" in host and not _is_ipv6(host):
        raise ConfigError(f"link {link!r}: host {host!r}, {_FORMS}")
    return UdpAddress(is_listening=kind == "udpin", host=host, port=value)


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return False
    return True
