"""Messages shorter than a model's window, joined into windows.

A message as long as a window, or longer, never comes here: its newest window is a view on it. Of shorter ones each
sample is copied once, behind those before it, and a window is a view on that row. Pure: no clock, no thread.
"""

import enum

from edge.transport.block_pool import BlockPool
from edge.transport.wire import FLAG_CRC, FLAG_HOST_TIME, FLAG_RING, Header
from models.spec import IqRecipe

TIME_TOLERANCE_NS = 1_000_000
"""Messages that follow each other by their numbers are this close by their capture times, too."""
HOST_TOLERANCE_NS = 250_000_000
"""The same for times of the host, which jitter by as long as a busy board holds a process up. A source that paused for
longer goes on with samples of another moment, which the old ones would make stale."""
BLOCK_WINDOWS = 4
"""A row holds as many windows, so that at most a third of the samples move again to the start of the next row."""
_SEQUENCE_SPAN = 1 << 32
_NS_PER_S = 1_000_000_000


class Gathered(enum.Enum):
    """Stands for the payload of a message whose samples are kept for a later message's window."""

    KEPT = enum.auto()
    RESTARTED = enum.auto()
    """It does not continue what was kept before, which is given up."""


class Framing:
    """Joins the messages of one stream. A window leaves once a period of the stream, overlapping where that is shorter.

    The samples must be continuous: by epoch, sequence number and capture time, and of one type, rate and frequency.
    """

    def __init__(self, recipe: IqRecipe, rate_hz: float) -> None:
        self.recipe = recipe
        self.window_samples = recipe.window_samples
        self._hop = recipe.sample_rate_hz / rate_hz
        self._pool: BlockPool | None = None
        self._row = memoryview(b"")
        self._end = 0
        """Bytes of the row that are filled."""
        self._run = 0
        """Samples at the end of the row that are continuous, as far as they matter."""
        self._fresh = 0.0
        """Samples since a window left, less than a hop as soon as one has."""
        self._is_waiting = False
        """Whether there are samples that were in no window yet."""
        self._last: Header | None = None

    def gather(self, header: Header, payload: bytes | memoryview) -> tuple[Header, memoryview | Gathered]:
        """Take in a message of I/Q, shorter than a window but not empty, that agrees with its header.

        Returns:
            The header and payload of the window that it completes, as if that had come in one message; or its own
            header, and what was done with its samples.
        """
        fate = Gathered.KEPT
        if not self._continues(header):
            fate = Gathered.RESTARTED if self._is_waiting else Gathered.KEPT
            self._begin(header)
        self._last = header
        self._append(header, payload)
        self._fresh += header.dim0
        self._is_waiting = self._run < self.window_samples or self._fresh < self._hop
        if self._is_waiting:
            return header, fate
        self._fresh %= self._hop
        size = self.window_samples * self._sample_bytes(header)
        earlier_ns = round((self.window_samples - header.dim0) / header.sample_rate_hz * _NS_PER_S)
        capture_ns = header.capture_ns - earlier_ns
        return self._header(header, size, capture_ns), self._row[self._end - size : self._end]

    def give_up(self) -> Gathered:
        """Forget all samples, because the last ones were overwritten while they were copied."""
        self._last, self._run, self._is_waiting = None, 0, False
        return Gathered.RESTARTED

    def _continues(self, header: Header) -> bool:
        last = self._last
        if last is None or header.epoch != last.epoch or header.sequence != (last.sequence + 1) % _SEQUENCE_SPAN:
            return False
        if header.dtype != last.dtype or header.sample_rate_hz != last.sample_rate_hz:
            return False
        if header.centre_hz != last.centre_hz:
            return False
        expected_ns = last.capture_ns + round(last.dim0 / last.sample_rate_hz * _NS_PER_S)
        tolerance_ns = HOST_TOLERANCE_NS if header.flags & FLAG_HOST_TIME else TIME_TOLERANCE_NS
        return abs(header.capture_ns - expected_ns) <= tolerance_ns

    def _begin(self, header: Header) -> None:
        """Forget what was kept, and make room for samples of another type."""
        self._run, self._fresh = 0, 0.0
        if self._last is None or header.dtype != self._last.dtype:
            self._pool = BlockPool(BLOCK_WINDOWS * self.window_samples * self._sample_bytes(header))
            self._row, self._end = self._pool.take().data, 0

    def _append(self, header: Header, payload: bytes | memoryview) -> None:
        """Copy samples behind the others, in a new row where this one is full: windows of it may still be looked at."""
        if self._pool is not None and self._end + len(payload) > len(self._row):
            kept = min(self._run, self.window_samples - header.dim0)
            size = kept * self._sample_bytes(header)
            row = self._pool.take().data
            row[:size] = self._row[self._end - size : self._end]
            self._row, self._end, self._run = row, size, kept
        self._row[self._end : self._end + len(payload)] = payload
        self._end += len(payload)
        self._run += header.dim0

    def _header(self, last: Header, payload_bytes: int, capture_ns: int) -> Header:
        """Return the header of a window that a message completes; not by `_replace`, which leaves memory behind."""
        magic, version, kind, flags, stream_id, dtype, ndim, epoch, sequence, *_ = last
        flags &= ~(FLAG_CRC | FLAG_RING)
        send_ns, samples, rate_hz, centre_hz = last.send_ns, self.window_samples, last.sample_rate_hz, last.centre_hz
        return Header(
            magic, version, kind, flags, stream_id, dtype, ndim, epoch, sequence, payload_bytes,
            capture_ns, send_ns, samples, last.dim1, last.dim2, rate_hz, 0, centre_hz,
        )  # fmt: skip

    @staticmethod
    def _sample_bytes(header: Header) -> int:
        return header.payload_bytes // header.dim0
