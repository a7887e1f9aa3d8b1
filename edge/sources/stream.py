"""The sending side of one stream: stamps and numbers each message, and keeps to due times.

Large arrays go out through shared memory where the stream has a ring, everything else through its socket.
"""

import logging
import math
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.clock import Clock, SystemClock
from edge.transport.messages import Kind
from edge.transport.ring import RingWriter, Slot
from edge.transport.sockets import Publisher
from edge.transport.wire import FLAG_RING, Stamp, encode_array, encode_bytes
from models.errors import ConfigError, OnboardError

log = logging.getLogger(__name__)

MAX_CRC_BYTES = 32 << 10
"""I/Q payloads up to here carry a checksum: 8 us on either side, a tenth of what the message costs anyway. At 256 KiB
it would be 62 us, more than all else, to find what a socket or memory of this machine does not do: change bytes."""
MAX_IMAGE_CRC_BYTES = 1 << 20
"""The same for encoded frames: a decoder makes a frame of a damaged JPEG without a word, and takes far longer."""
LATE_NS = 5_000_000
"""Waking later than this after a due time counts as late; a desktop kernel is 0.1 ms late as a rule."""
MIN_RING_BYTES = 64 << 10
"""Smaller payloads go through the socket, which takes as long for them as for a note."""
LISTENER_TIMEOUT_S = 10.0
_LONGEST_SLEEP_S = 0.05


class StreamSender:
    """Publishes the messages of one source. Buffers are not copied: leave them unchanged once sent.

    The epoch is new with each start, so that a receiver can tell a restart from lost messages.
    """

    def __init__(
        self,
        endpoint: str,
        stream_id: int,
        *,
        clock: Clock | None = None,
        publisher: Callable[[str], Publisher] = Publisher,
        flags: int = 0,
        max_message_bytes: int = 1 << 30,
        ring_slots: int = 0,
    ) -> None:
        """Bind the endpoint, and make a ring of `ring_slots` slots of `max_message_bytes` beside it, if any.

        Raises:
            LinkError, DeviceError: as Publisher and RingWriter.
        """
        self._clock = clock or SystemClock()
        self._publisher = publisher(endpoint)
        self._lent: dict[int, tuple[NDArray[Any], Slot]] = {}
        """Arrays that `blank` gave out, by id, and the slots they are in."""
        try:
            self._ring = RingWriter(endpoint, ring_slots, max_message_bytes) if ring_slots else None
        except OnboardError:
            self._publisher.close()
            raise
        self._stream_id = stream_id
        self.flags = flags
        """Of every message from now on, see edge.transport.wire."""
        self._max_message_bytes = max_message_bytes
        self.epoch = secrets.randbits(32)
        self.sequence = 0
        """Of the next message."""
        self.sent = 0
        """Messages so far."""

    @property
    def endpoint(self) -> str:
        """Where it publishes, with the port that `tcp://...:*` was given."""
        return self._publisher.endpoint

    def send_iq(self, samples: NDArray[Any], capture_ns: int, sample_rate_hz: float, centre_hz: float = 0.0) -> None:
        """Send I/Q, (samples, 2) of uint8, int8, int16 or float32; `capture_ns` is of the first sample.

        Raises:
            ConfigError: larger than the stream's `max_message_bytes`, as with the other two.
        """
        stamp = self._stamp(samples.nbytes, capture_ns)._replace(sample_rate_hz=sample_rate_hz, centre_hz=centre_hz)
        self._send_array(Kind.IQ, stamp, samples)

    def send_frame(self, bgr: NDArray[np.uint8], capture_ns: int) -> None:
        """Send a raw frame, (height, width, 3) BGR."""
        self._send_array(Kind.FRAME, self._stamp(bgr.nbytes, capture_ns), bgr)

    def send_encoded(self, image: bytes, capture_ns: int) -> None:
        """Send a JPEG or PNG file."""
        stamp = self._stamp(len(image), capture_ns)
        with_crc = len(image) <= MAX_IMAGE_CRC_BYTES
        self._publisher.send(encode_bytes(Kind.ENCODED_FRAME, stamp, image, with_crc=with_crc), keep=True)

    def blank(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Return an array to fill, and to send or to give back: in shared memory where the stream has a ring.

        What is sent as this very array, not as a view on it, is not copied. Do not touch it afterwards.

        Raises:
            ConfigError: larger than the stream's `max_message_bytes`.
        """
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        self._check_size(nbytes)
        slot = self._reserve(nbytes)
        if slot is None:
            return np.empty(shape, dtype)
        array = np.frombuffer(slot.view, dtype).reshape(shape)
        self._lent[id(array)] = (array, slot)
        return array

    def give_back(self, array: NDArray[Any]) -> None:
        """Take back an array of `blank` that will not be sent; any other array is none of its business."""
        lent = self._lent.pop(id(array), None)
        if lent is not None and self._ring is not None:
            self._ring.cancel(lent[1])

    def note_loss(self, messages: int = 1) -> None:
        """Skip sequence numbers for what the device lost, so that the receiver counts it."""
        self.sequence = (self.sequence + messages) & 0xFFFF_FFFF

    def restart(self) -> None:
        """Begin a new epoch, as where the sensor behind this source was started again."""
        self.epoch = secrets.randbits(32)
        self.sequence = 0

    def wait_for_listeners(self, count: int, timeout_s: float) -> bool:
        """Wait until `count` subscribers are connected; say whether they came in time."""
        return self._publisher.wait_for_listeners(count, timeout_s)

    def close(self) -> None:
        """Close the socket; what was not sent yet is dropped."""
        self._publisher.close()
        if self._ring is not None:
            self._ring.close()

    def _send_array(self, kind: Kind, stamp: Stamp, array: NDArray[Any]) -> None:
        if self._ring is not None and array.nbytes >= MIN_RING_BYTES:
            noted = stamp._replace(flags=stamp.flags | FLAG_RING)
            header, payload = encode_array(kind, noted, array)
            slot = self._filled_slot(array, payload)
            if slot is not None:
                self._publisher.send((header, self._ring.commit(slot)))
                return
        with_crc = kind == Kind.IQ and array.nbytes <= MAX_CRC_BYTES
        self._publisher.send(encode_array(kind, stamp, array, with_crc=with_crc), keep=True)

    def _filled_slot(self, array: NDArray[Any], payload: memoryview) -> Slot | None:
        """Return the slot that holds an array: the one it is in, or one that it is copied to."""
        lent = self._lent.pop(id(array), None)
        if lent is not None:
            return lent[1]
        slot = self._reserve(len(payload))
        if slot is not None:
            slot.view[:] = payload
        return slot

    def _reserve(self, nbytes: int) -> Slot | None:
        if self._ring is None or nbytes < MIN_RING_BYTES:
            return None
        return self._ring.reserve(nbytes)

    def _check_size(self, payload_bytes: int) -> None:
        if payload_bytes > self._max_message_bytes:
            raise ConfigError(
                f"message of {payload_bytes} bytes for a stream with max_message_bytes {self._max_message_bytes}, which"
                " its receiver would refuse: raise max_message_bytes, or send less (jpeg_quality, lower rate or size)"
            )

    def _stamp(self, payload_bytes: int, capture_ns: int) -> Stamp:
        self._check_size(payload_bytes)
        sequence = self.sequence
        self.sequence = (sequence + 1) & 0xFFFF_FFFF
        self.sent += 1
        return Stamp(self._stream_id, self.epoch, sequence, capture_ns, self._clock.now_ns(), self.flags)


class Pacer:
    """Sleeps until due times of the clock, so that no delay adds up; ends when told to stop or when its time is over.

    It looks at `stop` and never waits for it: an event that a signal handler sets while the same thread is about to
    wait for it can lock that thread for good.
    """

    def __init__(
        self,
        stop: threading.Event,
        *,
        limit_s: float | None = None,
        clock: Clock | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._stop = stop
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._end_ns = None if limit_s is None else self._clock.now_ns() + round(limit_s * 1e9)
        self.late = 0
        """How often a due time had passed by more than LATE_NS on return."""

    def now_ns(self) -> int:
        """Return the time that due times are compared with."""
        return self._clock.now_ns()

    @property
    def is_over(self) -> bool:
        """Whether to end."""
        return self._stop.is_set() or (self._end_ns is not None and self._clock.now_ns() >= self._end_ns)

    def wait_until(self, due_ns: int) -> bool:
        """Sleep until `due_ns`; say whether to go on."""
        while not self.is_over:
            left_s = (due_ns - self._clock.now_ns()) * 1e-9
            if left_s <= 0:
                self.late += left_s * 1e9 < -LATE_NS
                return True
            self._sleep(min(left_s, _LONGEST_SLEEP_S))
        return False


def await_listener(sender: StreamSender, pacer: Pacer) -> None:
    """Wait until somebody listens, at most LISTENER_TIMEOUT_S: for what is played only once."""
    due_ns = pacer.now_ns() + round(LISTENER_TIMEOUT_S * 1e9)
    while not pacer.is_over and not sender.wait_for_listeners(1, _LONGEST_SLEEP_S):
        if pacer.now_ns() >= due_ns:
            log.warning("nobody listens to %s after %.0f s: playing to nobody", sender.endpoint, LISTENER_TIMEOUT_S)
            return
