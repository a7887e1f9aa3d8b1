"""Listens to all of a flight's streams and records them: a process of its own, which never slows a source down.

Where the disk cannot keep up, messages are lost at the sockets; gaps in their sequence numbers tell how many.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from edge.clock import Clock, SystemClock
from edge.config import FlightConfig
from edge.recording.channels import MESSAGE_TYPES, SENSOR_KINDS, STREAM_NAME_RULE, is_stream_name
from edge.recording.writer import RecordingWriter
from edge.transport.inbox import Inbox, Payload, open_inbox
from edge.transport.messages import Kind, unpack
from edge.transport.ring import Loan
from edge.transport.sockets import HIGH_WATER_MARK, Buffer, Subscriber
from edge.transport.wire import FLAG_RING, Header, Reason, encode_header
from models.errors import ConfigError, InputError, RecordingError

log = logging.getLogger(__name__)

RECEIVE_TIMEOUT_MS = 100
FLUSH_PERIOD_S = 1.0
DRAIN_TIMEOUT_MS = 20
DRAIN_S = 0.5
"""After a stop, what was sent before it is still recorded, but not for longer."""
COUNT_S = 0.5
"""After that, it is only counted, but not for longer."""
TOO_LATE = "too_late"
RESULTS = "results"
POSE = "pose"
_Record = Callable[[str, Header, Buffer, int], str | None]
"""Takes stream, header, payload and time of reception; returns why it refuses, if it does."""


@dataclass(kw_only=True, slots=True)
class Tally:
    """What became of one stream."""

    recorded: int = 0
    recorded_bytes: int = 0
    lost: int = 0
    """Sent, but never received here: gaps in the sequence numbers of one epoch."""
    refused: Counter[str] = field(default_factory=Counter)
    """Received but not recorded, by reason."""
    last: Header | None = None
    """Of the last message."""

    def note_sequence(self, header: Header) -> None:
        """Count what is missing before a message."""
        if self.last is not None and self.last.epoch == header.epoch:
            self.lost += max(header.sequence - self.last.sequence - 1, 0)
        self.last = header


class Recorder:
    """Records every stream of a deployment, its results and poses, until it is stopped."""

    def __init__(self, config: FlightConfig, writer: RecordingWriter, clock: Clock | None = None) -> None:
        """Connect to every endpoint.

        Raises:
            ConfigError: a stream has a name that no recording can hold.
        """
        for name in config.streams:
            if name == RESULTS or not is_stream_name(name):
                raise ConfigError(f"stream {name!r}: expected a name of {STREAM_NAME_RULE}, nor {RESULTS}: rename it")
        self._writer = writer
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._stopped_ns = 0
        self._failure: RecordingError | None = None
        self.tallies: dict[str, Tally] = {}
        """By stream; `results` and `pose` too."""
        self._threads: list[threading.Thread] = []
        for name, stream in config.streams.items():
            waiting = max(HIGH_WATER_MARK, round(stream.rate_hz))
            self._add(name, open_inbox(stream, high_water_mark=waiting), self._record_sensor)
        self._add(RESULTS, Inbox(Subscriber(config.results, high_water_mark=1_000)), self._record_message)
        if config.pose is not None:
            self._add(POSE, Inbox(Subscriber(config.pose)), self._record_message)

    def run(self, stop: threading.Event) -> None:
        """Record until `stop` is set, then what has arrived until then.

        Raises:
            RecordingError: the disk is full or failed; what was recorded before is saved.
        """
        for thread in self._threads:
            thread.start()
        lost = 0
        while not stop.wait(FLUSH_PERIOD_S) and self._failure is None:
            self._flush()
            lost_now = sum(tally.lost for tally in self.tallies.values())
            if lost_now > lost:
                log.warning("%d messages lost on the way here in the last second: %d in all", lost_now - lost, lost_now)
            lost = lost_now
        self._stopped_ns = self._clock.now_ns()
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def _add(self, name: str, inbox: Inbox, record: _Record) -> None:
        self.tallies[name] = Tally()
        arguments = (name, inbox, record)
        self._threads.append(threading.Thread(target=self._listen, name=f"record-{name}", args=arguments, daemon=True))

    def _listen(self, name: str, inbox: Inbox, record: _Record) -> None:
        with inbox:
            while self._failure is None and not self._stopping.is_set():
                received = inbox.receive_unchecked(RECEIVE_TIMEOUT_MS)
                if received is not None:
                    self._take(name, received, record)
            self._drain(name, inbox, record)

    def _drain(self, name: str, inbox: Inbox, record: _Record) -> None:
        """Record what was sent before the stop while there is time, then count it."""
        for take, limit_s in ((record, DRAIN_S), (_refuse, COUNT_S)):
            if self._take_rest(name, inbox, take, time.monotonic() + limit_s):
                return

    def _take_rest(self, name: str, inbox: Inbox, take: _Record, until_s: float) -> bool:
        """Take what was sent before the stop; say whether that was all. The first one after it tells what was lost."""
        while self._failure is None and time.monotonic() < until_s:
            received = inbox.receive_unchecked(DRAIN_TIMEOUT_MS)
            if received is None:
                return True
            self._take(name, received, take)
            last = self.tallies[name].last
            if last is not None and last.send_ns > self._stopped_ns:
                return True
        return False

    def _take(self, name: str, received: tuple[Header, Payload] | Reason, record: _Record) -> None:
        tally = self.tallies[name]
        log_ns = self._clock.now_ns()
        if isinstance(received, Reason):
            tally.refused[received] += 1
            return
        header, payload = received
        tally.note_sequence(header)
        if isinstance(payload, Loan):
            copy = bytes(payload.view)
            if not payload.is_intact():
                tally.refused[Reason.OVERWRITTEN] += 1
                return
            header, payload = header._replace(flags=header.flags & ~FLAG_RING), copy
        try:
            with self._lock:
                refusal = record(name, header, payload, log_ns)
        except RecordingError as error:
            self._failure = self._failure or error
            return
        if refusal is not None:
            tally.refused[refusal] += 1
            return
        tally.recorded += 1
        tally.recorded_bytes += len(payload)

    def _record_sensor(self, name: str, header: Header, payload: Buffer, log_ns: int) -> Reason | None:
        """Record a message of a sensor as it came, also where its payload contradicts its header: replay refuses it."""
        if header.kind not in SENSOR_KINDS:
            return Reason.KIND
        self._writer.write_sensor(name, header, encode_header(header), payload, log_ns)
        return None

    def _record_message(self, name: str, header: Header, payload: Buffer, log_ns: int) -> Reason | None:
        kind = MESSAGE_TYPES.get(Kind(header.kind))
        if kind is None:
            return Reason.KIND
        try:
            message = unpack(payload, kind)
        except InputError:
            return Reason.DECODE
        self._writer.write_message(message, log_ns)
        return None

    def _flush(self) -> None:
        try:
            with self._lock:
                self._writer.flush()
        except RecordingError as error:
            self._failure = self._failure or error


def _refuse(name: str, header: Header, payload: Buffer, log_ns: int) -> str:
    return TOO_LATE
