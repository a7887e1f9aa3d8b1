"""`file`: a telemetry log (.tlog) of what is sent, for MAVProxy, Mission Planner, pymavlink and `uav-edge import`."""

import contextlib
import logging
import os
import queue
import select
import threading
import time
from pathlib import Path

from edge.mavlink.ports.transport import FileAddress, TransportCounts
from models.errors import LinkError

log = logging.getLogger(__name__)

MIN_FREE_BYTES = 200_000_000
"""Less is left to others."""
LOOK_BYTES = 1_000_000
"""Written between two looks at what is free."""
MAX_WAITING = 4096
"""Frames that wait for a slow disk; beyond, they are left out."""
END_S = 1.0
"""The most that each of two steps at the end waits for a slow disk: who is to end has 5 s."""
NS_PER_US = 1_000


class TlogFile:
    """Writes every frame after 8 bytes of Unix time; goes on at the end of a file that exists. Nobody answers.

    A thread writes, so that a slow disk holds nobody up.
    """

    is_open = True

    def __init__(self, link: str, address: FileAddress) -> None:
        self.counts = TransportCounts()
        self._link = link
        try:
            self._file = Path(address.path).open("ab")  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise LinkError(
                f"link {link}: cannot be written ({error.strerror}): name a file in a folder that exists"
            ) from error
        self._waiting: queue.Queue[bytes | None] = queue.Queue(MAX_WAITING)
        self._until_look_bytes = 0
        self._is_trouble_told = False
        self._lock = threading.Lock()
        self._writer = threading.Thread(target=self._write_all, name="tlog", daemon=True)
        self._writer.start()

    @property
    def name(self) -> str:
        """The link as a configuration writes it."""
        return self._link

    def send(self, frame: bytes) -> None:
        """Hand one frame to the writer; it is counted once it is written, or dropped where the disk is full."""
        try:
            self._waiting.put_nowait((time.time_ns() // NS_PER_US).to_bytes(8, "big") + frame)
        except queue.Full:
            self._count(is_written=False)

    def receive(self) -> list[tuple[str, bytes]]:
        """Return nothing: a file does not speak."""
        return []

    def welcome(self, peer: str, *, is_proven: bool) -> None:
        """Do nothing: there is no peer."""

    def wait(self, timeout_s: float) -> None:
        """Return after `timeout_s`."""
        select.select([], [], [], timeout_s)

    def reopen(self) -> None:
        """Do nothing: a file is not lost for being silent."""

    def close(self) -> None:
        """Write the rest, where the disk takes it soon enough."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=END_S)
        self._writer.join(END_S)
        if self._writer.is_alive():
            left = self._waiting.qsize()
            log.warning("link %s: the disk hangs: the last %d frames are not written", self._link, left)

    def _write_all(self) -> None:
        """Write until told to end; what is there goes to the system whenever nothing waits."""
        while (record := self._waiting.get()) is not None:
            self._count(is_written=self._write(record, is_last=self._waiting.empty()))
        try:
            self._file.close()
        except OSError as error:
            self._tell(error.strerror)

    def _write(self, record: bytes, *, is_last: bool) -> bool:
        try:
            if not self._has_room(len(record)):
                return False
            self._file.write(record)
            if is_last:
                self._file.flush()
        except OSError as error:
            self._tell(error.strerror)
            return False
        return True

    def _has_room(self, size: int) -> bool:
        self._until_look_bytes -= size
        if self._until_look_bytes <= 0:
            found = os.fstatvfs(self._file.fileno())
            if found.f_bavail * found.f_frsize < MIN_FREE_BYTES:
                self._tell(f"less than {MIN_FREE_BYTES // 1_000_000} MB are free")
                return False
            self._until_look_bytes = LOOK_BYTES
            self._is_trouble_told = False
        return True

    def _count(self, *, is_written: bool) -> None:
        with self._lock:
            self.counts.frames_sent += is_written
            self.counts.frames_dropped += not is_written

    def _tell(self, why: str | None) -> None:
        if not self._is_trouble_told:
            self._is_trouble_told = True
            log.warning("link %s: not written (%s): make room", self._link, why)
