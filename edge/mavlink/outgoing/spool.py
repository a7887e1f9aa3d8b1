"""The flight's memory: what was said and heard over MAVLink, in telemetry logs on disk, whatever the links do.

Files are `<microseconds since 1970>.tlog`, as MAVProxy, pymavlink and `uav-edge import` read them: 8 bytes of time, big
endian, then a frame, without its signature. The oldest file goes when all together reach their cap. Names always go up,
even where a board's clock goes back at each start; what tells the time is in the files.
"""

import contextlib
import errno
import logging
import os
import queue
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from edge.mavlink.wire import frames

log = logging.getLogger(__name__)

FILE_BYTES = 16_000_000
LOOK_BYTES = 1_000_000
"""Written between two looks at what is free."""
PAUSE_US = 1_000_000
"""After a disk has failed nothing is tried for so long: each attempt begins a file."""
MAX_WAITING = 4096
"""Frames that wait for a slow disk; beyond, they are left out."""
END_S = 1.0
"""The most that each of two steps at the end waits for a slow disk: who is to end has 5 s."""
NS_PER_US = 1_000
TIME_BYTES = 8
_NAME = re.compile(r"(\d{1,20})\.tlog")


class TlogRing:
    """Files in a folder that is nobody else's. For one thread; waits for the disk.

    Args:
        folder: made where it is absent.
        most_bytes: of all files together.
        least_free_bytes: left to others; with less free, nothing is written.
        free_bytes: tells what is free where a file lies.

    Raises:
        OSError: the folder cannot be made, read or written.
    """

    def __init__(
        self,
        folder: Path,
        most_bytes: int,
        least_free_bytes: int,
        free_bytes: Callable[[Path], int] | None = None,
    ) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._file_bytes = min(FILE_BYTES, most_bytes // 4)
        self._least_free_bytes = least_free_bytes
        self._free_bytes = free_bytes or _free_bytes
        self._file: BinaryIO | None = None
        self._written = 0
        self._until_look_bytes = 0
        self._newest_us = 0
        self._pause_end_us = 0
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        self._closed_bytes = {path: path.stat().st_size for path in tlog_files(folder)}
        self.before = max(map(number_of, self._closed_bytes), default=-1)
        """The newest file of an earlier start."""

    @property
    def total_bytes(self) -> int:
        """Of all files."""
        return sum(self._closed_bytes.values()) + self._written

    def write(self, time_us: int, frame: bytes) -> bool:
        """Append a frame; say whether there was room for it.

        Raises:
            OSError: the disk fails; what comes a second later goes into a new file, so that no half frame has one
                behind it.
        """
        self._newest_us = time_us
        if time_us < self._pause_end_us:
            return False
        try:
            return self._append(time_us, frame)
        except OSError:
            self._pause()
            raise

    def flush(self) -> None:
        """Hand what is written to the system. Raises as `write`."""
        try:
            if self._file is not None:
                self._file.flush()
        except OSError:
            self._pause()
            raise

    def close(self) -> None:
        """End the last file; raises as `write`, and is closed all the same."""
        file, self._file = self._file, None
        if file is not None:
            self._closed_bytes[Path(file.name)] = self._written
            self._written = 0
            file.close()

    def _pause(self) -> None:
        """End a file that cannot be written, and count what of it is on disk."""
        self._pause_end_us = self._newest_us + PAUSE_US
        file = self._file
        with contextlib.suppress(OSError):
            self.close()
        if file is None:
            return
        path = Path(file.name)
        with contextlib.suppress(OSError):
            self._closed_bytes[path] = path.stat().st_size
            if not self._closed_bytes[path]:
                del self._closed_bytes[path]
                path.unlink()

    def _append(self, time_us: int, frame: bytes) -> bool:
        size = TIME_BYTES + len(frame)
        if not self._has_room(size):
            return False
        if self._file is None or self._written + size > self._file_bytes:
            self._begin(time_us)
        while self._closed_bytes and self.total_bytes + size > self._most_bytes:
            self._remove_oldest()
        if self._file is not None:
            self._file.write(time_us.to_bytes(TIME_BYTES, "big") + frame)
            self._written += size
        return True

    def _begin(self, time_us: int) -> None:
        self.close()
        newest = max(map(number_of, self._closed_bytes), default=-1)
        path = self._folder / f"{max(time_us, newest + 1):020d}.tlog"
        self._file = path.open("xb")

    def _remove_oldest(self) -> None:
        oldest = min(self._closed_bytes, key=number_of)
        del self._closed_bytes[oldest]
        oldest.unlink(missing_ok=True)

    def _has_room(self, size: int) -> bool:
        self._until_look_bytes -= size
        if self._until_look_bytes <= 0:
            if self._free_bytes(self._folder) < self._least_free_bytes:
                return False
            self._until_look_bytes = LOOK_BYTES
        return True


class Spool:
    """Hands frames to a thread that writes them: a slow disk holds nobody up.

    Args:
        ring: of files.
        utc_us: Unix time at the start; from there the times follow `now_ns`, which never jumps.
        start_ns: the time of our clock at the same moment.
    """

    def __init__(self, ring: TlogRing, utc_us: int, start_ns: int) -> None:
        self.written = 0
        self.before = ring.before
        self._ring = ring
        self._offset_us = utc_us - start_ns // NS_PER_US
        self._waiting: queue.Queue[bytes | None] = queue.Queue(MAX_WAITING)
        self._left_out = 0
        self._not_written = 0
        self.trouble = ""
        """Why nothing is written now, as people are told."""
        self._writer = threading.Thread(target=self._write_all, name="spool", daemon=True)
        self._writer.start()

    @property
    def dropped(self) -> int:
        """Frames left out: the disk was full, slow, or failed."""
        return self._left_out + self._not_written

    def time_us(self, now_ns: int) -> int:
        """Return a moment of our clock as it stands in the files."""
        return self._offset_us + now_ns // NS_PER_US

    def keep(self, frame: bytes, now_ns: int) -> None:
        """Write a frame; a signature is cut off, and what sets up keys is left out."""
        plain = frames.without_signature(frame)
        if plain is None:
            return
        try:
            self._waiting.put_nowait(self.time_us(now_ns).to_bytes(TIME_BYTES, "big") + plain)
        except queue.Full:
            self._left_out += 1

    def close(self) -> None:
        """Write the rest, where the disk takes it soon enough."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=END_S)
        self._writer.join(END_S)
        if self._writer.is_alive():
            self._tell(f"the disk hangs: the last {self._waiting.qsize()} frames are lost")

    def _write_all(self) -> None:
        """Write until told to end; what is there goes to the system whenever nothing waits."""
        while (record := self._waiting.get()) is not None:
            is_written = self._write(record)
            self.written += is_written
            self._not_written += not is_written
        try:
            self._ring.close()
        except OSError as error:
            self._tell(error.strerror)

    def _write(self, record: bytes) -> bool:
        try:
            is_written = self._ring.write(int.from_bytes(record[:TIME_BYTES], "big"), record[TIME_BYTES:])
            if is_written and (self.trouble or self._waiting.empty()):
                self._ring.flush()  # in trouble nothing counts as written before it is
        except OSError as error:
            self._tell(error.strerror)
            return False
        if is_written:
            self.trouble = ""
        elif not self.trouble:
            self._tell("the disk is nearly full")
        return is_written

    def _tell(self, why: str | None) -> None:
        if not self.trouble:
            log.warning("spool: not written (%s): make room; the flight goes on without its memory", why)
        self.trouble = why or "the disk fails"


def tlog_files(folder: Path) -> list[Path]:
    """Return the files of a ring, the oldest first; none where there is no such folder."""
    return sorted((path for path in folder.glob("*.tlog") if _NAME.fullmatch(path.name)), key=number_of)


def number_of(path: Path) -> int:
    """Return the number in a file's name."""
    return int(path.name.removesuffix(".tlog"))


def _free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
