"""What a recording tells of its engines, for exact replay."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from edge.config import StreamConfig
from edge.recording import channels
from edge.recording.engine_cost import answered_cost, traced_cost
from edge.recording.flight_trace import NO_TRACE, read_trace
from edge.recording.reader import Recording
from edge.recording.timetable import Pace
from edge.transport.messages import Classification, Kind, Trace

TOLD_WITHIN_NS = 2_000_000_000
"""A trace is published once a second, with what was done before."""
M = TypeVar("M", Trace, Classification)


def recorded_pace(
    recording: Recording,
    streams: Mapping[str, StreamConfig],
    order: Sequence[str] = (),
    deployed: Collection[str] = (),
    *,
    is_followed: bool,
) -> Pace:
    """Return the pace of the recorded flight itself.

    Where it was traced the very messages that were inferred are inferred again, and what the trace does not cover costs
    the median of the last few before it. Without a trace the answers say what the inferences cost that caused them, and
    the others cost 3 ms.

    Args:
        recording: the flight.
        streams: that feed the model.
        order: of the modalities, the one that paces the answers first; the slowest stream's without.
        deployed: streams that fed the pipeline which flew, as far as known: of these it is known, too, where none of
            their messages was inferred for a while.
        is_followed: whether the events will be those of the flight; of others, as faults make them, a trace tells only
            what inference costs.
    Raises:
        RecordingError: an answer or a trace is not what its channel says.
    """
    modalities = {name: stream.modality for name, stream in streams.items()}
    trace = read_trace(_messages(recording, Kind.TRACE, Trace), modalities, recording.names, deployed)
    if trace.is_told:
        return Pace(cost=traced_cost(trace, modalities), trace=trace if is_followed else NO_TRACE)
    slowest_first = [modalities[name] for name in sorted(modalities, key=lambda name: streams[name].rate_hz)]
    answers = _messages(recording, Kind.CLASSIFICATION, Classification)
    return Pace(cost=answered_cost(answers, order or slowest_first))


def _messages(recording: Recording, kind: Kind, of: type[M]) -> Iterator[M]:
    """Yield the messages of a topic; of a part's also those that were told soon before and after it."""
    begin_ns, whole = recording.start_ns, recording.whole
    end_ns = begin_ns + recording.duration_ns
    told = whole.stored({channels.stream_name(kind, "")}, begin_ns - TOLD_WITHIN_NS, end_ns + TOLD_WITHIN_NS)
    messages = (whole.decode(stored).message for stored in told)
    return (message for message in messages if isinstance(message, of))
