"""What happens when in exact replay: which message comes, is taken, is done, told ahead of what comes of it.

Which messages are taken depends on times alone, never on what comes of them. So a scheduler that is told of no outcome
knows it ahead, and threads can work on messages whose outcome is needed later.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from edge.config import StreamConfig
from edge.pipeline.branch import Branch
from edge.pipeline.framing import Gathered
from edge.pipeline.scheduler import NS_PER_MS, Admitted, Arrival, Scheduler
from edge.recording.crew import Outcome
from edge.recording.engine_cost import DEFAULT_COST, EngineCost
from edge.recording.flight_trace import NO_TRACE, FlightTrace, Key
from edge.recording.reader import Event
from edge.transport.messages import Kind, Pose
from edge.transport.wire import Header, Reason, decode_message, encode_header

TICK_NS = 20 * NS_PER_MS
LONGEST_SILENCE_NS = 60_000 * NS_PER_MS
"""Of a longer gap in a recording only the end is lived through."""
_NEVER_NS = 1 << 63


@dataclass(frozen=True, slots=True)
class Received:
    """A message came."""

    at_ns: int
    stream: str
    message: Admitted
    """Without its payload, which is on its way to the branch already."""


@dataclass(frozen=True, slots=True)
class Posed:
    """A pose came."""

    at_ns: int
    pose: Pose


@dataclass(frozen=True, slots=True)
class Taken:
    """A modality takes its next message, if one waits; those that are too old are dropped."""

    at_ns: int
    modality: str


@dataclass(frozen=True, slots=True)
class Cleared:
    """A modality drops what waits and is too old."""

    at_ns: int
    modality: str


@dataclass(frozen=True, slots=True)
class Done:
    """A message's outcome is due."""

    at_ns: int
    stream: str
    header: Header
    """Of the message."""
    outcome: "Wait"


@dataclass(frozen=True, slots=True)
class Ticked:
    """The pipeline looked at the clock."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """Nothing is known of the time before: a long silence is not lived through."""

    at_ns: int


Step = Received | Posed | Taken | Cleared | Done | Ticked | Skipped
Wait = Callable[[], Outcome]
"""Returns the outcome of a message as soon as there is one."""
Submit = Callable[[Arrival], Wait]
"""Begins to infer a message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """When messages are taken, and how long that occupies their engine."""

    cost: EngineCost = DEFAULT_COST
    """Where no trace tells."""
    trace: FlightTrace = NO_TRACE
    """Of the flight: what it covers is done as it was."""


class Timetable:
    """Makes the steps of a flight from its events."""

    def __init__(
        self,
        branches: Mapping[str, Branch],
        streams: Mapping[str, StreamConfig],
        scheduler: Scheduler,
        pace: Pace,
        start_ns: int,
    ) -> None:
        """Begin at a time.

        Args:
            branches: by stream; they admit messages.
            streams: that feed them.
            scheduler: in its first state; never told of an outcome.
            pace: of the engines.
            start_ns: the time.
        """
        self._branches = branches
        self._modalities = {name: stream.modality for name, stream in streams.items()}
        self._scheduler = scheduler
        self._pace = pace
        self._now_ns = start_ns
        self._tick_ns = start_ns + TICK_NS
        self._idle = set(self._modalities.values())
        self._inferring: list[tuple[int, str, Header, Wait]] = []
        """Heap of (due time, stream, the message, its outcome)."""
        self._agenda: dict[str, list[tuple[int, int, Key]]] = {modality: [] for modality in sorted(self._idle)}
        """Of each modality, a heap of what has come and was inferred in flight: (when taken, when done, message)."""
        self._submit: Submit = _refuse
        self.inferred = 0
        """Messages so far."""
        self.as_in_flight = 0
        """Of these, those that the trace names, each inferred when it was in flight."""

    def steps(self, events: Iterable[Event], submit: Submit) -> Iterator[Step]:
        """Yield the steps of events that are ordered by `log_ns`, in the order of time. To be called once."""
        self._submit = submit
        for event in events:
            yield from self._advance(event.log_ns)
            yield from self._receive(event)
        while (due_ns := self._next_work_ns()) is not None:
            yield from self._advance(due_ns + 1)

    def _receive(self, event: Event) -> Iterator[Step]:
        if event.kind == Kind.POSE and isinstance(event.message, Pose):
            yield Posed(self._now_ns, event.message)
        modality = self._modalities.get(event.stream)
        if event.header is None or modality is None:
            return
        message = self._branches[event.stream].admit(decode_message((encode_header(event.header), event.payload)))
        self._scheduler.receive(event.stream, message, self._now_ns)
        yield Received(self._now_ns, event.stream, _without_payload(message))
        key = (event.stream, event.header.epoch, event.header.sequence)
        turn = self._pace.trace.of(key, event.log_ns)
        if turn is not None and modality in self._pace.trace.modalities:
            heapq.heappush(self._agenda[modality], (turn.taken_ns, turn.done_ns, key))
        yield from self._start(modality)

    def _advance(self, to_ns: int) -> Iterator[Step]:
        """Yield what is due by a time, and what the flight took before it; then stand there."""
        while True:
            if not self._inferring and self._tick_ns < to_ns - LONGEST_SILENCE_NS:
                self._tick_ns = to_ns - LONGEST_SILENCE_NS
                yield Skipped(self._tick_ns)
            done_ns = self._inferring[0][0] if self._inferring else _NEVER_NS
            take_ns, modality = self._next_take()
            if take_ns < min(done_ns, to_ns, self._tick_ns + 1):
                self._now_ns = max(self._now_ns, take_ns)
                yield from self._take_as_in_flight(modality)
            elif done_ns <= min(to_ns, self._tick_ns):
                self._now_ns = max(self._now_ns, done_ns)
                yield from self._finish()
            elif self._tick_ns <= to_ns:
                self._now_ns = max(self._now_ns, self._tick_ns)
                self._tick_ns += TICK_NS
                self._scheduler.tick(self._now_ns)
                yield Ticked(self._now_ns)
            else:
                break
        self._now_ns = max(self._now_ns, to_ns)

    def _next_take(self) -> tuple[int, str]:
        """Return when the next message is taken as in flight, and by which modality."""
        due = ((agenda[0][0], name) for name, agenda in self._agenda.items() if agenda and name in self._idle)
        return min(due, default=(_NEVER_NS, ""))

    def _next_work_ns(self) -> int | None:
        """Return when the next message is taken or done; None when there is none any more."""
        take_ns, _ = self._next_take()
        due_ns = min(take_ns, self._inferring[0][0]) if self._inferring else take_ns
        return due_ns if due_ns < _NEVER_NS else None

    def _start(self, modality: str) -> Iterator[Step]:
        """Let an idle modality take its next message at once, unless it is known what it took when."""
        if modality not in self._idle:
            return
        if self._pace.trace.covers(modality, self._now_ns):
            self._scheduler.drop_late(modality, self._now_ns)
            yield Cleared(self._now_ns, modality)
            return
        arrival = self._scheduler.take(modality, self._now_ns)
        yield Taken(self._now_ns, modality)
        if arrival is not None:
            self._infer(arrival, self._now_ns + self._pace.cost.at(modality, self._now_ns))

    def _take_as_in_flight(self, modality: str) -> Iterator[Step]:
        """Let a modality take what it took in flight, if that waits."""
        _, done_ns, key = heapq.heappop(self._agenda[modality])
        arrival = self._scheduler.take(modality, self._now_ns)
        yield Taken(self._now_ns, modality)
        if arrival is not None:
            self.as_in_flight += key == (arrival.stream, arrival.header.epoch, arrival.header.sequence)
            self._infer(arrival, max(done_ns, self._now_ns))

    def _infer(self, arrival: Arrival, done_ns: int) -> None:
        self._idle.discard(self._modalities[arrival.stream])
        self.inferred += 1
        heapq.heappush(self._inferring, (done_ns, arrival.stream, arrival.header, self._submit(arrival)))

    def _finish(self) -> Iterator[Step]:
        """Let the outcome that is due be accounted for, and its modality take the next message."""
        done_ns, stream, header, outcome = heapq.heappop(self._inferring)
        self._scheduler.complete(stream, Reason.ENGINE, done_ns)
        yield Done(done_ns, stream, header, outcome)
        self._idle.add(self._modalities[stream])
        yield from self._start(self._modalities[stream])


def _without_payload(message: Admitted) -> Admitted:
    """Return a message as the scheduler needs it: it looks at no samples and no pixels."""
    return message if isinstance(message, Reason) or isinstance(message[1], Gathered) else (message[0], b"")


def _refuse(arrival: Arrival) -> Wait:
    raise RuntimeError(f"{arrival.stream}: nobody infers: ask for the steps first")
