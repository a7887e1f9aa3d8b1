"""The faults of a live flight, as `uav-edge run` tells its processes: by a file, which they look at until it begins."""

from pathlib import Path

import msgspec

from edge.clock import Clock, SystemClock
from edge.faults.fault import Fault, parse_fault
from edge.transport.messages import Injected
from models.errors import ConfigError

LOOK_NS = 50_000_000
"""How often a process looks whether the flight has begun."""


class Orders:
    """What one process knows of a flight's faults. For one thread."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        """Read the file.

        Raises:
            ConfigError: it cannot be read, or names what is no fault.
        """
        self._path = path
        self._clock = clock or SystemClock()
        self._looked_ns = self._clock.now_ns()
        self._injected = _read(path)
        self.faults: tuple[Fault, ...] = tuple(parse_fault(text) for text in self._injected.faults)

    def injected(self) -> Injected:
        """Return what is to be told of them; when the flight begins only once it has."""
        now_ns = self._clock.now_ns()
        if not self._injected.begin_ns and now_ns - self._looked_ns >= LOOK_NS:
            self._looked_ns = now_ns
            self._injected = _read(self._path)
        return self._injected

    @property
    def folder(self) -> Path:
        """Of the flight alone."""
        return self._path.parent

    def now_ns(self) -> int:
        """Return the time that faults are compared with."""
        return self._clock.now_ns()

    def on_now(self) -> tuple[Fault, ...]:
        """Return the faults that last at this moment."""
        begin_ns = self.injected().begin_ns
        now_ns = self._clock.now_ns()
        return tuple(fault for fault in self.faults if begin_ns and fault.is_on(now_ns, begin_ns))


def write_orders(path: Path, injected: Injected) -> None:
    """Write the file, so that whoever looks at it sees all of it or what it was before."""
    temporary = path.with_name(f"{path.name}.part")
    temporary.write_bytes(msgspec.json.encode(injected))
    temporary.replace(path)


def _read(path: Path) -> Injected:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Injected)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{path}: expected the faults of a flight, as uav-edge run writes them: {error}") from error
