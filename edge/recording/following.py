"""A flight's own trace, so that exact replay infers the very messages that were inferred in flight, when they were."""

import bisect
import dataclasses
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from edge.recording.reader import Event
from edge.transport.messages import Inference, Trace

MAX_MOVE_NS = 500_000_000
"""Pipeline and recorder hear of a message at most so far apart; more than what sockets hold."""
MAX_TAKEN_NS = 60_000_000_000
"""A trace that says a message waited and was inferred for longer is not believed."""

Key = tuple[str, int, int]
"""Stream, epoch and sequence number: a message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FlightTrace:
    """What is known of a flight's inferences."""

    inferences: Mapping[Key, Inference] = field(default_factory=dict)
    modalities: frozenset[str] = frozenset()
    """Of which it tells everything."""
    begins_ns: Sequence[int] = ()
    """Of stretches in which everything that was inferred is known, in the order of time, without overlap."""
    ends_ns: Sequence[int] = ()

    def of(self, key: Key, arrived_ns: int) -> Inference | None:
        """Return what became of a message that arrived about then; None where it was not inferred."""
        one = self.inferences.get(key)
        return one if one is not None and abs(one.arrived_ns - arrived_ns) <= MAX_MOVE_NS else None

    def covers(self, modality: str, at_ns: int) -> bool:
        """Say whether everything of a modality that was inferred at a time is known."""
        place = bisect.bisect_right(self.begins_ns, at_ns) - 1
        return modality in self.modalities and place >= 0 and at_ns < self.ends_ns[place]


NO_TRACE = FlightTrace()


def read_trace(traces: Iterable[Trace], modalities: Mapping[str, str]) -> FlightTrace:
    """Return what the traces of a flight say, without what contradicts itself.

    Args:
        traces: in any order.
        modalities: stream -> modality. One that is fed by a stream that no trace ever names is not traced at all.
    """
    inferences: dict[Key, Inference] = {}
    begins_ns: list[int] = []
    ends_ns: list[int] = []
    for trace in sorted(traces, key=lambda one: one.since_ns):
        begin_ns = max(trace.since_ns, ends_ns[-1]) if ends_ns else trace.since_ns
        if begin_ns < trace.time_ns:
            if not ends_ns or begin_ns > ends_ns[-1]:
                begins_ns.append(begin_ns)
                ends_ns.append(trace.time_ns)
            ends_ns[-1] = trace.time_ns
        sound = (one for one in trace.inferences if one.stream in modalities and _is_sound(one))
        inferences.update({(one.stream, one.epoch, one.sequence): one for one in sound})
    unnamed = set(modalities) - {stream for stream, _, _ in inferences}
    untraced = {modalities[stream] for stream in unnamed}
    return FlightTrace(
        inferences=inferences,
        modalities=frozenset(set(modalities.values()) - untraced),
        begins_ns=begins_ns,
        ends_ns=ends_ns,
    )


def _is_sound(one: Inference) -> bool:
    return one.arrived_ns <= one.taken_ns <= one.done_ns <= one.arrived_ns + MAX_TAKEN_NS


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
        self._arrived: dict[str, list[int]] = {}
        """Of each stream, when the messages came that were inferred, in the order of time."""
        for one in trace.inferences.values():
            self._arrived.setdefault(one.stream, []).append(one.arrived_ns)
        for times_ns in self._arrived.values():
            times_ns.sort()
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
        times_ns = self._arrived.get(event.stream, [])
        place = bisect.bisect_right(times_ns, max(self._followed_ns.get(event.stream, 0), log_ns - MAX_MOVE_NS))
        latest_ns = times_ns[place] if place < len(times_ns) else log_ns
        arrived_ns = max(min(log_ns, latest_ns), min(earliest_ns, log_ns + MAX_MOVE_NS))
        self._earliest_ns[event.stream] = arrived_ns
        return arrived_ns
