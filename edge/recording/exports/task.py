"""What the writers of an export are given, and what they give back."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

from edge.recording.reader import Event, Recording
from edge.transport.wire import Header
from models.errors import RecordingError

TableFormat = Literal["csv", "parquet"]
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One stream to write into a folder."""

    recording: Recording
    stream: str
    folder: Path
    table_format: TableFormat
    note: Callable[[bool], None]
    """Told of every message whether it could be written."""
    injected: tuple[str, ...] = ()
    """Faults that were injected into the flight."""

    def events(self, *, is_noted: bool = True) -> Iterator[Event]:
        """Yield the stream's events; what is no message of its channel is left out, and noted if asked."""
        for stored in self.recording.stored([self.stream]):
            try:
                event = self.recording.decode(stored)
            except RecordingError:
                if is_noted:
                    self.note(False)
                continue
            yield event

    def sensed(self) -> Iterator[tuple[Header, bytes]]:
        """Yield header and payload of a sensor's messages."""
        return ((event.header, event.payload) for event in self.events() if event.header is not None)

    def utc(self, time_ns: int) -> str:
        """Return a time of the recording's clock as ISO 8601 UTC to the nanosecond; empty where nobody knows it."""
        if self.recording.metadata.get("utc") == "unknown":
            return ""
        seconds, ns = divmod(time_ns + self.recording.utc_offset_ns, 1_000_000_000)
        try:
            return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{ns:09d}Z"
        except OverflowError:  # a faulty source may claim any time
            return ""
