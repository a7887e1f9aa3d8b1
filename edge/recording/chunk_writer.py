"""Writes MCAP so that a crash costs at most the open chunk, and so that every chunk can be read without any other.

The records are the mcap package's; its own writer is not used because it names schemas and channels only in the first
chunk that needs them: one damaged chunk would cost the whole rest of a flight.
"""

import os
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mcap import records
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode

from edge.recording.checksums import combined
from models.errors import RecordingError

MAGIC = b"\x89MCAP0\r\n"
CHUNK_BYTES = 1 << 20
CHUNK_SPAN_NS = 1_000_000_000
"""An open chunk is written when its messages span this long, so that slow streams lose little too."""

_CHUNK = struct.Struct("<BQQQQIIQ")
_MESSAGE = struct.Struct("<BQHIQQ")
_MESSAGE_FIXED_BYTES = _MESSAGE.size - 9
_CHUNK_FIXED_BYTES = _CHUNK.size - 9

Buffer = bytes | bytearray | memoryview


@dataclass(kw_only=True, slots=True)
class _OpenChunk:
    """The messages not written yet."""

    data: bytearray = field(default_factory=bytearray)
    index: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    start_ns: int = 0
    end_ns: int = 0


class ChunkWriter:
    """One MCAP file being written: uncompressed chunks with CRCs, indexes and a CRC of the whole at the end."""

    def __init__(self, path: Path, profile: str, library: str) -> None:
        self._path = path
        self._file = -1
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RecordingError(f"{path}: cannot be created ({error.strerror}): choose another file") from error
        self._end = 0
        self._data_crc = 0
        self._chunk = _OpenChunk()
        self._schemas: dict[str, records.Schema] = {}
        self._channels: dict[int, records.Channel] = {}
        self._counts: dict[int, int] = {}
        self._chunks: list[records.ChunkIndex] = []
        self._attachments: list[records.AttachmentIndex] = []
        self._metadata: list[records.MetadataIndex] = []
        self.unwritten: dict[int, int] = {}
        """Messages by channel that were taken, and lost when the disk failed."""
        self._append_summed(MAGIC + _record(records.Header(profile=profile, library=library)))

    @property
    def size_bytes(self) -> int:
        """What the file has grown to, without what is still waiting."""
        return self._end

    def add_channel(self, topic: str, encoding: str, schema: tuple[str, str, bytes], metadata: dict[str, str]) -> int:
        """Return the id of a new channel; `schema` is name, encoding and data."""
        name, schema_encoding, data = schema
        if name not in self._schemas:
            self._schemas[name] = records.Schema(
                id=len(self._schemas) + 1, name=name, encoding=schema_encoding, data=data
            )
        channel_id = len(self._channels) + 1
        self._channels[channel_id] = records.Channel(
            id=channel_id,
            topic=topic,
            message_encoding=encoding,
            schema_id=self._schemas[name].id,
            metadata=metadata,
        )
        self._counts[channel_id] = 0
        return channel_id

    def add_message(
        self, channel_id: int, sequence: int, log_time_ns: int, publish_time_ns: int, parts: Sequence[Buffer]
    ) -> None:
        """Add a message, given as one or more buffers that are copied at once."""
        chunk = self._chunk
        if not chunk.data:
            chunk.start_ns = chunk.end_ns = log_time_ns
        if channel_id not in chunk.index:
            channel = self._channels[channel_id]
            schema = next(schema for schema in self._schemas.values() if schema.id == channel.schema_id)
            chunk.data += _record(schema) + _record(channel)
            chunk.index[channel_id] = []
        chunk.index[channel_id].append((log_time_ns, len(chunk.data)))
        length = _MESSAGE_FIXED_BYTES + sum(len(part) for part in parts)
        chunk.data += _MESSAGE.pack(Opcode.MESSAGE, length, channel_id, sequence, log_time_ns, publish_time_ns)
        for part in parts:
            chunk.data += part
        self._counts[channel_id] += 1
        chunk.start_ns, chunk.end_ns = min(chunk.start_ns, log_time_ns), max(chunk.end_ns, log_time_ns)
        if len(chunk.data) >= CHUNK_BYTES or chunk.end_ns - chunk.start_ns >= CHUNK_SPAN_NS:
            self.flush()

    def add_attachment(self, name: str, media_type: str, data: bytes, log_time_ns: int) -> None:
        """Add a named file."""
        attachment = records.Attachment(
            create_time=log_time_ns, log_time=log_time_ns, name=name, media_type=media_type, data=data
        )
        raw = _record(attachment)
        self._attachments.append(
            records.AttachmentIndex(
                offset=self._end,
                length=len(raw),
                log_time=log_time_ns,
                create_time=log_time_ns,
                data_size=len(data),
                name=name,
                media_type=media_type,
            )
        )
        self._append_summed(raw)

    def add_metadata(self, name: str, metadata: dict[str, str]) -> None:
        """Add a named table of texts."""
        raw = _record(records.Metadata(name=name, metadata=metadata))
        self._metadata.append(records.MetadataIndex(offset=self._end, length=len(raw), name=name))
        self._append_summed(raw)

    def flush(self) -> None:
        """Write the open chunk, so that a crash cannot cost it any more."""
        chunk = self._chunk
        if chunk.data:
            self._chunk = _OpenChunk()
            self._write_chunk(chunk)

    def syncing(self) -> Callable[[], None]:
        """Return a function that lets what is written survive a power cut; it may last, and run beside other calls."""
        if self._file < 0:
            return lambda: None
        file = os.dup(self._file)

        def sync() -> None:
            try:
                os.fdatasync(file)
            except OSError as error:
                raise RecordingError(f"{self._path}: cannot be written ({error.strerror}): check the disk") from error
            finally:
                os.close(file)

        return sync

    def finish(self) -> None:
        """Write what is open and the indexes, and close the file. Nothing happens when it is closed already."""
        if self._file < 0:
            return
        self.flush()
        self._append(_record(records.DataEnd(data_section_crc=self._data_crc)) + self._summary(self._end + 13))
        sync = self.syncing()
        os.close(self._file)
        self._file = -1
        sync()

    def _write_chunk(self, chunk: _OpenChunk) -> None:
        size, crc = len(chunk.data), zlib.crc32(chunk.data)
        head = _CHUNK.pack(Opcode.CHUNK, _CHUNK_FIXED_BYTES + size, chunk.start_ns, chunk.end_ns, size, crc, 0, size)
        start = self._end
        indexes_at = start + len(head) + size
        index_data = bytearray()
        offsets = {}
        for channel_id, entries in chunk.index.items():
            offsets[channel_id] = indexes_at + len(index_data)
            index_data += _record(records.MessageIndex(channel_id=channel_id, records=entries))
        try:
            self._append(head, chunk.data, index_data)
        except RecordingError:
            self.unwritten = {channel_id: len(entries) for channel_id, entries in chunk.index.items()}
            raise
        self._data_crc = zlib.crc32(index_data, combined(zlib.crc32(head, self._data_crc), crc, size))
        self._chunks.append(
            records.ChunkIndex(
                chunk_length=len(head) + size,
                chunk_start_offset=start,
                compression="",
                compressed_size=size,
                message_end_time=chunk.end_ns,
                message_index_length=len(index_data),
                message_index_offsets=offsets,
                message_start_time=chunk.start_ns,
                uncompressed_size=size,
            )
        )

    def _summary(self, start: int) -> bytes:
        """Return everything from the summary section, which begins at `start`, to the end of the file."""
        groups: list[tuple[Opcode, Sequence[records.McapRecord]]] = [
            (Opcode.SCHEMA, list(self._schemas.values())),
            (Opcode.CHANNEL, list(self._channels.values())),
            (Opcode.STATISTICS, [self._statistics()]),
            (Opcode.CHUNK_INDEX, self._chunks),
            (Opcode.ATTACHMENT_INDEX, self._attachments),
            (Opcode.METADATA_INDEX, self._metadata),
        ]
        summary, offsets = bytearray(), bytearray()
        for opcode, members in groups:
            group_start = start + len(summary)
            for member in members:
                summary += _record(member)
            length = start + len(summary) - group_start
            offsets += _record(records.SummaryOffset(group_opcode=opcode, group_start=group_start, group_length=length))
        offsets_start = start + len(summary)
        summary += offsets
        summary += struct.pack("<BQQQ", Opcode.FOOTER, 20, start, offsets_start)
        return bytes(summary) + struct.pack("<I", zlib.crc32(summary)) + MAGIC

    def _statistics(self) -> records.Statistics:
        return records.Statistics(
            attachment_count=len(self._attachments),
            channel_count=len(self._channels),
            channel_message_counts=self._counts,
            chunk_count=len(self._chunks),
            message_count=sum(self._counts.values()),
            message_end_time=max((chunk.message_end_time for chunk in self._chunks), default=0),
            message_start_time=min((chunk.message_start_time for chunk in self._chunks), default=0),
            metadata_count=len(self._metadata),
            schema_count=len(self._schemas),
        )

    def _append_summed(self, raw: bytes) -> None:
        self._append(raw)
        self._data_crc = zlib.crc32(raw, self._data_crc)

    def _append(self, *parts: Buffer) -> None:
        if self._file < 0:
            raise RecordingError(f"{self._path}: recording ended already")
        try:
            for part in parts:
                left = memoryview(part)
                while left:
                    left = left[os.write(self._file, left) :]
        except OSError as error:
            self._give_up(error)
        self._end += sum(len(part) for part in parts)

    def _give_up(self, error: OSError) -> None:
        """Cut off what was half written and end the recording: all before it stays readable."""
        os.ftruncate(self._file, self._end)
        os.close(self._file)
        self._file = -1
        raise RecordingError(
            f"{self._path}: recording stopped after {self._end} bytes ({error.strerror}): free some space;"
            " what was saved can be read"
        ) from error


def _record(record: records.McapRecord) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    data: bytes = builder.end()  # type: ignore[no-untyped-call]
    return data
