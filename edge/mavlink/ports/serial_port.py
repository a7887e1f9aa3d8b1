"""MAVLink over a serial port, which is opened by itself as soon as it is there, and again after it was unplugged."""

import contextlib
import errno
import fcntl
import logging
import os
import select
import stat
import struct
import termios
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from edge.clock import Clock
from edge.mavlink.ports.aside import Aside
from edge.mavlink.ports.backoff import Backoff
from edge.mavlink.ports.transport import SerialAddress, TransportCounts
from models.errors import LinkError

log = logging.getLogger(__name__)

READ_BYTES = 4096
MAX_BACKLOG_BYTES = 2048
"""Of a port that sends slower than it is given; beyond, whole frames are left out."""
STUCK_NS = 2_000_000_000
"""Where nothing went out for so long, what waits is thrown away: it would arrive old."""
END_S = 0.5
"""The most that the end of a flight waits for its last frames."""
STABLE_NAMES = Path("/dev/serial/by-id")
"""Links to ports, by names that stay when the adapter is plugged in elsewhere."""
_IN_USE = "another program uses it: stop that one (ModemManager, gpsd and MAVProxy are usual)"
_REMEDIES = {
    errno.ENOENT: "plug it in, and look for its name with ls /dev/serial/by-id /dev/tty*",
    errno.EACCES: "add the user to the group that owns it: sudo usermod -aG dialout $USER, then log in again",
    errno.EAGAIN: _IN_USE,
    errno.EBUSY: _IN_USE,
}


class _Opened(NamedTuple):
    port: Any
    """pyserial's."""
    device: str
    """By which it is found again."""


class SerialPort:
    """`serial`: a serial port that is opened, and closed, beside whoever sends: a hung adapter costs seconds for each.

    A port that is not there yet, is in use or may not be opened is told of once, and waited for.

    Raises:
        LinkError: what is wrong does not mend itself: no serial device, no such baud rate, no pyserial.
    """

    def __init__(self, link: str, address: SerialAddress, clock: Clock) -> None:
        self.counts = TransportCounts()
        self._link = link
        self._address = address
        self._device = address.device
        self._clock = clock
        self._backlog = b""
        self._moved_ns = clock.now_ns()
        self._backoff = Backoff()
        self._opening: Aside[_Opened] = Aside("serial")
        self._port: Any = None
        self._told = 0
        """Why it is not there, as far as people know: an errno; 0: it is."""
        _check(link, address)
        try:
            self._take(_open(self._device, address.baud))
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise LinkError(f"link {link}: {error.strerror}: name a baud rate that the port knows") from error
            self._fail(error)

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
        self._flush()
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
        if received:
            self._backoff.succeed()
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
        """Give the port back, its last frames sent where that is a matter of less than a second."""
        end_s = time.monotonic() + END_S
        while self._port is not None and time.monotonic() < end_s:
            self._flush()
            if self._port is not None and not self._backlog and not _unsent_bytes(self._port):
                break
            time.sleep(0.01)
        if self._port is not None:
            _discard(self._port)
            self._port = None

    def _is_readable(self) -> bool:
        return bool(select.select([self._port.fileno()], [], [], 0)[0])

    def _is_there(self) -> bool:
        if self._port is not None:
            return True
        now_ns = self._clock.now_ns()
        try:
            if (opened := self._opening.take()) is not None:
                self._take(opened)
        except OSError as error:
            self._fail(error)
        if self._port is None and not self._opening.is_busy and self._backoff.is_due(now_ns):
            self._backoff.begin(now_ns)
            self._opening.begin(lambda: _open(self._device, self._address.baud))
        return self._port is not None

    def _take(self, opened: _Opened) -> None:
        self._port, self._device = opened
        self._moved_ns = self._clock.now_ns()
        if self._told:
            log.warning("link %s: open now", self._link)
        self._told = 0

    def _fail(self, error: OSError) -> None:
        """Tell why it is not there, each time that it is for another reason."""
        self._backoff.begin(self._clock.now_ns())
        number = error.errno or errno.EIO
        if number != self._told:
            self._told = number
            remedy = _REMEDIES.get(number, "look at the adapter and its cable")
            why = os.strerror(number).lower() if error.errno else error
            log.warning("link %s: cannot open %s (%s): %s; waiting for it", self._link, self._device, why, remedy)

    def _flush(self) -> None:
        if self._port is None:
            return
        now_ns = self._clock.now_ns()
        try:
            if self._backlog:
                self._backlog = self._backlog[os.write(self._port.fileno(), self._backlog) :]
            self._moved_ns = now_ns
        except BlockingIOError:
            if now_ns - self._moved_ns > STUCK_NS:
                self._backlog = b""
                self._moved_ns = now_ns
                _throw_away(self._port)
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        log.warning("link %s: lost (%s): opening it again as soon as it is back", self._link, error.strerror)
        threading.Thread(target=_discard, args=(self._port,), name="serial", daemon=True).start()
        self._port = None
        self._told = errno.ENOENT
        self._backlog = b""
        self._backoff.begin(self._clock.now_ns())


def stable_name(device: str) -> str:
    """Return the name by which a device is found again when it comes back as another one, itself where it has none."""
    try:
        names = [link for link in STABLE_NAMES.iterdir() if link.resolve() == Path(device).resolve()]
    except OSError:
        return device
    return str(min(names)) if names else device


def _check(link: str, address: SerialAddress) -> None:
    try:
        import serial
    except ImportError as error:
        raise LinkError(f"link {link}: needs pyserial: pip install 'uav-fusion-edge[serial]'") from error
    del serial
    with contextlib.suppress(OSError):  # not there yet, for example
        if not stat.S_ISCHR(Path(address.device).stat().st_mode):
            raise LinkError(f"link {link}: {address.device} is no serial device: name one, see ls /dev/serial/by-id")


def _open(device: str, baud: int) -> _Opened:
    """Return an open port: pyserial sets up the line, reading and writing is done on its file descriptor.

    pyserial's own write spins at full speed while a non-blocking port is busy.

    Raises:
        OSError: it cannot be opened; without a number where the line cannot be set up.
    """
    import serial

    try:
        port = serial.Serial(device, baud, timeout=0, write_timeout=0, exclusive=True)
    except (ValueError, termios.error) as error:
        raise OSError(errno.EINVAL, f"cannot be set to {baud} baud ({error})") from error
    return _Opened(port, stable_name(device))


def _discard(port: Any) -> None:
    """Close a port, without waiting for what it did not send: the kernel would, for up to 30 s."""
    _throw_away(port)
    with contextlib.suppress(OSError):
        port.close()


def _throw_away(port: Any) -> None:
    with contextlib.suppress(OSError, termios.error):
        termios.tcflush(port.fileno(), termios.TCOFLUSH)


def _unsent_bytes(port: Any) -> int:
    try:
        unsent: int = struct.unpack("i", fcntl.ioctl(port.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
    except OSError:
        return 0
    return unsent
