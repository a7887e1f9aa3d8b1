"""A time in which a stream is known to have been troubled, and what of it was seen in answers and statuses."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edge.faults.fault import GARBAGE, OFF, STUCK, WRONG, Fault
from edge.pipeline.scheduler import LIVE
from edge.transport.messages import Classification, PipelineStatus

NS_PER_S = 1_000_000_000
SEEN_WITHIN_NS = NS_PER_S
NOMINAL_WITHIN_NS = 2 * NS_PER_S
STATUS_LATE_NS = 250_000_000
"""A pipeline in flight tells at once where a stream is not live any more, but at most five times a second."""
PERIODIC_LATE_NS = 1_100_000_000
"""Where statuses come once a second alone, as in exact replay and recordings of old: it tells of a past moment."""
MOST_UNRECORDED = 10
"""Messages that a decimated recording leaves out between two; more in a gap: the recorder missed them."""
_SILENCING = (OFF, STUCK, GARBAGE, WRONG)
"""Faults of which nothing usable gets through, whatever the deployment; a clock's jump may be within max_age_ms."""


@dataclass(slots=True)
class Trouble:
    """One fault of one stream."""

    what: str
    """For people."""
    stream: str
    modality: str
    start_ns: int
    end_ns: float
    """Infinite: to the end of the flight."""
    is_shown: bool
    """Whether it must be seen where it lasts for long enough: nothing usable gets through."""
    is_over: bool
    """Whether the stream must be used again after its end: nothing else troubles it then."""
    is_alone: bool
    """Whether the stream is the only one of its modality."""
    seen_ns: int | None = None
    used_ns: int | None = None
    """First time that the stream was used after its end."""
    hidden_ns: int | None = None
    """First time that it was used although it should have been seen long ago."""
    excused_ns: int = 0
    """For how long the flight stood still between the end and the first use after it."""

    def put_off(self, since_ns: int, by_ns: int) -> None:
        """Let it be later, as a flight is that was slowed down; what was seen of what had not happened is forgotten.

        Args:
            since_ns: what was to happen after this moment is later.
            by_ns: by so much.
        """
        if self.end_ns <= since_ns:
            self.excused_ns += by_ns if self.used_ns is None else 0
            return
        self.end_ns += by_ns
        self.used_ns = None
        if self.start_ns > since_ns:
            self.start_ns += by_ns
            self.seen_ns = self.hidden_ns = None

    def note_answer(self, answer: Classification) -> None:
        """Look at how an answer treats the modality."""
        now_ns = answer.answer_ns
        if now_ns < self.start_ns or self.used_ns is not None:
            return
        mine = next((part for part in answer.modalities if part.name == self.modality), None)
        if mine is None:
            return
        is_used = mine.mask > 0 and mine.stream == self.stream
        if is_used and now_ns > self.end_ns:
            self.used_ns = now_ns
        elif is_used and now_ns < self.end_ns and now_ns - self.start_ns > SEEN_WITHIN_NS:
            self.hidden_ns = self.hidden_ns or now_ns
        elif mine.mask == 0 and now_ns < self.end_ns and self.is_alone:
            self.seen_ns = self.seen_ns or now_ns

    def note_status(self, status: PipelineStatus) -> None:
        """Look at a status's word on the stream."""
        stream = status.streams.get(self.stream)
        if stream is None or status.time_ns < self.start_ns:
            return
        if status.time_ns < self.end_ns and stream.state != LIVE:
            self.seen_ns = self.seen_ns or status.time_ns
        elif status.time_ns > self.end_ns and stream.state == LIVE:
            self.used_ns = self.used_ns or status.time_ns

    def must_be_seen(self, until_ns: int, late_ns: int) -> bool:
        """Say whether it lasts for so long that it has to be seen; where other streams go on, only statuses tell.

        Args:
            until_ns: the flight's end.
            late_ns: that a status may be late itself.
        """
        limit_ns = SEEN_WITHIN_NS if self.is_alone else SEEN_WITHIN_NS + late_ns
        return self.is_shown and self.end_ns - self.start_ns > limit_ns and until_ns - self.start_ns > limit_ns

    def is_seen_in_time(self, until_ns: int, late_ns: int) -> bool:
        """Say whether no answer used the stream for too long, and the next answer or status told of it.

        Args:
            until_ns: the flight's end; a trouble too short for a status need not be seen where nothing is answered.
            late_ns: as in `must_be_seen`.
        """
        if self.hidden_ns is not None:
            return False
        seen_ns = self.seen_ns if self.seen_ns is not None else min(self.end_ns, until_ns)
        return seen_ns - self.start_ns <= SEEN_WITHIN_NS + late_ns

    def is_used_in_time(self) -> bool:
        """Say whether the stream was used again soon after the end."""
        return self.used_ns is not None and self.used_ns <= self.used_by_ns

    @property
    def used_by_ns(self) -> float:
        """Until when the stream must be used again."""
        return self.end_ns + NOMINAL_WITHIN_NS + self.excused_ns


def troubles_of(faults: Sequence[Fault], streams: Mapping[str, str], begin_ns: int, rate: float = 1.0) -> list[Trouble]:
    """Return the troubles that faults make.

    Args:
        faults: as injected.
        streams: all sensor streams with their modalities.
        begin_ns: of the flight.
        rate: times real time at which it was played.
    """
    found = []
    for stream in streams:
        own = [fault for fault in faults if fault.befalls(stream)]
        windows = [_span(fault, begin_ns, rate) for fault in own]
        for fault, (start_ns, end_ns) in zip(own, windows, strict=True):
            others = [(other, span) for other, span in zip(own, windows, strict=True) if other is not fault]
            beside = {other.kind for other, span in others if span[0] <= end_ns and span[1] >= start_ns}
            after = [span for _, span in others if span[0] < end_ns + NOMINAL_WITHIN_NS and span[1] > end_ns]
            trouble = _trouble(str(fault), stream, streams, start_ns, end_ns)
            # Others may hide repetitions, and a repeated sound message may stand for what others would have spoiled.
            is_hidden = bool(beside) if fault.kind == STUCK else STUCK in beside
            silences = fault.kind in _SILENCING and not is_hidden
            trouble.is_shown, trouble.is_over = silences, not after
            found.append(trouble)
    return found


def gaps_of(
    stream: str, streams: Mapping[str, str], arrivals: Iterable[tuple[int, int]], longest_ns: int
) -> list[Trouble]:
    """Return the troubles that a recorded stream's silences are: gaps in which its source has numbered no message.

    Args:
        stream: name.
        streams: all sensor streams with their modalities.
        arrivals: when messages came, with their sequence numbers, in order.
        longest_ns: gap that is none yet.
    """
    found = []
    before: tuple[int, int] | None = None
    for now_ns, sequence in arrivals:
        if before is not None and now_ns - before[0] > longest_ns and sequence - before[1] <= MOST_UNRECORDED:
            text = f"silence of {(now_ns - before[0]) / NS_PER_S:.1f} s of {stream}"
            found.append(_trouble(text, stream, streams, before[0], now_ns))
        before = now_ns, sequence
    for earlier, later in itertools.pairwise(found):
        earlier.is_over = later.start_ns > earlier.end_ns + NOMINAL_WITHIN_NS
    return found


def as_far_as_seen(trouble: Trouble, unseen: Sequence[tuple[int, int]]) -> Trouble:
    """Return a trouble of which nothing must be seen where nobody looked, or where there was no pipeline.

    Args:
        trouble: one of a flight.
        unseen: from when to when that was so.
    """
    for begin_ns, end_ns in unseen:
        if begin_ns < trouble.start_ns + SEEN_WITHIN_NS + PERIODIC_LATE_NS and end_ns > trouble.start_ns:
            trouble.is_shown = False
        if begin_ns < trouble.end_ns + NOMINAL_WITHIN_NS and end_ns > trouble.end_ns:
            trouble.is_over = False
    return trouble


def _trouble(what: str, stream: str, streams: Mapping[str, str], start_ns: int, end_ns: float) -> Trouble:
    return Trouble(
        what=what,
        stream=stream,
        modality=streams[stream],
        start_ns=start_ns,
        end_ns=end_ns,
        is_shown=True,
        is_over=True,
        is_alone=list(streams.values()).count(streams[stream]) == 1,
    )


def _span(fault: Fault, begin_ns: int, rate: float) -> tuple[int, float]:
    start_ns, end_ns = fault.window_ns(begin_ns, rate)
    return start_ns, math.inf if end_ns is None else end_ns
