"""Records a flight: sensor messages as they came over the wire, and the pipeline's answers, in one MCAP file."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from edge.recording import channels
from edge.recording.chunk_writer import Buffer, ChunkWriter
from edge.recording.reader import Stored
from edge.transport.messages import TOPICS, Kind, Message, PipelineStatus, RecorderStatus, Trace
from edge.transport.wire import Header, Reason, decode_header
from models.errors import RecordingError


class RecordingWriter:
    """A recording being written. Closed by `close` or at the end of a `with`; a crash costs at most the open chunk."""

    def __init__(
        self,
        path: Path,
        *,
        metadata: dict[str, str] | None = None,
        utc_offset_ns: int | None = None,
        every: Mapping[str, int] | None = None,
    ) -> None:
        """Create the file; it must not exist yet.

        Args:
            path: file to create.
            metadata: texts about the flight.
            utc_offset_ns: UTC minus the clock of all times given here; the system's by default.
            every: streams and topics of which the caller gives one message in so many, so that the rest is not missed.
        Raises:
            RecordingError: the file exists or cannot be created.
        """
        self._offset_ns = time.time_ns() - time.monotonic_ns() if utc_offset_ns is None else utc_offset_ns
        self._every = every or {}
        self._channel_ids: dict[tuple[Kind, str], int] = {}
        self._sequences: dict[int, int] = {}
        self._last_log_ns = 0
        self._file = ChunkWriter(path, channels.PROFILE, channels.PROFILE)
        self._file.add_metadata(channels.METADATA_NAME, {**(metadata or {}), **self._identity()})

    def write_sensor(self, stream: str, header: Header, header_bytes: Buffer, payload: Buffer, log_ns: int) -> None:
        """Record a message of a sensor, received at `log_ns`.

        Raises:
            RecordingError: the disk is full or failed, or the message is not a sensor's.
        """
        kind = Kind(header.kind)
        if kind not in channels.SENSOR_KINDS:
            raise RecordingError(f"stream {stream}: expected a sensor's message, got {kind.name}")
        parts = channels.encode_sensor(stream, header, header_bytes, payload, self._offset_ns)
        self._write(kind, stream, header.sequence, (log_ns, header.capture_ns), parts)

    def write_parts(self, stream: str, parts: tuple[Buffer, Buffer], log_ns: int) -> None:
        """Record a message of a sensor given as it goes over the wire; raises as `write_sensor`."""
        header = decode_header(bytes(parts[0]))
        if isinstance(header, Reason):
            raise RecordingError(f"stream {stream}: expected header and payload of a message, got {header}")
        self.write_sensor(stream, header, *parts, log_ns)

    def write_message(self, message: Message, log_ns: int) -> None:
        """Record an answer, status, pose or truth; raises as `write_sensor`."""
        kind = channels.MESSAGE_KINDS[type(message)]
        if isinstance(message, PipelineStatus | RecorderStatus | Trace):
            capture_ns = message.time_ns
        else:
            capture_ns = message.capture_ns
        self._write(kind, "", None, (log_ns, capture_ns), (channels.encode_message(message, self._offset_ns),))

    def write_mavlink(self, frame: bytes, log_ns: int) -> None:
        """Record a MAVLink frame as received at `log_ns`; raises as `write_sensor`."""
        self._write(Kind.MAVLINK, "rx", None, (log_ns, log_ns), (frame,))

    def write_stored(self, stored: Stored) -> None:
        """Record a message of another recording as it is; raises as `write_sensor`."""
        channel = stored.channel
        key = (channel.kind, channel.about["stream"])
        channel_id = self._channel_ids.get(key) or self._open_channel(*key)
        self._last_log_ns = stored.log_time_ns - self._offset_ns
        times_ns = (stored.log_time_ns, stored.publish_time_ns)
        self._file.add_message(channel_id, stored.sequence, *times_ns, (stored.data,))

    def attach(self, name: str, media_type: str, data: bytes) -> None:
        """Add a file, such as the configuration flown with."""
        self._file.add_attachment(name, media_type, data, channels.utc_ns(self._last_log_ns, self._offset_ns))

    @property
    def size_bytes(self) -> int:
        """What the file has grown to, without what is still waiting."""
        return self._file.size_bytes

    @property
    def unwritten(self) -> dict[str, int]:
        """Messages by stream that were taken, and lost when the disk failed."""
        names = {number: channels.stream_name(*of) for of, number in self._channel_ids.items()}
        return {names[number]: count for number, count in self._file.unwritten.items()}

    def syncing(self) -> Callable[[], None]:
        """Return a function that lets what is written survive a power cut; it may last, and run beside other calls."""
        return self._file.syncing()

    def flush(self) -> None:
        """Write what is waiting: so that nothing waits for long where little comes."""
        self._file.flush()

    def close(self) -> None:
        """Write what is waiting and the index; further calls do nothing."""
        self._file.finish()

    def __enter__(self) -> "RecordingWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(
        self, kind: Kind, stream: str, sequence: int | None, times_ns: tuple[int, int], parts: tuple[Buffer, ...]
    ) -> None:
        channel_id = self._channel_ids.get((kind, stream)) or self._open_channel(kind, stream)
        log_ns, capture_ns = times_ns
        if sequence is None:
            sequence = self._sequences.get(channel_id, 0)
            self._sequences[channel_id] = (sequence + 1) & 0xFFFFFFFF
        self._last_log_ns = log_ns
        log_time_ns, publish_time_ns = (channels.utc_ns(at_ns, self._offset_ns) for at_ns in (log_ns, capture_ns))
        self._file.add_message(channel_id, sequence, log_time_ns, publish_time_ns, parts)

    def _open_channel(self, kind: Kind, stream: str) -> int:
        topic = TOPICS[kind]
        channel_id = self._file.add_channel(
            topic.channel.format(id=stream),
            topic.encoding,
            channels.schema_of(kind),
            {"kind": kind.name, "stream": stream, **self._identity(), **self._decimation(kind, stream)},
        )
        self._channel_ids[kind, stream] = channel_id
        return channel_id

    def _decimation(self, kind: Kind, stream: str) -> dict[str, str]:
        every = self._every.get(channels.stream_name(kind, stream), 1)
        return {"every": str(every)} if every > 1 and kind in channels.SENSOR_KINDS else {}

    def _identity(self) -> dict[str, str]:
        """Return what a reader must know; every chunk repeats it, so that no single damage can cost it."""
        return {"format": str(channels.FORMAT), "utc_offset_ns": str(self._offset_ns)}
