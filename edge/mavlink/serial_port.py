"""MAVLink over a serial port, which is opened again by itself after it was unplugged."""

import errno
import logging
import os
import random
import select
import termios
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.clock import Clock
from edge.mavlink.link_state import Backoff
from edge.mavlink.transport import SerialAddress, TransportCounts
from models.errors import LinkError

log = logging.getLogger(__name__)

READ_BYTES = 4096
MAX_BACKLOG_BYTES = 2048
"""Of a port that sends slower than it is given; beyond, whole frames are left out."""
STABLE_NAMES = Path("/dev/serial/by-id")
"""Links to ports, by names that stay when the adapter is plugged in elsewhere."""


class SerialPort:
    """`serial`: a serial port that is opened again by itself after it was unplugged."""

    def __init__(self, link: str, address: SerialAddress, clock: Clock) -> None:
        self.counts = TransportCounts()
        self._link = link
        self._clock = clock
        self._backlog = b""
        self._backoff = Backoff(random.Random(f"{link} {os.getpid()}"))
        self._port: Any = _open_serial(link, address)
        self._address = replace(address, device=stable_name(address.device))

    @property
    def name(self) -> str:
        """The link as a configuration writes it."""
        return self._link

    @property
    def is_open(self) -> bool:
        """Whether the port is there."""
        return self._port is not None

    def send(self, frame: bytes) -> None:
        """Send one frame, the rest of it later where the port is slow; count it as dropped where it is too slow."""
        if not self._is_there() or len(self._backlog) + len(frame) > MAX_BACKLOG_BYTES:
            self.counts.frames_dropped += 1
            return
        self._backlog += frame
        self.counts.frames_sent += 1
        self._flush()

    def receive(self) -> list[tuple[str, bytes]]:
        """Return the bytes that arrived since the last call."""
        if not self._is_there():
            return []
        self._flush()
        received = b""
        try:
            while self._port is not None and len(received) < READ_BYTES and self._is_readable():
                data = os.read(self._port.fileno(), READ_BYTES)
                if not data:
                    raise OSError(errno.EIO, "unplugged")
                received += data
        except OSError as error:
            self._lose(error)
        return [(self._link, received)] if received else []

    def welcome(self, peer: str, *, is_proven: bool) -> None:
        """Do nothing: there is one peer, and it hears everything."""

    def wait(self, timeout_s: float) -> None:
        """Return when something arrived, or after `timeout_s`."""
        port = self._port
        select.select([] if port is None else [port.fileno()], [], [], timeout_s)

    def reopen(self) -> None:
        """Open the port anew: an adapter may hang."""
        if self._port is not None:
            self._lose(OSError(errno.ETIMEDOUT, "nobody there"))

    def close(self) -> None:
        """Give the port back."""
        if self._port is not None:
            self._port.close()
            self._port = None

    def _is_readable(self) -> bool:
        return bool(select.select([self._port.fileno()], [], [], 0)[0])

    def _is_there(self) -> bool:
        now_ns = self._clock.now_ns()
        if self._port is None and self._backoff.is_due(now_ns):
            try:
                self._port = _open_serial(self._link, self._address)
                self._backoff.succeed()
                log.warning("link %s: open again", self._link)
            except LinkError as error:
                self._backoff.begin(now_ns)
                log.debug("%s", error)
        return self._port is not None

    def _flush(self) -> None:
        if not self._backlog or self._port is None:
            return
        try:
            self._backlog = self._backlog[os.write(self._port.fileno(), self._backlog) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        log.warning("link %s: lost (%s): opening it again as soon as it is back", self._link, error.strerror)
        self.close()
        self._backlog = b""
        self._backoff.begin(self._clock.now_ns())


def stable_name(device: str) -> str:
    """Return the name by which a device is found again when it comes back as another one, itself where it has none."""
    try:
        names = [link for link in STABLE_NAMES.iterdir() if link.resolve() == Path(device).resolve()]
    except OSError:
        return device
    return str(min(names)) if names else device


def _open_serial(link: str, address: SerialAddress) -> Any:
    """Return an open pyserial port: it sets up the line, reading and writing is done on its file descriptor.

    pyserial's own write spins at full speed while a non-blocking port is busy.
    """
    try:
        import serial
    except ImportError as error:
        raise LinkError(f"link {link}: needs pyserial: pip install 'uav-fusion-edge[serial]'") from error
    try:
        return serial.Serial(address.device, address.baud, timeout=0, write_timeout=0, exclusive=True)
    except (OSError, ValueError, termios.error) as error:
        number = getattr(error, "errno", None)
        remedy = {
            errno.ENOENT: "plug it in, and look for its name with ls /dev/serial/by-id /dev/tty*",
            errno.EACCES: "add the user to the group that owns it: sudo usermod -aG dialout $USER, then log in again",
            errno.EAGAIN: "another program uses it: stop that one (ModemManager, gpsd and MAVProxy are usual)",
            errno.EBUSY: "another program uses it: stop that one (ModemManager, gpsd and MAVProxy are usual)",
        }.get(number or 0, "name a serial device and a baud rate that it knows")
        raise LinkError(f"link {link}: cannot open {address.device} ({error}): {remedy}") from error
