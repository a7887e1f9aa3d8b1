"""What the autopilot of a recorded flight sent: its frames as they were recorded, or made of the poses."""

import heapq
import itertools
from collections import deque
from collections.abc import Iterator

from edge.mavlink.logs.pose_frames import PoseFrames
from edge.mavlink.wire import frame_times
from edge.recording.channels import stream_name
from edge.recording.reader import Event, Recording
from edge.transport.messages import Kind, Pose
from models.errors import ConfigError

RECEIVED = stream_name(Kind.MAVLINK, "rx")
_POSE = stream_name(Kind.POSE, "")
_LOOK_AHEAD_NS = 5_000_000_000
_DRIFT = 1e-4
"""More than two crystals differ by."""
_LONGEST_DELAY_NS = 4_000_000_000
"""A frame cannot have been under way for longer: the clock in it was set anew."""
_US = 1_000


def check_telemetry(recording: Recording) -> None:
    """Refuse a recording of which nobody knows where the vehicle was.

    Raises:
        ConfigError: it is one.
    """
    if RECEIVED not in recording.streams and _POSE not in recording.streams:
        raise ConfigError(f"{recording.path}: neither MAVLink nor poses in it: import a flight log with --pose")


def events_with_telemetry(recording: Recording) -> Iterator[Event]:
    """Yield a recording's events, its MAVLink frames when they were sent; without any, those of its poses.

    Raises:
        RecordingError: as `Recording.events`.
    """
    others = recording.events(set(recording.streams) - {RECEIVED})
    sent = _sent(recording) if RECEIVED in recording.streams else _made(recording)
    return heapq.merge(others, sent, key=lambda event: event.log_ns)


def _sent(recording: Recording) -> Iterator[Event]:
    """Yield the frames of the vehicle by the time of its autopilot, as far as that tells; arrivals are late in bursts.

    What others on the link sent is left out, and TIMESYNC, which answers questions of then.
    """
    events = _of_vehicle(recording.events({RECEIVED}))
    head: deque[Event] = deque(itertools.islice(events, 1))
    for event in events:
        head.append(event)
        if event.log_ns - head[0].log_ns > _LOOK_AHEAD_NS:
            break
    delays_ns = [event.log_ns - own_ns for event in head if (own_ns := _own_ns(event)) is not None]
    offset_ns = min(delays_ns, default=0)
    last_ns = before_ns = recording.start_ns
    for event in itertools.chain(head, events):
        own_ns = _own_ns(event)
        if own_ns is not None:
            offset_ns += round((event.log_ns - before_ns) * _DRIFT)
            offset_ns = min(offset_ns, event.log_ns - own_ns)
            if event.log_ns - (own_ns + offset_ns) > _LONGEST_DELAY_NS:
                offset_ns = event.log_ns - own_ns
            last_ns, before_ns = max(own_ns + offset_ns, last_ns), event.log_ns
        yield _at(last_ns, event.payload)


def _of_vehicle(events: Iterator[Event]) -> Iterator[Event]:
    """Yield whole frames of the system whose autopilot is heard first."""
    system: int | None = None
    for event in events:
        if not frame_times.is_whole(event.payload):
            continue
        ids = frame_times.sender(event.payload)
        if system is None and ids[1] == frame_times.AUTOPILOT:
            system = ids[0]
        if ids[0] == system and not frame_times.is_timesync(event.payload):
            yield event


def _own_ns(event: Event) -> int | None:
    """Return a frame's own time where it is the autopilot's."""
    if frame_times.sender(event.payload)[1] != frame_times.AUTOPILOT:
        return None
    own_us = frame_times.since_boot_us(event.payload)
    return own_us * _US if own_us is not None else None


def _made(recording: Recording) -> Iterator[Event]:
    made = PoseFrames(recording.start_ns, recording.utc_offset_ns)
    at_ns = recording.start_ns
    for event in recording.events({_POSE}):
        if isinstance(event.message, Pose):
            at_ns = min(max(event.message.capture_ns, at_ns), event.log_ns)
            for frame in made.frames(event.message):
                yield _at(at_ns, frame)


def _at(log_ns: int, frame: bytes) -> Event:
    return Event(log_ns=log_ns, kind=Kind.MAVLINK, stream=RECEIVED, header=None, payload=frame, message=None)
