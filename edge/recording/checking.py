"""Looks at a recording down to its last byte: chunks by their checksums, and the file by those over the whole of it."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mcap.opcode import Opcode

from edge.recording.chunk_reader import MAGIC
from edge.recording.reader import Recording, open_recording
from models.errors import RecordingError

_RECORD = struct.Struct("<BQ")
_FOOTER = struct.Struct("<BQQQI")
_DATA_END = struct.Struct("<BQI")
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What a look at a whole file found."""

    recording: Recording
    faults: list[str] = field(default_factory=list)
    """Of the file as a whole: what its own checksums and its end say."""
    notes: list[str] = field(default_factory=list)
    """Worth knowing, and no damage."""

    @property
    def is_sound(self) -> bool:
        """Whether every byte is as it was written."""
        return not self.faults and not self.recording.damage.is_damaged


def check_recording(path: Path, watch: Callable[[int], None] = lambda _: None) -> Checked:
    """Read a file twice: its chunks, then all of it; `watch` is told how many bytes of twice its size lie behind.

    Raises:
        RecordingError: nothing in it can be read.
    """
    recording = open_recording(path, watch)
    try:
        with path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            faults, notes = _whole(file, size, lambda done: watch(size + done))
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror}): check the disk") from error
    steps = [f"time of {name} goes back {count} times" for name, count in recording.steps_back().items()]
    left_out = [f"left out: {reason}" for reason in recording.left_out.values()]
    return Checked(recording=recording, faults=faults, notes=[*notes, *steps, *left_out])


def _whole(file: BinaryIO, size: int, watch: Callable[[int], None]) -> tuple[list[str], list[str]]:
    """Return faults and notes."""
    tail_bytes = _FOOTER.size + len(MAGIC)
    file.seek(max(size - tail_bytes, 0))
    tail = file.read(tail_bytes)
    if len(tail) < tail_bytes or not tail.endswith(MAGIC):
        return ["it does not end as a recording does: the recorder was killed, or the file cut or added to"], []
    opcode, length, summary_start, _, summary_crc = _FOOTER.unpack(tail[: _FOOTER.size])
    footer_start = size - tail_bytes
    if opcode != Opcode.FOOTER or length != _FOOTER.size - _RECORD.size or summary_start > footer_start:
        return ["its last record is not the one it should be"], []
    faults: list[str] = []
    notes: list[str] = []
    if not summary_start:
        notes.append("it has no index")
    elif not summary_crc:
        notes.append("its index has no checksum")
    elif _crc(file, summary_start, size - len(MAGIC) - 4, lambda _: None) != summary_crc:
        faults.append("its index is not as it was written")
    _judge_data(file, summary_start or footer_start, faults, notes, watch)
    return faults, notes


def _judge_data(
    file: BinaryIO, data_stop: int, faults: list[str], notes: list[str], watch: Callable[[int], None]
) -> None:
    """Compare everything before the index with the checksum at its end."""
    end_start = data_stop - _DATA_END.size
    file.seek(max(end_start, 0))
    record = file.read(_DATA_END.size)
    opcode, length, crc = _DATA_END.unpack(record) if len(record) == _DATA_END.size else (0, 0, 0)
    if end_start < 0 or opcode != Opcode.DATA_END or length != _DATA_END.size - _RECORD.size:
        faults.append("its data do not end where its index begins")
    elif not crc:
        notes.append("no checksum covers the whole file: what lies between chunks is not vouched for")
    elif _crc(file, 0, end_start, watch) != crc:
        faults.append("something of it is not as it was written")


def _crc(file: BinaryIO, start: int, stop: int, watch: Callable[[int], None]) -> int:
    file.seek(start)
    crc, position = 0, start
    while position < stop:
        piece = file.read(min(_PIECE_BYTES, stop - position))
        if not piece:
            break
        crc = zlib.crc32(piece, crc)
        position += len(piece)
        watch(position)
    return crc
