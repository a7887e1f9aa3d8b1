"""Answers of the past, out of the flight's memory, for a ground station that missed them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from edge.mavlink.outgoing import lite
from edge.mavlink.outgoing.aggregation import Aggregation, Told
from edge.mavlink.outgoing.spool import TIME_BYTES, number_of, tlog_files
from edge.mavlink.wire import dialect, frames
from edge.mavlink.wire.codec import Flag

STEPS_AT_ONCE = 40
"""In one call, less than 1 ms: an answer of the present must not wait for a long file."""
PASSED_IN_A_STEP = 10
"""Frames that are not wanted cost a tenth of one that is decoded."""
NS_PER_US = 1_000
_HEAD_BYTES = TIME_BYTES + frames.HEADER_V2_BYTES
_WANTED = dialect.MAVLINK_MSG_ID_FUSION_CLASSIFICATION


class Backfill:
    """LITE records, marked BACKFILL, of our answers within a span of the files.

    Args:
        folder: of the spool.
        before: number of the last file that is of an earlier start: another flight, whose clock may have gone alike.
        span_us: begin, and end, which is not included; as the files have it, see `Spool.time_us`.
        sender: our system and component.
        aggregation: sums answers up as it would have done in flight.
    """

    def __init__(
        self,
        folder: Path,
        before: int,
        span_us: tuple[int, int],
        sender: tuple[int, int],
        aggregation: Aggregation,
    ) -> None:
        self._folder = folder
        self._before = before
        self._span_us = span_us
        self._sender = sender
        self._aggregation = aggregation
        self._steps = self._read()
        self._records: list[Any] = []
        self._is_at_end = False

    @property
    def is_done(self) -> bool:
        """Whether no record will follow."""
        return self._is_at_end and not self._records

    def batch(self, most: int) -> list[Any]:
        """Return the next records, fewer than `most` only at the end; none where more must be read first."""
        for _ in range(STEPS_AT_ONCE):
            if len(self._records) >= most or self._is_at_end:
                break
            try:
                told = next(self._steps)
            except StopIteration:
                self._is_at_end = True
                break
            if told is not None:
                self._records.append(lite.marked(lite.lite_of(told.message, told.answers), Flag.BACKFILL))
        if len(self._records) < most and not self._is_at_end:
            return []
        records, self._records = self._records[:most], self._records[most:]
        return records

    def _read(self) -> Iterator[Told | None]:
        """Yield, step by step, what is told of the frames; None of most."""
        begin_us, end_us = self._span_us
        paths = [path for path in tlog_files(self._folder) if number_of(path) > self._before]
        starts_us = [_start_us(path) for path in paths]
        for path, start_us, next_us in zip(paths, starts_us, [*starts_us[1:], None], strict=False):
            if start_us is None or start_us >= end_us or (next_us is not None and next_us <= begin_us):
                continue
            for number, (time_us, frame) in enumerate(_frames(path)):
                if time_us >= end_us:
                    break
                message = self._message(frame) if time_us >= begin_us else None
                if message is not None:
                    yield self._aggregation.take(message, time_us * NS_PER_US)
                elif number % PASSED_IN_A_STEP == 0:
                    yield None
        yield self._aggregation.rest()

    def _message(self, frame: bytes) -> Any | None:
        """Return our answer that a frame holds, None of another frame."""
        is_ours = frame[0] == frames.MARKER_V2 and (frame[5], frame[6]) == self._sender
        return frames.decoded(frame) if is_ours and frames.message_id(frame) == _WANTED else None


def _frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the frames of a file with their times, up to its end or to what is only half there yet."""
    try:
        with path.open("rb") as file:
            while (found := _next(file)) is not None:
                yield found
    except OSError:  # the ring went on meanwhile
        return


def _start_us(path: Path) -> int | None:
    """Return the time of a file's first frame, None where there is none."""
    return next((time_us for time_us, _ in _frames(path)), None)


def _next(file: BinaryIO) -> tuple[int, bytes] | None:
    head = file.read(_HEAD_BYTES)
    size = frames.frame_bytes(head, TIME_BYTES)
    if size is None or head[TIME_BYTES] not in (frames.MARKER_V1, frames.MARKER_V2):
        return None
    rest = file.read(size - len(head) + TIME_BYTES) if size > len(head) - TIME_BYTES else b""
    if len(head) + len(rest) < TIME_BYTES + size:
        return None
    file.seek(TIME_BYTES + size - len(head) - len(rest), 1)
    return int.from_bytes(head[:TIME_BYTES], "big"), (head + rest)[TIME_BYTES : TIME_BYTES + size]
