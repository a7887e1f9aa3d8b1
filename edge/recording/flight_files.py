"""The files of one flight: a new one when one has grown large or old, none while the disk is full."""

import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edge.config import RecordingConfig
from edge.recording.chunk_writer import Buffer
from edge.recording.disk import is_full, sync_folder
from edge.recording.writer import RecordingWriter
from edge.transport.messages import Message, RecorderStatus
from edge.transport.wire import Header
from models.errors import RecordingError

log = logging.getLogger(__name__)

DISK_FULL = "disk_full"
RETRY_S = 10.0
"""After a write that failed, until the next file is tried."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attachment:
    """A file that every part of a flight carries."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What every part of a flight says about it."""

    metadata: dict[str, str] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()


class FlightFiles:
    """Takes a flight's messages from several threads; `tend` is called about once a second. Use as a context."""

    def __init__(self, first: Path, config: RecordingConfig, about: Contents | None = None) -> None:
        """Begin the first file, unless the disk is full.

        Args:
            first: its name; the next ones' are FIRST-2.mcap, FIRST-3.mcap, ...
            config: limits.
            about: what each file carries.
        Raises:
            RecordingError: the file exists or cannot be created.
        """
        self.paths: list[Path] = []
        """Every file begun so far."""
        self.unwritten: Counter[str] = Counter()
        """Messages by stream that were taken, and lost when a write failed."""
        self.pause = ""
        """Why nothing is recorded now; empty while it is."""
        self._first = first
        self._config = config
        self._about = about or Contents()
        self._lock = threading.RLock()
        self._utc_offset_ns = time.time_ns() - time.monotonic_ns()  # of all parts: they are one flight
        self._writer: RecordingWriter | None = None
        self._begun_s = self._retry_s = time.monotonic()
        self._guard_space()
        if self.pause:
            log.warning("nothing is recorded yet: %s; it begins by itself when there is", self.pause)
        else:
            self._begin()

    @property
    def is_due(self) -> bool:
        """Whether the file has grown so large or old that the next one should begin."""
        config, writer = self._config, self._writer
        if writer is None:
            return False
        return writer.size_bytes >= config.max_file_bytes or time.monotonic() - self._begun_s >= config.max_file_s

    def free_bytes(self) -> int:
        """Return what is left on the disk for us; RecordingError where it cannot be told."""
        try:
            return shutil.disk_usage(self._first.parent).free
        except OSError as error:
            raise RecordingError(
                f"{self._first.parent}: not to be used ({error.strerror}): is the disk there?"
            ) from error

    def write_sensor(
        self, stream: str, header: Header, header_bytes: Buffer, payload: Buffer, log_ns: int
    ) -> str | None:
        """Record a sensor's message; return why not, where the disk is full.

        Raises:
            RecordingError: the disk failed.
        """
        return self._write(lambda writer: writer.write_sensor(stream, header, header_bytes, payload, log_ns))

    def write_message(self, message: Message, log_ns: int) -> str | None:
        """Record an answer, status, pose or truth; otherwise as `write_sensor`."""
        return self._write(lambda writer: writer.write_message(message, log_ns))

    def write_mavlink(self, frame: bytes, log_ns: int) -> str | None:
        """Record a frame of the vehicle; otherwise as `write_sensor`."""
        return self._write(lambda writer: writer.write_mavlink(frame, log_ns))

    def tend(self, last_words: Callable[[], RecorderStatus] | None = None) -> None:
        """Write what waits, let it survive a power cut, begin the next file where one is due; mind the free space.

        Args:
            last_words: makes a message about the recorder's state, which ends a file that a full disk ends.
        Raises:
            RecordingError: the disk failed.
        """
        self._write(RecordingWriter.flush)
        with self._lock:
            sync = self._writer.syncing() if self._writer is not None else None
        if sync is not None:
            self._unless_full(sync)
        was_paused = self.pause
        self._guard_space()
        if self.pause and not was_paused:
            log.warning("recording paused: %s; it goes on by itself when there is", self.pause)
            if last_words is not None:
                message = last_words()
                self._write(lambda writer: writer.write_message(message, message.time_ns))
            self._end()
        elif not self.pause and (self._writer is None or self.is_due):
            self._change()
            if was_paused and not self.pause:
                log.warning("recording goes on, into %s", self.paths[-1])

    def close(self) -> None:
        """End the file with its index."""
        self._end()

    def __enter__(self) -> "FlightFiles":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, act: Callable[[RecordingWriter], None]) -> str | None:
        with self._lock:
            writer = self._writer
            if writer is None:
                return DISK_FULL
            self._unless_full(lambda: act(writer))  # where it is full, the message is among the unwritten ones
            return None

    def _unless_full(self, act: Callable[[], None]) -> bool:
        """Do something with the file; say whether that went well. A full disk ends the file where its chunks end."""
        try:
            act()
            return True
        except RecordingError as error:
            if not is_full(error):
                raise
            self._retry_s = time.monotonic() + RETRY_S
            self.pause = str(error)
            log.warning("%s; a new file is begun as soon as there is space", error)
            self._end()
            return False

    def _guard_space(self) -> None:
        """Say in `pause` whether there is too little space; to go on there must be a tenth more than to stop."""
        free, wanted = self.free_bytes(), self._config.min_free_bytes
        if self.pause and (free < wanted + wanted // 10 or time.monotonic() < self._retry_s):
            return
        self.pause = (
            f"{free / 1e6:.0f} MB free in {self._first.parent}, recording.min_free_bytes wants {wanted / 1e6:.0f} MB"
            if free < wanted
            else ""
        )

    def _begin(self) -> RecordingWriter | None:
        """Begin the next file; return the one before, which is still to be ended."""
        number = len(self.paths) + 1
        path = self._first if number == 1 else self._first.with_stem(f"{self._first.stem}-{number}")
        try:
            writer = RecordingWriter(
                path,
                metadata={**self._about.metadata, "part": str(number)},
                utc_offset_ns=self._utc_offset_ns,
                every=self._config.every,
            )
            for attachment in self._about.attachments:
                writer.attach(attachment.name, attachment.media_type, attachment.data)
        except RecordingError as error:
            if is_full(error):  # a name that is taken is left alone
                path.unlink(missing_ok=True)
            raise
        self._sync_folder()
        self.paths.append(path)
        with self._lock:
            before, self._writer = self._writer, writer
        self._begun_s = time.monotonic()
        return before

    def _sync_folder(self) -> None:
        try:
            sync_folder(self._first.parent)
        except OSError as error:
            raise RecordingError(
                f"{self._first.parent}: cannot be written ({error.strerror}): check the disk"
            ) from error

    def _change(self) -> None:
        """Let the next file follow; the sources' messages go into it while the one before is ended."""
        before: list[RecordingWriter | None] = []
        if self._unless_full(lambda: before.append(self._begin())):
            self._close(before[0])

    def _end(self) -> None:
        with self._lock:
            writer, self._writer = self._writer, None
        self._close(writer)

    def _close(self, writer: RecordingWriter | None) -> None:
        """End a file; where there is no room for its last chunk or its index, the rest is there all the same."""
        if writer is None:
            return
        try:
            writer.close()
        except RecordingError as error:
            if not is_full(error):
                raise
            log.warning("%s", error)
        finally:
            self.unwritten.update(writer.unwritten)
