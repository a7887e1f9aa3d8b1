"""Opens a vehicle's log of any kind, by what is in it."""

from pathlib import Path

from edge.mavlink.logs import dataflash, ulog
from edge.mavlink.logs.dataflash import read_dataflash
from edge.mavlink.logs.logged_flight import LOG_KINDS, LoggedFlight
from edge.mavlink.logs.tlog import read_tlog
from edge.mavlink.logs.ulog import read_ulog
from models.errors import RecordingError


def read_flight_log(path: Path) -> LoggedFlight:
    """Read the track of a vehicle, and its MAVLink frames where the log has them.

    Raises:
        DeviceError: a library is not installed.
        RecordingError: not a log of a known kind, or without anything usable.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(ulog.LOG_START))
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror}): name {LOG_KINDS}") from error
    if start.startswith(dataflash.LOG_START):
        return read_dataflash(path)
    if start == ulog.LOG_START:
        return read_ulog(path)
    if path.suffix.lower() == ".tlog":
        return read_tlog(path)
    raise RecordingError(f"{path}: starts with {start.hex(' ') or 'nothing'}: expected {LOG_KINDS}")
