"""Plays a recording onto the endpoints of its streams, as if the sensors were there: live replay.

Capture and send times are moved into the present, scaled with the rate, so that everything downstream works as in
flight. When this machine is too slow for the rate, all streams are slowed together; none falls behind the others.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType

import msgspec

from edge.clock import SystemClock
from edge.recording.channels import SENSOR_KINDS, stream_name
from edge.recording.controls import Controls
from edge.recording.pacing import Pacer, PutOff
from edge.recording.played import Played
from edge.recording.reader import Event, Recording
from edge.transport.messages import Kind, Pose, Truth, pack
from edge.transport.sockets import BlockingPublisher, Publisher
from edge.transport.wire import FLAG_REPLAY, Header, Stamp, encode_bytes, encode_header
from models.errors import ConfigError, LinkError

LINGER_MS = 2_000
POSE = stream_name(Kind.POSE, "")
_MAX_TIME_NS = (1 << 63) - 1


class Player:
    """Binds the endpoints of a recording's streams and plays it once. Use as a context."""

    def __init__(
        self,
        recording: Recording,
        endpoints: Mapping[str, str],
        *,
        rate: float | None = 1.0,
        note: Callable[[Truth | Pose], None] | None = None,
        autopilot: Callable[[bytes, int], None] | None = None,
    ) -> None:
        """Bind the endpoints.

        Args:
            recording: the flight.
            endpoints: where to publish each sensor's stream, and the vehicle's poses as `pose`, if the recording has
                any; what is not named stays silent.
            rate: times real time; None: as fast as all listeners take it, without loss.
            note: told every truth and pose as it goes by, with times of the present.
            autopilot: sends the MAVLink frames; told each with the time of the present that it is due at.
        Raises:
            ConfigError: the recording has no such stream, or an endpoint or the rate is not usable.
            LinkError: an endpoint is taken.
        """
        sensors = [name for name, stream in recording.streams.items() if stream.kind in SENSOR_KINDS]
        absent = sorted(set(endpoints) - {*sensors, POSE})
        if absent:
            raise ConfigError(f"{recording.path}: no stream {', '.join(absent)}: it has {', '.join(sensors) or 'none'}")
        if rate is not None and not 0 < rate < math.inf:
            raise ConfigError(f"rate {rate}: expected above 0, such as 1 for real time")
        self._recording = recording
        self._note = note
        self._autopilot = autopilot
        self._clock = SystemClock()
        self.controls = Controls(rate)
        """What is asked of the player while it plays."""
        self._pacer = Pacer(self._clock, self.controls, recording.start_ns, _slowest(recording, endpoints))
        self._session = 0
        self._position_ns = 0
        self._publishers: dict[str, Publisher] = {}
        try:
            for stream, endpoint in endpoints.items():
                if stream not in recording.streams:
                    continue
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

    @property
    def position_ns(self) -> int:
        """How much of the recording has gone by, in its own time."""
        return self._position_ns

    def play(
        self,
        events: Iterator[Event] | None = None,
        begun: Callable[[int], object] = lambda _: None,
        note_put_off: Callable[[PutOff], object] = lambda _: None,
    ) -> Played:
        """Play to the end, or until the controls stop it; return what was played.

        Args:
            events: to play instead of the recording's own, ordered by `log_ns`: what became of them.
            begun: told when it began.
            note_put_off: told each time that the rest of the flight is put off, before what comes later is sent.
        """
        rate, counts = self.controls.rate, dict.fromkeys(self._publishers, 0)
        self._pacer.begin(note_put_off)
        begun(self._pacer.begin_ns)
        self._session = self._pacer.begin_ns & 0xFFFFFFFF
        is_whole = True
        for event in events if events is not None else self._recording.events():
            if not self._pacer.wait_for(event):
                is_whole = False
                break
            self._position_ns = event.log_ns - self._recording.start_ns
            if event.kind == Kind.MAVLINK and self._autopilot is not None:
                self._autopilot(event.payload, self._pacer.timeline.present_ns(event.log_ns))
                counts[event.stream] = counts.get(event.stream, 0) + 1
                continue
            parts = self._parts(event, counts.get(event.stream, 0))
            if parts is not None and event.stream in counts:
                if not self._send(event.stream, parts):
                    is_whole = False
                    break
                self._pacer.note_sent(event)
                counts[event.stream] += 1
        return Played(
            rate=rate,
            messages=counts,
            recorded_ns=self._position_ns,
            wall_ns=self._clock.now_ns() - self._pacer.begin_ns,
            paused_ns=self._pacer.paused_ns,
            put_off_ns=self._pacer.put_off_ns,
            spacing=self._pacer.spacing(),
            is_whole=is_whole,
        )

    def __enter__(self) -> "Player":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_all(LINGER_MS if error is None else 0)

    def _send(self, stream: str, parts: tuple[bytes, bytes]) -> bool:
        """Send a message, when nothing may be lost as soon as everybody has room; say whether nobody stopped that."""
        publisher = self._publishers[stream]
        if isinstance(publisher, BlockingPublisher):
            return publisher.send_while(lambda: not self.controls.is_stopped, parts)
        publisher.send(parts)
        return True

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
        return min(max(self._pacer.timeline.present_ns(recorded_ns), -_MAX_TIME_NS), _MAX_TIME_NS)

    def _close_all(self, linger_ms: int) -> None:
        for publisher in self._publishers.values():
            publisher.close(linger_ms=linger_ms)


def _slowest(recording: Recording, streams: Mapping[str, str]) -> str:
    """Return the slowest of some streams, whose messages pace the answers; empty where there is none."""
    return min(sorted(set(streams) - {POSE}), key=lambda name: recording.streams[name].rate_hz, default="")
