"""A flight played again and again, as one that goes on."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import msgspec

from edge.recording.reader import Event, Recording
from edge.transport.messages import Pose, Truth

_LONGEST_PAUSE_NS = 1_000_000_000
_EPOCHS = 1 << 32


def lap_ns(recording: Recording) -> int:
    """Return after which time a recording begins anew: its length, and a period of its slowest sensor, at most 1 s."""
    rates_hz = [stream.rate_hz for stream in recording.streams.values() if stream.modality and stream.rate_hz]
    pause_ns = round(1e9 / min(rates_hz)) if rates_hz else _LONGEST_PAUSE_NS
    return recording.duration_ns + min(pause_ns, _LONGEST_PAUSE_NS)


def laps(
    recording: Recording, count: int | None, events: Callable[[Recording], Iterator[Event]] = Recording.events
) -> Iterator[Event]:
    """Yield a recording's events `count` times, or for ever; times go on, and the sources' epochs count the laps.

    Args:
        recording: the flight.
        count: of laps; None: no end.
        events: returns those of a lap.
    Raises:
        RecordingError: as `Recording.events`.
    """
    length_ns = lap_ns(recording)
    for lap in itertools.count() if count is None else range(count):
        for event in events(recording):
            yield _moved(event, lap, lap * length_ns) if lap else event


def _moved(event: Event, lap: int, by_ns: int) -> Event:
    header, message = event.header, event.message
    if header is not None:
        header = header._replace(epoch=(header.epoch + lap) % _EPOCHS, capture_ns=header.capture_ns + by_ns)
    if isinstance(message, Truth | Pose):
        message = msgspec.structs.replace(message, capture_ns=message.capture_ns + by_ns)
    return dataclasses.replace(event, log_ns=event.log_ns + by_ns, header=header, message=message)
