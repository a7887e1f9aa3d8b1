"""A flight's events as its pipeline received them, so that exact replay infers the messages that were inferred then."""

import bisect
import dataclasses
import heapq
from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from edge.recording.flight_trace import MAX_MOVE_NS, FlightTrace, Key
from edge.recording.reader import Event


def key_of(event: Event) -> Key | None:
    """Return which message a sensor's event is; None for what is no sensor's."""
    return (event.stream, event.header.epoch, event.header.sequence) if event.header is not None else None


def as_received(events: Iterable[Event], trace: FlightTrace) -> Iterator[Event]:
    """Return events with the times, and in the order, in which the pipeline received them, as far as a trace tells.

    The recorder hears of a message a little before or after the pipeline. What the pipeline did not infer came after
    the last message that it did was taken, and before the next one; apart from that it is left where it is.

    Args:
        events: ordered by `log_ns`.
        trace: of the flight.
    """
    streams = _Arrivals(trace)
    waiting: list[tuple[int, int, Event]] = []
    for n, event in enumerate(events):
        while waiting and waiting[0][0] < event.log_ns - MAX_MOVE_NS:
            yield heapq.heappop(waiting)[2]
        arrived_ns = streams.arrival_ns(event)
        heapq.heappush(waiting, (arrived_ns, n, dataclasses.replace(event, log_ns=arrived_ns)))
    while waiting:
        yield heapq.heappop(waiting)[2]


class _Arrivals:
    """When the messages of each stream came to the pipeline."""

    def __init__(self, trace: FlightTrace) -> None:
        self._trace = trace
        self._arrived: dict[str, Sequence[int]] = {
            stream: array("q", np.sort(trace.turns(stream)[:, 0]).tobytes()) for stream in trace.streams
        }
        """Of each stream, when the messages came that were inferred, in the order of time."""
        self._earliest_ns: dict[str, int] = {}
        """Of each stream, when its next message can have come at the earliest."""
        self._followed_ns: dict[str, int] = {}
        """Of each stream, when the last one came that was inferred."""

    def arrival_ns(self, event: Event) -> int:
        """Return when the pipeline received a message; of what is no sensor's, when the recorder did."""
        key, log_ns = key_of(event), event.log_ns
        if key is None:
            return log_ns
        one = self._trace.of(key, log_ns)
        earliest_ns = self._earliest_ns.get(event.stream, log_ns - MAX_MOVE_NS)
        if one is not None:
            arrived_ns = max(one.arrived_ns, min(earliest_ns, one.taken_ns))
            self._earliest_ns[event.stream] = one.taken_ns + 1
            self._followed_ns[event.stream] = arrived_ns
            return arrived_ns
        times_ns = self._arrived.get(event.stream, ())
        place = bisect.bisect_right(times_ns, max(self._followed_ns.get(event.stream, 0), log_ns - MAX_MOVE_NS))
        latest_ns = times_ns[place] if place < len(times_ns) else log_ns
        arrived_ns = max(min(log_ns, latest_ns), min(earliest_ns, log_ns + MAX_MOVE_NS))
        self._earliest_ns[event.stream] = arrived_ns
        return arrived_ns
