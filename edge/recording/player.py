"""Plays a recording onto the endpoints of its streams, as if the sensors were there: live replay.

Capture and send times are moved into the present, scaled with the rate, so that everything downstream works as in
flight. When this machine is too slow for the rate, all streams are slowed together; none falls behind the others.
"""

import collections
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType

import msgspec

from edge.clock import Clock, SystemClock
from edge.recording.channels import SENSOR_KINDS, stream_name
from edge.recording.reader import Event, Recording
from edge.transport.messages import Kind, Pose, Truth, pack
from edge.transport.sockets import BlockingPublisher, Publisher
from edge.transport.wire import FLAG_REPLAY, Header, Stamp, encode_bytes, encode_header
from models.errors import ConfigError, LinkError

MAX_LATE_NS = 20_000_000
"""Later than this, the rest of the flight is put off instead of being hurried."""
LINGER_MS = 2_000
_REMEMBERED_MOMENTS = 512
_POSE = stream_name(Kind.POSE, "")
_MAX_TIME_NS = (1 << 63) - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Played:
    """What was played."""

    messages: dict[str, int]
    """Sent, by stream."""
    recorded_ns: int
    """Time of the recording that went by."""
    wall_ns: int
    """How long that took."""


class Player:
    """Binds the endpoints of a recording's streams and plays it once. Use as a context."""

    def __init__(
        self,
        recording: Recording,
        endpoints: Mapping[str, str],
        *,
        rate: float | None = 1.0,
        pose: str | None = None,
        note: Callable[[Truth | Pose], None] | None = None,
    ) -> None:
        """Bind the endpoints.

        Args:
            recording: the flight.
            endpoints: where to publish each sensor's stream; what is not named stays silent.
            rate: times real time; None: as fast as all listeners take it, without loss.
            pose: where to publish the vehicle's poses, if the recording has any.
            note: told every truth and pose as it goes by, with times of the present.
        Raises:
            ConfigError: the recording has no such stream, or an endpoint or the rate is not usable.
            LinkError: an endpoint is taken.
        """
        sensors = [name for name, stream in recording.streams.items() if stream.kind in SENSOR_KINDS]
        absent = sorted(set(endpoints) - set(sensors))
        if absent:
            raise ConfigError(f"{recording.path}: no stream {', '.join(absent)}: it has {', '.join(sensors) or 'none'}")
        if rate is not None and not rate > 0:
            raise ConfigError(f"rate {rate}: expected above 0")
        self._recording = recording
        self._note = note
        self._clock = SystemClock()
        self._timeline: _PacedTimeline | _FastTimeline = (
            _FastTimeline(self._clock) if rate is None else _PacedTimeline(self._clock, rate, recording.start_ns)
        )
        self._session = 0
        self._publishers: dict[str, Publisher] = {}
        if pose is not None and _POSE in recording.streams:
            endpoints = {**endpoints, _POSE: pose}
        try:
            for stream, endpoint in endpoints.items():
                self._publishers[stream] = BlockingPublisher(endpoint) if rate is None else Publisher(endpoint)
        except (ConfigError, LinkError):
            self._close_all(0)
            raise

    def wait_for_listeners(self, timeout_s: float) -> None:
        """Wait until somebody listens to each endpoint.

        Raises:
            LinkError: nobody came.
        """
        deadline_s = time.monotonic() + timeout_s
        for stream, publisher in self._publishers.items():
            if not publisher.wait_for_listeners(1, max(deadline_s - time.monotonic(), 0.0)):
                raise LinkError(
                    f"{publisher.endpoint}: nobody listens to stream {stream} after {timeout_s} s: start the pipeline"
                )

    def play(self, stop: threading.Event | None = None, events: Iterator[Event] | None = None) -> Played:
        """Play to the end, or until `stop` is set; return what was played.

        Args:
            stop: looked at before each event.
            events: to play instead of the recording's own, ordered by `log_ns`: what became of them.
        """
        stop = stop or threading.Event()
        counts = dict.fromkeys(self._publishers, 0)
        start_ns = self._clock.now_ns()
        self._session = start_ns & 0xFFFFFFFF
        self._timeline.begin()
        first_ns = last_ns = self._recording.start_ns
        for event in events if events is not None else self._recording.events():
            if not self._timeline.wait_until(event.log_ns, stop):
                break
            last_ns = event.log_ns
            parts = self._parts(event, counts.get(event.stream, 0))
            if parts is not None and event.stream in counts:
                self._publishers[event.stream].send(parts)
                counts[event.stream] += 1
        return Played(messages=counts, recorded_ns=last_ns - first_ns, wall_ns=self._clock.now_ns() - start_ns)

    def __enter__(self) -> "Player":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_all(LINGER_MS if error is None else 0)

    def _parts(self, event: Event, sequence: int) -> tuple[bytes, bytes] | None:
        """Return an event as a message of the present, or None for what no sensor sent; tell truths and poses on."""
        if event.header is not None:
            return encode_header(self._restamped(event.header)), event.payload
        if not isinstance(event.message, Truth | Pose):
            return None
        moved = msgspec.structs.replace(event.message, capture_ns=self._present_ns(event.message.capture_ns))
        if self._note is not None:
            self._note(moved)
        stamp = Stamp(0, self._session, sequence, moved.capture_ns, self._clock.now_ns(), FLAG_REPLAY)
        return encode_bytes(event.kind, stamp, pack(moved))

    def _restamped(self, header: Header) -> Header:
        """Return a header of the present. Another epoch each time: sequence numbers begin anew."""
        return header._replace(
            flags=header.flags | FLAG_REPLAY,
            epoch=(header.epoch + self._session) & 0xFFFFFFFF,
            capture_ns=self._present_ns(header.capture_ns),
            send_ns=self._clock.now_ns(),
        )

    def _present_ns(self, recorded_ns: int) -> int:
        """Return a time of the present that fits the wire, whatever a faulty source had claimed."""
        return min(max(self._timeline.present_ns(recorded_ns), -_MAX_TIME_NS), _MAX_TIME_NS)

    def _close_all(self, linger_ms: int) -> None:
        for publisher in self._publishers.values():
            publisher.close(linger_ms=linger_ms)


class _PacedTimeline:
    """Recorded time against the present at a fixed rate."""

    def __init__(self, clock: Clock, rate: float, recorded_start_ns: int) -> None:
        self._clock = clock
        self._rate = rate
        self._recorded_start_ns = recorded_start_ns
        self._start_ns = 0

    def begin(self) -> None:
        self._start_ns = self._clock.now_ns()

    def present_ns(self, recorded_ns: int) -> int:
        return self._start_ns + round((recorded_ns - self._recorded_start_ns) / self._rate)

    def wait_until(self, recorded_ns: int, stop: threading.Event) -> bool:
        """Wait for a moment of the recording; say whether it came before `stop`. Too late: put off all that follows."""
        wait_ns = self.present_ns(recorded_ns) - self._clock.now_ns()
        if wait_ns > 0:
            return not stop.wait(wait_ns / 1e9)
        if wait_ns < -MAX_LATE_NS:
            self._start_ns -= wait_ns
        return not stop.is_set()


class _FastTimeline:
    """Recorded time against the present when the listeners set the pace: remembers which moment was when."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._moments: collections.deque[tuple[int, int]] = collections.deque(maxlen=_REMEMBERED_MOMENTS)

    def begin(self) -> None:
        self._moments.clear()

    def present_ns(self, recorded_ns: int) -> int:
        """Return when a recorded moment went by here, between the two events around it."""
        after = self._moments[-1]
        for moment in reversed(self._moments):
            if moment[0] <= recorded_ns:
                span_ns = after[0] - moment[0]
                part = (recorded_ns - moment[0]) / span_ns if span_ns else 0.0
                return moment[1] + round(part * (after[1] - moment[1]))
            after = moment
        return after[1] - (after[0] - recorded_ns)

    def wait_until(self, recorded_ns: int, stop: threading.Event) -> bool:
        self._moments.append((recorded_ns, self._clock.now_ns()))
        return not stop.is_set()
