"""A GNU Radio flowgraph as a source: its `zeromq.pub_sink` or `zeromq.push_sink`, with tags or without.

GNU Radio sends what its scheduler hands it, some hundred bytes to 64 KiB at a time. Here that becomes blocks of one
period each; a sample is copied once. With `pass_tags` the sink numbers its samples, so that each one is accounted for.
"""

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.config import GnuRadioSource
from edge.sources.backlog import Backlog, Receives
from edge.sources.lateness import Lateness
from edge.sources.sample_clock import SampleClock
from edge.sources.stream import Pacer, StreamSender
from edge.transport.block_pool import BlockPool
from edge.transport.gnuradio import Tag, TaggedHeader, decode_tagged
from edge.transport.sockets import Subscriber
from edge.transport.wire import FLAG_HOST_TIME, Reason

log = logging.getLogger(__name__)

RECEIVE_TIMEOUT_MS = 100
"""After so long without samples what there is of a block leaves as it is."""
LEAST_QUEUE = 1000
"""Messages kept while this process is held up, however few samples are in them; GNU Radio keeps as many on its side."""
MESSAGE_BYTES = 32 << 10
"""GNU Radio's messages are rarely shorter where it has much to send."""
LARGEST_GAP_S = 3600
"""An offset further ahead is of another flowgraph."""
LARGEST_RATE_HZ = 1e11
_NS_PER_S = 1_000_000_000
_DTYPES = {"complex64": np.float32, "int16": np.int16, "int8": np.int8, "uint8": np.uint8}
SAMPLE_BYTES = {name: 2 * np.dtype(dtype).itemsize for name, dtype in _DTYPES.items()}
_RADIO_TAGS = ("rx_time", "rx_rate", "rx_freq")


@dataclass(slots=True)
class SampleAccounting:
    """What became of the samples of a flowgraph: `received + lost = span` and `sent + stale = received`, exactly."""

    messages: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """Messages refused, by reason; with tags their samples show up in `lost`."""
    received: int = 0
    lost: int = 0
    """Missing in the count of the sink: sent by the flowgraph, never received. Without tags nobody knows."""
    joined_at: int = 0
    """Offset of the first sample that ever came: the flowgraph sent those before it to nobody. Without tags 0."""
    span: int = 0
    """From the first sample's offset to the last one's, over all starts of the flowgraph."""
    lost_by_radio: int = 0
    """Missing in the time stamps of the radio: an overflow before the flowgraph."""
    stale: int = 0
    """Received, and thrown away because they had waited too long, or more than `queue_ms` waited with them."""
    restarts: int = 0
    clock_steps: int = 0
    """How often the radio's time was set anew, or its samples fell behind the board's clock, and stayed there."""
    sent: int = 0

    @property
    def balanced(self) -> bool:
        """Whether every sample is accounted for, once the last block has left."""
        return self.received + self.lost == self.span and self.sent + self.stale == self.received


class GnuRadioStream:
    """Makes blocks of a sink's messages and sends them, keeping account of every sample."""

    def __init__(self, source: GnuRadioSource, rate_hz: float, sender: StreamSender) -> None:
        self.counts = SampleAccounting()
        self._source = source
        self._sender = sender
        self._dtype = np.dtype(_DTYPES[source.sample_type])
        self._sample_bytes = SAMPLE_BYTES[source.sample_type]
        self._block_samples = max(1, round(source.sample_rate_hz / rate_hz))
        self._pool = BlockPool(self._block_samples * self._sample_bytes)
        self._block: NDArray[np.uint8] | None = None
        self._filled = 0
        self._first = 0
        """Offset of the block's first sample."""
        self._next = 0
        """Offset of the next sample."""
        self._started = False
        self._begun = 0
        """Offset of the first sample since the flowgraph was started."""
        self._spans = 0
        """Samples that earlier starts of it spanned."""
        self._clock = SampleClock(source.sample_rate_hz)
        self._lateness = Lateness(None if source.sink == "push" else round(source.queue_ms * 1e6))
        self._centre_hz = source.centre_hz
        self._captured_ns = 0
        self._skipped = 0
        """Stale samples before the next one that is sent."""
        self._warned_ns = -_NS_PER_S

    @property
    def queue_bytes(self) -> int | None:
        """How much may wait at the rate that samples come at now; None where nothing is ever too late."""
        if self._source.sink == "push":
            return None
        return round(self._source.queue_ms * 1e-3 * self._clock.rate_hz * self._sample_bytes)

    def take(
        self,
        parts: Sequence[memoryview | bytes],
        now_ns: int,
        *,
        is_stale: bool = False,
        empty_ns: int | None = None,
    ) -> None:
        """Take in one message: the samples, perhaps behind a key that subscriptions are chosen by.

        Of a stale one the samples are only counted; its tags hold for those that come after it. It came after
        `empty_ns`, when all before it was taken; without that it has just come.
        """
        self.counts.messages += 1
        header, samples = self._decode(parts)
        if isinstance(header, Reason):
            self.counts.rejected[header.value] += 1
            self._warn(now_ns, f"message refused: {header}: do tags and sample_type say what the sink sends?")
            return
        self._follow(header.offset, now_ns)
        begin, end = header.offset, header.offset + samples
        self._judge(end, now_ns if empty_ns is None else empty_ns, now_ns)
        append = self._skip if is_stale or self._lateness.is_stale else self._append
        message = memoryview(parts[-1])[header.payload_at :]
        for tag in sorted(header.tags, key=_offset):
            if tag.key in _RADIO_TAGS and begin <= tag.offset < end:
                size = (tag.offset - begin) * self._sample_bytes
                append(message[:size], end, now_ns)
                message, begin = message[size:], tag.offset
                self._apply(tag, now_ns)
        append(message, end, now_ns)
        self.counts.received += samples
        self.counts.span = self._spans + self._next - self._begun

    def flush(self) -> None:
        """Send what there is of a block."""
        if self._block is None or not self._filled:
            return
        samples = self._block[: self._filled].view(self._dtype).reshape(-1, 2)
        self._sender.flags = 0 if self._clock.follows_radio else FLAG_HOST_TIME
        self._captured_ns = max(self._clock.host_ns(self._first), self._captured_ns)
        self._sender.send_iq(samples, self._captured_ns, self._clock.rate_hz, self._centre_hz)
        self.counts.sent += len(samples)
        self._block, self._filled = None, 0

    def _decode(self, parts: Sequence[memoryview | bytes]) -> tuple[TaggedHeader | Reason, int]:
        """Return a message's header and how many samples follow."""
        if not 1 <= len(parts) <= 2:
            return Reason.PARTS, 0
        message = parts[-1]
        header = decode_tagged(message) if self._source.tags else TaggedHeader(self._next, (), 0)
        if isinstance(header, Reason):
            return header, 0
        samples, rest = divmod(len(message) - header.payload_at, self._sample_bytes)
        return (Reason.SIZE if rest else header), samples

    def _follow(self, offset: int, now_ns: int) -> None:
        """Compare where a message begins with where the last one ended."""
        gap = offset - self._next
        if not self._started or gap < 0 or gap > LARGEST_GAP_S * self._clock.rate_hz:
            self._start(offset, now_ns)
        elif gap:
            self.counts.lost += gap
            self._lose(gap)
            self._warn(now_ns, f"{self.counts.lost} samples lost so far: is this machine too busy?")
        self._next = offset

    def _judge(self, end: int, empty_ns: int, now_ns: int) -> None:
        """Find out what samples that come late have waited for."""
        self._lateness.judge(self._clock.late_ns(end, now_ns), empty_ns, now_ns)
        if self._lateness.is_slow:
            self.flush()
            self._clock.forget_delays()
            self.counts.clock_steps += 1
            self._warn(now_ns, "the flowgraph runs slower than its sample rate: capture times are set anew")

    def _start(self, offset: int, now_ns: int) -> None:
        """Begin with a flowgraph, or begin anew after it was started again."""
        if self._started:
            self.flush()
            self._sender.restart()
            self.counts.restarts += 1
            self._warn(now_ns, "the flowgraph was started again")
        else:
            self.counts.joined_at = offset
        self._started = True
        self._skipped = 0
        self._spans, self._begun = self.counts.span, offset
        self._clock = SampleClock(self._source.sample_rate_hz)
        self._centre_hz, self._captured_ns = self._source.centre_hz, 0

    def _lose(self, samples: int) -> None:
        """End the block, and leave a gap in the stream's sequence numbers as long as what is missing."""
        self.flush()
        self._sender.note_loss(math.ceil(samples / self._block_samples))

    def _skip(self, data: memoryview, _: int, now_ns: int) -> None:
        """Count samples that come too late, instead of copying them."""
        samples = len(data) // self._sample_bytes
        self.flush()
        self._skipped += samples
        self.counts.stale += samples
        self._next += samples
        self._warn(now_ns, f"{self.counts.stale} samples thrown away so far, too old: is this machine too busy?")

    def _append(self, data: memoryview, message_end: int, now_ns: int) -> None:
        """Copy samples that follow what was copied before, and send each block that is full."""
        if self._skipped and data:
            skipped, self._skipped = self._skipped, 0
            self._lose(skipped)
        end = self._next + len(data) // self._sample_bytes
        if self._source.tags:
            self._clock.heard(message_end, now_ns)
        else:
            self._clock.arrived(message_end, now_ns)
        while data:
            if self._block is None:
                self._block, self._first = self._pool.take(), end - len(data) // self._sample_bytes
            part = data[: len(self._block) - self._filled]
            self._block.data[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            data = data[len(part) :]
            if self._filled == len(self._block):
                self.flush()
        self._next = end

    def _apply(self, tag: Tag, now_ns: int) -> None:
        """Follow what the radio says of the samples from here on; what cannot be so is not followed."""
        numbers = [float(value) for value in tag.values if isinstance(value, int | float) and math.isfinite(value)]
        if tag.key == "rx_time" and len(numbers) == 2 and 0 <= numbers[1] <= 1:
            self._stamp(tag.offset, int(numbers[0]) * _NS_PER_S + round(numbers[1] * 1e9), now_ns)
        elif tag.key == "rx_rate" and len(numbers) == 1 and 1 <= numbers[0] <= LARGEST_RATE_HZ:
            if numbers[0] != self._clock.rate_hz:
                self.flush()
                self._clock.change_rate(tag.offset, numbers[0])
        elif tag.key == "rx_freq" and len(numbers) == 1 and numbers[0] != self._centre_hz:
            self.flush()
            self._centre_hz = numbers[0]

    def _stamp(self, offset: int, device_ns: int, now_ns: int) -> None:
        """Follow the radio's time of a sample, which tells what it lost before."""
        missing = self._clock.missing(offset, device_ns)
        if missing is None:
            self.flush()
            if self._clock.has_time:
                self.counts.clock_steps += 1
                self._warn(now_ns, "the radio's time was set anew")
        elif missing:
            self.counts.lost_by_radio += missing
            self._lose(missing)
            self._warn(now_ns, f"the radio has lost {self.counts.lost_by_radio} samples so far: lower its rate?")
        self._clock.stamp(offset, device_ns, begins=missing is None)

    def _warn(self, now_ns: int, text: str) -> None:
        if now_ns - self._warned_ns >= _NS_PER_S:
            self._warned_ns = now_ns
            log.warning("%s: %s", self._source.endpoint, text)


def _offset(tag: Tag) -> int:
    return tag.offset


def listen(stream: GnuRadioStream, socket: Receives, pacer: Pacer) -> None:
    """Hand a stream what a socket receives until the pacer ends it."""
    backlog = Backlog(socket, stream.queue_bytes, pacer.now_ns)
    while not pacer.is_over:
        message = backlog.receive(RECEIVE_TIMEOUT_MS)
        if message is None:
            stream.flush()
            continue
        stream.take(message.parts, pacer.now_ns(), is_stale=message.is_stale, empty_ns=message.empty_ns)
        backlog.limit_bytes = stream.queue_bytes
    stream.flush()


def play_gnuradio(source: GnuRadioSource, rate_hz: float, sender: StreamSender, pacer: Pacer) -> SampleAccounting:
    """Send what a flowgraph's sink publishes until the pacer ends it; return what became of the samples.

    Args:
        source: where the sink is, and what it sends.
        rate_hz: blocks a second.
        sender: the stream; told when the time stamps are the host's.
        pacer: says when to end.
    """
    stream = GnuRadioStream(source, rate_hz, sender)
    kept = max(LEAST_QUEUE, (stream.queue_bytes or 0) // MESSAGE_BYTES)
    with Subscriber(source.endpoint, high_water_mark=kept, pulls=source.sink == "push") as subscriber:
        listen(stream, subscriber, pacer)
    counts = stream.counts
    log.info(
        "%s: %d samples received and %d lost of %d from number %d on, in %d messages, %d refused;"
        " %d thrown away, too old; %d lost by the radio, %d restarts",
        *(source.endpoint, counts.received, counts.lost, counts.span, counts.joined_at, counts.messages),
        *(sum(counts.rejected.values()), counts.stale, counts.lost_by_radio, counts.restarts),
    )
    return counts
