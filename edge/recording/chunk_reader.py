"""Finds every readable chunk of an MCAP file, however it ended: no index is trusted, every checksum is checked."""

import io
import re
import struct
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from mcap import records
from mcap.data_stream import ReadDataStream
from mcap.exceptions import EndOfFile
from mcap.opcode import Opcode
from numpy.typing import NDArray

from edge.recording.damage import Damage
from models.errors import RecordingError

MAGIC = b"\x89MCAP0\r\n"
MAX_CHUNK_BYTES = 64 << 20
"""A chunk that would unpack to more is refused: a small file could otherwise fill the memory."""
MAX_KEPT_BYTES = 64 << 20
"""The same for attachments and metadata."""
MIN_MESSAGE_SHARE = 4
"""A file may hold one message for so many of its bytes, and FREE_MESSAGES more: a compressed one could promise any
number of empty messages, and each takes memory."""
FREE_MESSAGES = 1 << 20
SEARCH_BUDGET = 8
"""Past damage, at most so many times the file's size is checked for chunks: it may be full of what looks like one."""
_SEARCH_BYTES = 4 << 20

_RECORD = struct.Struct("<BQ")
_CHUNK = struct.Struct("<QQQII")
_MESSAGE = struct.Struct("<HIQQ")
MESSAGE_TIMES_BYTES = 16
"""Log and publish time, right before a message's data."""
_MESSAGE_INDEX = struct.Struct("<HI")
_INDEX_ENTRY_BYTES = 16
_PLAIN_CHUNK = re.compile(rb"\x06.{5}\0{3}.{16}.{5}\0{3}.{4}\0{4}.{5}\0{3}", re.DOTALL)
_PLAIN_CHUNK_BYTES = _RECORD.size + _CHUNK.size + 8
_INDEX_COLUMNS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkPlace:
    """Where the messages of a good chunk are."""

    offset: int
    stored_bytes: int
    unpacked_bytes: int
    compression: str


@dataclass(kw_only=True, slots=True)
class Contents:
    """What one pass over a file found."""

    chunks: list[ChunkPlace] = field(default_factory=list)
    channels: dict[int, records.Channel] = field(default_factory=dict)
    schemas: dict[int, records.Schema] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    attachments: dict[str, bytes] = field(default_factory=dict)
    damage: Damage = field(default_factory=Damage)
    rows: "array[int]" = field(default_factory=lambda: array("Q"))

    def index(self) -> NDArray[np.uint64]:
        """Return (messages, 6): log time, channel, sequence, chunk, offset in it, bytes; ordered by the first 3."""
        index = np.frombuffer(self.rows, dtype=np.uint64).reshape(-1, _INDEX_COLUMNS)
        return index[np.lexsort((index[:, 2], index[:, 1], index[:, 0]))]


def read_contents(file: BinaryIO, where: str, watch: Callable[[int], None] = lambda _: None) -> Contents:
    """Pass over a whole file once, past any damage; `watch` is told how many bytes lie behind.

    Raises:
        RecordingError: it is no MCAP file.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(len(MAGIC))
    if start != MAGIC:
        found = "an empty file" if not size else f"a file that starts with {start.hex(' ')}"
        raise RecordingError(f"{where}: expected an MCAP recording, found {found}: name a file made by uav-edge record")
    scan = _Scan(file, size)
    scan.run(watch)
    return scan.contents


def unpack_chunk(file: BinaryIO, place: ChunkPlace) -> bytes:
    """Return the messages of a chunk; shorter or longer than promised where it is damaged.

    Raises:
        RecordingError: the compression is unknown, or its library is missing.
        ValueError: compressed data is damaged.
    """
    file.seek(place.offset)
    data = file.read(place.stored_bytes)
    if not place.compression:
        return data
    unpack = {"zstd": _unpack_zstd, "lz4": _unpack_lz4}.get(place.compression)
    if unpack is None:
        raise RecordingError(f"chunks compressed with {place.compression!r}: expected none, zstd or lz4")
    try:
        return unpack(data, place.unpacked_bytes + 1)
    except ImportError as error:
        raise RecordingError(f"chunks compressed with {place.compression}: pip install {error.name}") from error


def _unpack_zstd(data: bytes, limit_bytes: int) -> bytes:
    import zstandard

    try:
        with zstandard.ZstdDecompressor(max_window_size=MAX_CHUNK_BYTES).stream_reader(data) as unpacked:
            return bytes(unpacked.read(limit_bytes))
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


def _unpack_lz4(data: bytes, limit_bytes: int) -> bytes:
    import lz4.frame  # type: ignore[import-untyped]

    try:
        return bytes(lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=limit_bytes))
    except RuntimeError as error:
        raise ValueError(str(error)) from error


class _Scan:
    """One pass over the records of a file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.contents = Contents()
        self._file = file
        self._size = size
        self._search_budget_bytes = SEARCH_BUDGET * size
        self._message_budget = size // MIN_MESSAGE_SHARE + FREE_MESSAGES
        self._is_after_bad_chunk = False
        self._is_in_summary = False
        self._has_ended = False

    def run(self, watch: Callable[[int], None]) -> None:
        position = len(MAGIC)
        while position < self._size and not self._has_ended:
            end = self._read_record(position)
            if end is None:
                end = self._next_chunk(position + 1)
                self._lose(position, end)
            position = end
            watch(position)
        self.contents.damage.is_truncated = not self._has_ended

    def _read_record(self, position: int) -> int | None:
        """Read the record at a position; return its end, or None where no record can be made out."""
        self._file.seek(position)
        head = self._file.read(_RECORD.size)
        if len(head) < _RECORD.size:
            return None
        opcode, length = _RECORD.unpack(head)
        end: int = position + _RECORD.size + length
        if end > self._size or opcode not in (_IN_SUMMARY if self._is_in_summary else _IN_DATA):
            return None
        if opcode == Opcode.CHUNK:
            return self._read_chunk(position, length)
        if opcode == Opcode.MESSAGE:
            self._lose(position, end)
        elif length > MAX_KEPT_BYTES or not self._keep(opcode, self._file.read(length)):
            return None
        return end

    def _keep(self, opcode: int, body: bytes) -> bool:
        """Take in a record; say whether it is one, to the last byte (nothing else vouches for it)."""
        if opcode == Opcode.MESSAGE_INDEX:
            return self._keep_index(body)
        stream = ReadDataStream(io.BytesIO(body))
        contents = self.contents
        try:
            record = _TYPES[opcode].read(stream)
        except (EndOfFile, struct.error, ValueError, OverflowError):
            return False
        if stream.count != len(body):
            return False
        if isinstance(record, records.Metadata):
            contents.metadata[record.name] = record.metadata
        elif isinstance(record, records.Attachment):
            if zlib.crc32(body[:-4]) != int.from_bytes(body[-4:], "little"):
                return False
            contents.attachments[record.name] = record.data
        elif isinstance(record, records.Channel):
            contents.channels.setdefault(record.id, record)
        elif isinstance(record, records.Schema):
            contents.schemas.setdefault(record.id, record)
        elif isinstance(record, records.DataEnd):
            self._is_in_summary = True
        elif isinstance(record, records.Footer):
            self._has_ended = True
        return True

    def _keep_index(self, body: bytes) -> bool:
        """Count the messages of a bad chunk; say whether this is an index."""
        if len(body) < _MESSAGE_INDEX.size:
            return False
        channel_id, entry_bytes = _MESSAGE_INDEX.unpack_from(body)
        if entry_bytes != len(body) - _MESSAGE_INDEX.size or entry_bytes % _INDEX_ENTRY_BYTES:
            return False
        if self._is_after_bad_chunk:
            self.contents.damage.losses[-1].messages[channel_id] += entry_bytes // _INDEX_ENTRY_BYTES
        return True

    def _read_chunk(self, position: int, length: int) -> int | None:
        """Read a chunk; return its end, or None where its lengths contradict each other."""
        body = self._file.read(min(length, _CHUNK.size + 64))
        if len(body) < _CHUNK.size + 8:
            return None
        _, _, unpacked, crc, name_bytes = _CHUNK.unpack_from(body)
        fixed: int = _CHUNK.size + name_bytes + 8
        if len(body) < fixed or name_bytes > 56:
            return None
        (stored,) = struct.unpack_from("<Q", body, fixed - 8)
        if fixed + stored != length:
            return None
        compression = body[_CHUNK.size : fixed - 8].decode("ascii", "replace")
        start = position + _RECORD.size + fixed
        place = ChunkPlace(offset=start, stored_bytes=stored, unpacked_bytes=unpacked, compression=compression)
        is_good = max(unpacked, stored) <= MAX_CHUNK_BYTES and self._index_chunk(place, crc)
        self._is_after_bad_chunk = not is_good
        end = position + _RECORD.size + length
        if not is_good:
            self.contents.damage.bad_chunks += 1
            self._lose(position, end)
        return end

    def _lose(self, start: int, end: int) -> None:
        self.contents.damage.add(len(self.contents.chunks), start, end)

    def _index_chunk(self, place: ChunkPlace, crc: int) -> bool:
        """Note the messages of a chunk; say whether it is sound."""
        try:
            data = unpack_chunk(self._file, place)
        except ValueError:
            return False
        if len(data) != place.unpacked_bytes or (crc and zlib.crc32(data) != crc):
            return False
        number = len(self.contents.chunks)
        rows = array("Q")
        try:
            for opcode, start, end in _records_of(data):
                if opcode == Opcode.MESSAGE:
                    channel_id, sequence, log_time_ns, _ = _MESSAGE.unpack_from(data, start)
                    at = start + _MESSAGE.size
                    rows.extend((log_time_ns, channel_id, sequence, number, at, end - at))
                    if len(rows) > self._message_budget * _INDEX_COLUMNS:
                        return False
                elif opcode in (Opcode.CHANNEL, Opcode.SCHEMA) and not self._keep(opcode, data[start:end]):
                    return False
        except (struct.error, ValueError):
            return False
        self._message_budget -= len(rows) // _INDEX_COLUMNS
        self.contents.chunks.append(place)
        self.contents.rows.extend(rows)
        return True

    def _next_chunk(self, position: int) -> int:
        """Return where the next sound uncompressed chunk begins, or the end of the file."""
        while position < self._size:
            self._file.seek(position)
            window = self._file.read(_SEARCH_BYTES + _PLAIN_CHUNK_BYTES)
            for match in _PLAIN_CHUNK.finditer(window):
                if self._is_chunk(position + match.start(), window[match.start() : match.end()]):
                    return position + match.start()
            position += _SEARCH_BYTES
        return self._size

    def _is_chunk(self, position: int, head: bytes) -> bool:
        _, length = _RECORD.unpack_from(head)
        _, _, unpacked, crc, _ = _CHUNK.unpack_from(head, _RECORD.size)
        (stored,) = struct.unpack_from("<Q", head, _PLAIN_CHUNK_BYTES - 8)
        end = position + _RECORD.size + length
        if unpacked != stored or length != stored + _CHUNK.size + 8 or end > self._size or stored > MAX_CHUNK_BYTES:
            return False
        self._search_budget_bytes -= stored
        if self._search_budget_bytes < 0:
            return False
        self._file.seek(position + _PLAIN_CHUNK_BYTES)
        return bool(crc) and zlib.crc32(self._file.read(stored)) == crc


_TYPES: dict[int, Any] = {
    Opcode.HEADER: records.Header,
    Opcode.FOOTER: records.Footer,
    Opcode.SCHEMA: records.Schema,
    Opcode.CHANNEL: records.Channel,
    Opcode.CHUNK_INDEX: records.ChunkIndex,
    Opcode.ATTACHMENT: records.Attachment,
    Opcode.ATTACHMENT_INDEX: records.AttachmentIndex,
    Opcode.STATISTICS: records.Statistics,
    Opcode.METADATA: records.Metadata,
    Opcode.METADATA_INDEX: records.MetadataIndex,
    Opcode.SUMMARY_OFFSET: records.SummaryOffset,
    Opcode.DATA_END: records.DataEnd,
}
_IN_BOTH = frozenset({Opcode.SCHEMA, Opcode.CHANNEL})
_IN_DATA = _IN_BOTH | {
    Opcode.HEADER,
    Opcode.CHUNK,
    Opcode.MESSAGE,
    Opcode.MESSAGE_INDEX,
    Opcode.ATTACHMENT,
    Opcode.METADATA,
    Opcode.DATA_END,
}
_IN_SUMMARY = _IN_BOTH | (frozenset(_TYPES) - _IN_DATA)


def _records_of(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield opcode, start and end of each record in a chunk; ValueError where one runs over the end."""
    position = 0
    while position < len(data):
        opcode, length = _RECORD.unpack_from(data, position)
        start = position + _RECORD.size
        position = start + length
        if position > len(data) or (opcode == Opcode.MESSAGE and length < _MESSAGE.size):
            raise ValueError(f"record of {length} bytes at {start} in a chunk of {len(data)}")
        yield opcode, start, position
