"""A recorded flight, judged by the answers, the statuses and the sensor streams in it."""

import itertools
import logging
from collections.abc import Callable, Sequence

from edge.config import FlightConfig, PipelineConfig
from edge.faults.fault import Fault, check_faults, parse_fault
from edge.judging.judge import Judge, Terms, kills_of, quiet_ns
from edge.judging.trouble import (
    PERIODIC_LATE_NS,
    STATUS_LATE_NS,
    Trouble,
    as_far_as_seen,
    gaps_of,
    troubles_of,
)
from edge.judging.verdict import Judgement
from edge.recording import channels
from edge.recording.deployed import deployment_of
from edge.recording.injected import injected_into
from edge.recording.reader import Recording, Stored
from edge.transport.messages import TOPICS, Classification, Kind, PipelineStatus
from models.errors import ConfigError, RecordingError

log = logging.getLogger(__name__)

SHORTEST_SILENCE_NS = 1_200_000_000
SILENT_PERIODS = 10
STOPPING_NS = 6_000_000_000
"""So long before the others a pipeline of old may have ended, which did not say that it was told to stop."""
_JUDGED = tuple(channels.stream_name(kind, "") for kind in (Kind.CLASSIFICATION, Kind.STATUS))


def judge_recording(
    recording: Recording, faults: Sequence[Fault] = (), watch: Callable[[int], None] = lambda _: None
) -> Judgement:
    """Return whether a flight in one file kept what is promised, as `judge_flight`."""
    return judge_flight([recording], faults, watch)


def judge_flight(
    parts: Sequence[Recording], faults: Sequence[Fault] = (), watch: Callable[[int], None] = lambda _: None
) -> Judgement:
    """Return whether a recorded flight kept what is promised of every flight.

    Args:
        parts: files of one flight, in any order, with answers and statuses in them.
        faults: that are known to have befallen it; those that were injected, and silences of its streams, are found
            without.
        watch: told the number of messages done, for a progress bar (see `judged_count`).
    Raises:
        ConfigError: neither it nor its deployment has such a stream as a fault says, or there is no file.
        RecordingError: neither answers nor statuses are in it.
    """
    parts = sorted(parts, key=lambda part: part.start_ns)
    if not parts:
        raise ConfigError("nothing to judge: expected a recording")
    if not any(judged_count(part) for part in parts):
        raise RecordingError(
            f"{parts[0].path}: neither answers nor statuses in it: expected the recording of a flight, made by"
            " `uav-edge run` or `uav-edge record`; or judge the model on it: `uav-edge replay --exact`"
        )
    config = deployment_of(parts[0])
    check_faults(faults, _sensors(parts, config), is_live=True, is_recorded=True)
    begin_ns, faults = _known(parts, faults)
    unseen = _unseen(parts)
    troubles = [trouble for part in parts for trouble in _silences(part, config, faults)]
    troubles += troubles_of(faults, _fed(parts, config), begin_ns)
    terms = _terms(parts, config, begin_ns, faults)
    judge = Judge(terms, [as_far_as_seen(trouble, unseen) for trouble in troubles])
    done = 0
    for part in parts:
        for stored in part.stored(_JUDGED):
            at_ns = stored.log_time_ns - stored.channel.utc_offset_ns
            while unseen and unseen[0][1] <= at_ns:
                judge.pardon(unseen.pop(0)[1])
            _tell(judge, stored, at_ns)
            done += 1
            watch(done)
    for _, end_ns in unseen:
        judge.pardon(end_ns)
    return judge.judgement(_end_ns(parts))


def _end_ns(parts: Sequence[Recording]) -> int:
    """Return when a flight ended: with its pipeline's last status, or, where that is not known to be, its streams."""
    end_ns = max(part.start_ns + part.duration_ns for part in parts)
    status = _last_status(parts)
    if status is not None and status.is_last:
        return min(end_ns, status.time_ns)
    if status is not None and status.is_last is False:
        return end_ns
    said_ns = max(part.streams[name].last_ns for part in parts for name in _JUDGED if name in part.streams)
    return max(said_ns, end_ns - STOPPING_NS)


def _last_status(parts: Sequence[Recording]) -> PipelineStatus | None:
    for part in reversed(parts):
        status = part.last_message(Kind.STATUS)
        if isinstance(status, PipelineStatus):
            return status
    return None


def _sensors(parts: Sequence[Recording], config: FlightConfig | None) -> set[str]:
    """Return the sensor streams of a flight, those that were not recorded among them."""
    recorded = {name for part in parts for name, stream in part.streams.items() if stream.modality}
    return recorded | set(config.streams if config is not None else ())


def _known(parts: Sequence[Recording], faults: Sequence[Fault]) -> tuple[int, Sequence[Fault]]:
    """Return when the flight began, and its faults: those that somebody names, or else those that were injected."""
    start_ns = parts[0].start_ns
    injected = injected_into(parts)
    if injected is None or faults:
        return start_ns, faults
    if not injected.begin_ns:
        log.warning("faults were injected, but no status is recorded that says when: they are judged as silences alone")
        return start_ns, ()
    try:
        return injected.begin_ns, [parse_fault(text) for text in injected.faults]
    except ConfigError as error:
        raise RecordingError(f"{parts[0].path}: injected faults that this version does not know: {error}") from error


def judged_count(recording: Recording) -> int:
    """Return how many messages of a recording are judged."""
    return recording.count(_JUDGED)


def _tell(judge: Judge, stored: Stored, at_ns: int) -> None:
    kind = stored.channel.kind
    try:
        message = channels.decode_message(kind, stored.data)
    except RecordingError as error:
        judge.note_unreadable(at_ns, f"{TOPICS[kind].channel}: {error}")
        return
    if isinstance(message, Classification):
        judge.note_answer(message)
    elif isinstance(message, PipelineStatus):
        judge.note_status(message)


def _terms(parts: Sequence[Recording], config: FlightConfig | None, begin_ns: int, faults: Sequence[Fault]) -> Terms:
    pipeline = config.pipeline if config is not None else PipelineConfig()
    if config is not None:
        rates_hz = [stream.rate_hz for stream in config.streams.values()]
    else:
        rates_hz = [stream.rate_hz for part in parts for stream in part.streams.values() if stream.modality]
    slowest_hz = max(min(rates_hz, default=1.0), 0.1)
    status = _last_status(parts)
    return Terms(
        begin_ns=begin_ns,
        max_age_ms=pipeline.max_age_ms,
        quiet_ns=quiet_ns(slowest_hz, pipeline.silent_after_periods),
        status_late_ns=PERIODIC_LATE_NS if status is None or status.is_last is None else STATUS_LATE_NS,
        kills_ns=kills_of(faults, begin_ns),
    )


def _fed(parts: Sequence[Recording], config: FlightConfig | None) -> dict[str, str]:
    """Return the streams that answers can tell of, with their modalities."""
    fed = {name: stream.modality for part in parts for name, stream in part.streams.items() if stream.modality}
    if config is not None:
        fed = {name: stream.modality for name, stream in config.streams.items()}
    answers = [part.last_message(Kind.CLASSIFICATION) for part in parts]
    known = {one.name for answer in answers if isinstance(answer, Classification) for one in answer.modalities}
    return {name: modality for name, modality in fed.items() if modality in known}


def _silences(part: Recording, config: FlightConfig | None, faults: Sequence[Fault]) -> list[Trouble]:
    """Return the silences of streams of which no fault is known."""
    streams = _fed([part], config)
    found = []
    for name in streams:
        if name in part.streams and not any(fault.befalls(name) for fault in faults):
            period_ns = 1e9 / max(part.streams[name].rate_hz, 0.1)
            longest_ns = max(SHORTEST_SILENCE_NS, round(SILENT_PERIODS * period_ns))
            arrivals = ((at_ns - part.utc_offset_ns, n) for at_ns, n in part.arrivals(name).tolist())
            found += gaps_of(name, streams, arrivals, longest_ns)
    return found


def _unseen(parts: Sequence[Recording]) -> list[tuple[int, int]]:
    """Return from when to when nothing is recorded: damage, and what lies between two files."""
    found = []
    for part in parts:
        for gap in part.gaps():
            if gap.end_ns is not None:
                found.append((gap.begin_ns if gap.begin_ns is not None else part.start_ns, gap.end_ns))
    for before, after in itertools.pairwise(parts):
        found.append((before.start_ns + before.duration_ns, after.start_ns))
    return sorted(found, key=lambda span: span[1])
