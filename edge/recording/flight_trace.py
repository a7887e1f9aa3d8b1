"""What the trace of a flight tells of its inferences, in a few bytes for each: an hour has half a million."""

import bisect
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.transport.messages import Inference, Trace

MAX_MOVE_NS = 500_000_000
"""Pipeline and recorder hear of a message at most so far apart; more than what sockets hold."""
MAX_TAKEN_NS = 60_000_000_000
"""A trace that says a message waited and was inferred for longer is not believed."""
_MAX_TIME_NS = 1 << 62
_NUMBERS = 1 << 32
"""Epochs and sequence numbers are below, as on the wire."""

Key = tuple[str, int, int]
"""Stream, epoch and sequence number: a message."""


class Turn(NamedTuple):
    """When a message that was inferred came, was taken, and was done."""

    arrived_ns: int
    taken_ns: int
    done_ns: int


class StreamTrace:
    """A stream's inferences by message; of the same number again and again, as a source gives it, by time."""

    def __init__(self, rows: NDArray[np.int64]) -> None:
        """Take inferences in any order.

        Args:
            rows: (inferences, 5): epoch, sequence number, when it arrived, was taken and was done.
        """
        numbers = rows[:, 0].astype(np.uint64) * np.uint64(_NUMBERS) + rows[:, 1].astype(np.uint64)
        order = np.lexsort((rows[:, 2], numbers))
        self._numbers = array("Q", numbers[order].tobytes())
        self._arrived_ns, self._taken_ns, self._done_ns = (array("q", rows[order, n].tobytes()) for n in (2, 3, 4))

    def turns(self) -> NDArray[np.int64]:
        """Return (inferences, 3): when each arrived, was taken and was done; not in the order of time."""
        times = (self._arrived_ns, self._taken_ns, self._done_ns)
        return np.column_stack([np.frombuffer(of_all, dtype=np.int64) for of_all in times])

    def nearest(self, epoch: int, sequence: int, arrived_ns: int) -> Turn | None:
        """Return the inference of a message that arrived about then; None where none of its number was inferred."""
        number = epoch * _NUMBERS + sequence
        begin = bisect.bisect_left(self._numbers, number)
        end = bisect.bisect_right(self._numbers, number, begin)
        if begin == end:
            return None
        later = bisect.bisect_left(self._arrived_ns, arrived_ns, begin, end)
        beside = range(max(later - 1, begin), min(later + 1, end))
        place = min(beside, key=lambda place: abs(self._arrived_ns[place] - arrived_ns))
        return Turn(self._arrived_ns[place], self._taken_ns[place], self._done_ns[place])


@dataclass(frozen=True, kw_only=True, slots=True)
class FlightTrace:
    """What is known of a flight's inferences."""

    streams: Mapping[str, StreamTrace] = field(default_factory=dict)
    """Those of which something was inferred."""
    modalities: frozenset[str] = frozenset()
    """Of which it tells everything."""
    begins_ns: Sequence[int] = ()
    """Of stretches in which everything that was inferred is known, in the order of time, without overlap."""
    ends_ns: Sequence[int] = ()

    @property
    def is_told(self) -> bool:
        """Whether there is one: of a stretch in which nothing was inferred it tells, too."""
        return bool(self.begins_ns)

    def of(self, key: Key, arrived_ns: int) -> Turn | None:
        """Return what became of a message that arrived about then; None where it was not inferred."""
        stream, epoch, sequence = key
        if stream not in self.streams:
            return None
        turn = self.streams[stream].nearest(epoch, sequence, arrived_ns)
        return turn if turn is not None and abs(turn.arrived_ns - arrived_ns) <= MAX_MOVE_NS else None

    def turns(self, stream: str) -> NDArray[np.int64]:
        """Return (inferences, 3): when a stream's arrived, were taken and were done; not in the order of time."""
        return self.streams[stream].turns() if stream in self.streams else np.empty((0, 3), dtype=np.int64)

    def covers(self, modality: str, at_ns: int) -> bool:
        """Say whether everything of a modality that was inferred at a time is known."""
        place = bisect.bisect_right(self.begins_ns, at_ns) - 1
        return modality in self.modalities and place >= 0 and at_ns < self.ends_ns[place]


NO_TRACE = FlightTrace()


def read_trace(
    traces: Iterable[Trace],
    modalities: Mapping[str, str],
    names: Mapping[str, str] | None = None,
    traced: Collection[str] = (),
) -> FlightTrace:
    """Return what the traces of a flight say, without what contradicts itself.

    Args:
        traces: in any order.
        modalities: stream -> modality. One that is fed by a stream of which nothing is traced is not traced at all.
        names: of streams, by those in the traces; what is not in it is passed over. The same ones by default.
        traced: streams of which every inference is in the traces, beside those that they name.
    """
    gathered: dict[str, array[int]] = {}
    spans_ns = []
    for trace in traces:
        spans_ns.append((trace.since_ns, trace.time_ns))
        for one in trace.inferences:
            stream = one.stream if names is None else names.get(one.stream, "")
            if stream in modalities and _is_sound(one):
                row = (one.epoch, one.sequence, one.arrived_ns, one.taken_ns, one.done_ns)
                gathered.setdefault(stream, array("q")).extend(row)
    rows = {name: np.frombuffer(numbers, dtype=np.int64).reshape(-1, 5) for name, numbers in gathered.items()}
    untraced = {modality for stream, modality in modalities.items() if stream not in {*rows, *traced}}
    begins_ns, ends_ns = _stretches(spans_ns)
    return FlightTrace(
        streams={name: StreamTrace(of_stream) for name, of_stream in rows.items()},
        modalities=frozenset(set(modalities.values()) - untraced),
        begins_ns=begins_ns,
        ends_ns=ends_ns,
    )


def _is_sound(one: Inference) -> bool:
    is_message = 0 <= one.epoch < _NUMBERS and 0 <= one.sequence < _NUMBERS
    is_in_order = one.arrived_ns <= one.taken_ns <= one.done_ns <= one.arrived_ns + MAX_TAKEN_NS
    return is_message and is_in_order and abs(one.arrived_ns) < _MAX_TIME_NS


def _stretches(spans_ns: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Return begins and ends of what spans cover together, those that touch as one."""
    begins_ns: list[int] = []
    ends_ns: list[int] = []
    for since_ns, time_ns in sorted(spans_ns):
        if time_ns <= max(since_ns, ends_ns[-1] if ends_ns else since_ns):
            continue
        if not ends_ns or since_ns > ends_ns[-1]:
            begins_ns.append(since_ns)
            ends_ns.append(time_ns)
        ends_ns[-1] = time_ns
    return begins_ns, ends_ns
