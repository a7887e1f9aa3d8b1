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
from edge.config import RECORDED_TOPICS, FlightConfig, RecordingConfig
from edge.recording.channels import MESSAGE_TYPES, SENSOR_KINDS, STREAM_NAME_RULE, is_stream_name, stream_name
from edge.recording.courtesy import Courtesy
from edge.recording.flight_files import DISK_FULL, FlightFiles
from edge.transport.inbox import Inbox, Payload, open_inbox
from edge.transport.messages import Kind, RecorderStatus, pack, unpack
from edge.transport.ring import Loan
from edge.transport.sockets import Buffer, Publisher, Subscriber
from edge.transport.wire import FLAG_RING, Header, Reason, Stamp, encode_bytes, encode_header
from models.errors import ConfigError, InputError, RecordingError

log = logging.getLogger(__name__)

RECEIVE_TIMEOUT_MS = 100
TEND_PERIOD_S = 1.0
CHECKS = 10
"""Looks in a period whether the threads that record keep up."""
DRAIN_TIMEOUT_MS = 20
DRAIN_S = 0.5
"""After a stop, what was sent before it is still recorded, but not for longer."""
COUNT_S = 0.5
"""After that, it is only counted, but not for longer."""
TOO_LATE = "too_late"
RESULTS = "results"
POSE = "pose"
MAVLINK = "mavlink"
RECEIVED = stream_name(Kind.MAVLINK, "rx")
_OWN = stream_name(Kind.RECORDER, "")
_Record = Callable[[str, Header, Buffer, int], str | None]
"""Takes stream, header, payload and time of reception; returns why it refuses, if it does."""


@dataclass(kw_only=True, slots=True)
class Tally:
    """What became of one stream."""

    recorded: int = 0
    recorded_bytes: int = 0
    """Of the payloads that were taken, also where a disk that was full lost them again."""
    lost: int = 0
    """Sent, but never received here: gaps in the sequence numbers of one epoch."""
    refused: Counter[str] = field(default_factory=Counter)
    """Received but not recorded, by reason."""
    left_out: int = 0
    """Not wanted by `recording.topics` and `recording.every`."""
    last: Header | None = None
    """Of the last message."""

    @property
    def dropped(self) -> int:
        """Messages that should be in the recording and are not."""
        return self.lost + self.refused.total()

    def note_sequence(self, header: Header) -> None:
        """Count what is missing before a message."""
        if self.last is not None and self.last.epoch == header.epoch:
            self.lost += max(header.sequence - self.last.sequence - 1, 0)
        self.last = header


class Recorder:
    """Records every stream of a deployment, its results and poses, until it is stopped."""

    def __init__(
        self, config: FlightConfig, files: FlightFiles, clock: Clock | None = None, courtesy: Courtesy | None = None
    ) -> None:
        """Connect to every endpoint of which anything is wanted.

        Args:
            config: the deployment.
            files: what to record into.
            clock: by default the system's.
            courtesy: of the threads that record; by default they run as any others.

        Raises:
            ConfigError: a stream has a name that no recording can hold.
            LinkError: the endpoint `recording.status` is taken.
        """
        for name in config.streams:
            if name == RESULTS or not is_stream_name(name):
                raise ConfigError(f"stream {name!r}: expected a name of {STREAM_NAME_RULE}, nor {RESULTS}: rename it")
        self._files = files
        self._wanted = config.recording or RecordingConfig(directory=".")
        self._news = _News(self._wanted.status) if self._wanted.status is not None else None
        self._seen: Counter[int] = Counter()
        """Answers, statuses and the like received, by kind."""
        self._clock = clock or SystemClock()
        self._courtesy = courtesy
        self._stopping = threading.Event()
        self._stopped_ns = 0
        self._failure: RecordingError | None = None
        self.tallies: dict[str, Tally] = {}
        """By stream; `results`, `pose` and `mavlink/rx` too."""
        self._threads: list[threading.Thread] = []
        for name, stream in config.streams.items():
            if self._wanted.takes(name):
                self._add(name, open_inbox(stream, held_s=1.0), self._record_sensor)
        if any(self._wanted.takes(topic) for topic in RECORDED_TOPICS):
            self._add(RESULTS, Inbox(Subscriber(config.results, high_water_mark=1_000)), self._record_message)
        if config.pose is not None and self._wanted.takes(POSE):
            self._add(POSE, Inbox(Subscriber(config.pose)), self._record_message)
        received = config.mavlink.received if config.mavlink is not None else None
        if received is not None and self._wanted.takes(MAVLINK):
            self._add(RECEIVED, Inbox(Subscriber(received, high_water_mark=1_000)), self._record_frame)

    def run(self, stop: threading.Event) -> None:
        """Record until `stop` is set, then what has arrived until then. To be called once.

        Raises:
            RecordingError: the disk failed; what was recorded before is saved. A full one is waited for.
        """
        try:
            self._run(stop)
        finally:
            if self._news is not None:
                self._news.close()

    def _run(self, stop: threading.Event) -> None:
        for thread in self._threads:
            thread.start()
        told = 0
        while not self._has_to_stop(stop):
            self._tend()
            dropped = sum(tally.dropped for tally in self.tallies.values())
            if dropped > told:
                log.warning("%d messages not recorded in the last second: %d in all", dropped - told, dropped)
            told = dropped
        self._stopped_ns = self._clock.now_ns()
        if self._courtesy is not None:
            self._courtesy.hurry()
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._book_unwritten()
        if self._failure is not None:
            raise self._failure
        self._files.write_message(self.status(), self._clock.now_ns())

    def _has_to_stop(self, stop: threading.Event) -> bool:
        """Wait for a second; say whether it is time to stop."""
        for _ in range(CHECKS):
            if stop.wait(TEND_PERIOD_S / CHECKS) or self._failure is not None:
                return True
            if self._courtesy is not None:
                self._courtesy.check()
        return False

    def status(self) -> RecorderStatus:
        """Return how the recording goes."""
        return RecorderStatus(
            time_ns=self._clock.now_ns(),
            free_bytes=self._files.free_bytes(),
            pause=self._files.pause,
            recorded={name: tally.recorded for name, tally in self.tallies.items()},
            lost={name: tally.lost for name, tally in self.tallies.items()},
            refused={name: tally.refused.total() for name, tally in self.tallies.items()},
        )

    def _add(self, name: str, inbox: Inbox, record: _Record) -> None:
        self.tallies[name] = Tally()
        arguments = (name, inbox, record)
        self._threads.append(threading.Thread(target=self._listen, name=f"record-{name}", args=arguments, daemon=True))

    def _listen(self, name: str, inbox: Inbox, record: _Record) -> None:
        if self._courtesy is not None:
            self._courtesy.join()
        with inbox:
            while self._failure is None and not self._stopping.is_set():
                received = inbox.receive_unchecked(RECEIVE_TIMEOUT_MS)
                if received is not None:
                    self._take(name, received, record)
                if self._courtesy is not None:
                    self._courtesy.note(self._lag_ns(received))
            self._drain(name, inbox, record)
        if self._courtesy is not None:
            self._courtesy.leave()

    def _lag_ns(self, received: tuple[Header, Payload] | Reason | None) -> int:
        """Return how long ago a message was sent, 0 where there is none."""
        return self._clock.now_ns() - received[0].send_ns if isinstance(received, tuple) else 0

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
        if not self._is_wanted(name, header):
            tally.left_out += 1
            return
        if isinstance(payload, Loan):
            copy = bytes(payload.view)
            if not payload.is_intact():
                tally.refused[Reason.OVERWRITTEN] += 1
                return
            header, payload = header._replace(flags=header.flags & ~FLAG_RING), copy
        try:
            refusal = record(name, header, payload, log_ns)
        except RecordingError as error:
            self._failure = self._failure or error
            return
        if refusal is not None:
            tally.refused[refusal] += 1
            return
        tally.recorded += 1
        tally.recorded_bytes += len(payload)

    def _is_wanted(self, name: str, header: Header) -> bool:
        """Say whether a message is recorded: sensors' by number, so that gaps can be told, others in turn."""
        if header.kind in SENSOR_KINDS:
            return header.sequence % self._wanted.every.get(name, 1) == 0
        topic = Kind(header.kind).name.lower()
        self._seen[header.kind] += 1
        every = self._wanted.every.get(topic, 1)
        return self._wanted.takes(topic) and (self._seen[header.kind] - 1) % every == 0

    def _record_sensor(self, name: str, header: Header, payload: Buffer, log_ns: int) -> str | None:
        """Record a message of a sensor as it came, also where its payload contradicts its header: replay refuses it."""
        if header.kind not in SENSOR_KINDS:
            return Reason.KIND
        return self._files.write_sensor(name, header, encode_header(header), payload, log_ns)

    def _record_message(self, name: str, header: Header, payload: Buffer, log_ns: int) -> str | None:
        kind = MESSAGE_TYPES.get(Kind(header.kind))
        if kind is None:
            return Reason.KIND
        try:
            message = unpack(payload, kind)
        except InputError:
            return Reason.DECODE
        return self._files.write_message(message, log_ns)

    def _record_frame(self, name: str, header: Header, payload: Buffer, log_ns: int) -> str | None:
        if header.kind != Kind.MAVLINK:
            return Reason.KIND
        return self._files.write_mavlink(bytes(payload), log_ns)

    def _tend(self) -> None:
        try:
            status = self.status()
            self._files.write_message(status, status.time_ns)
            if self._news is not None:
                self._news.send(status)
            self._files.tend(self.status)
        except RecordingError as error:
            self._failure = self._failure or error
        self._book_unwritten()

    def _book_unwritten(self) -> None:
        """Take back what was counted as recorded, but was lost when the disk was full."""
        for name in list(self._files.unwritten):
            count = self._files.unwritten.pop(name)
            tally = self.tallies.get(name) or self.tallies.get(RESULTS)
            if tally is not None and name != _OWN:
                tally.recorded -= count
                tally.refused[DISK_FULL] += count


class _News:
    """Publishes how the recording goes."""

    def __init__(self, endpoint: str) -> None:
        self._publisher = Publisher(endpoint)
        self._epoch = time.monotonic_ns() & 0xFFFFFFFF
        self._sequence = 0

    def send(self, status: RecorderStatus) -> None:
        stamp = Stamp(0, self._epoch, self._sequence, status.time_ns, status.time_ns)
        self._publisher.send(encode_bytes(Kind.RECORDER, stamp, pack(status)))
        self._sequence += 1

    def close(self) -> None:
        self._publisher.close()


def _refuse(name: str, header: Header, payload: Buffer, log_ns: int) -> str:
    return TOO_LATE
