"""A recorded flight, judged by the answers, the statuses and the sensor streams in it."""

import logging
from collections.abc import Callable, Sequence

from edge.config import FlightConfig, PipelineConfig
from edge.faults.fault import Fault, check_faults
from edge.judging.judge import Judge, Terms, quiet_ns
from edge.judging.trouble import Trouble, gaps_of, troubles_of
from edge.judging.verdict import Judgement
from edge.recording import channels
from edge.recording.reader import Recording, Stored
from edge.transport.messages import TOPICS, Classification, Kind, PipelineStatus
from models.errors import ConfigError, RecordingError
from models.schema import parse_yaml

log = logging.getLogger(__name__)

DEPLOYMENT = "flight.yaml"
"""Attachment with the deployment that flew."""
SHORTEST_SILENCE_NS = 1_200_000_000
SILENT_PERIODS = 10
_JUDGED = tuple(channels.stream_name(kind, "") for kind in (Kind.CLASSIFICATION, Kind.STATUS))


def judge_recording(
    recording: Recording, faults: Sequence[Fault] = (), watch: Callable[[int], None] = lambda _: None
) -> Judgement:
    """Return whether a recorded flight kept what is promised.

    Args:
        recording: with answers and statuses in it.
        faults: that are known to have befallen it; silences of its streams are found without.
        watch: told the number of messages done, for a progress bar (see `judged_count`).
    Raises:
        ConfigError: it has no such stream as a fault says.
        RecordingError: neither answers nor statuses are in it.
    """
    sensors = [name for name, stream in recording.streams.items() if stream.modality]
    check_faults(faults, sensors, is_live=True)
    if not judged_count(recording):
        raise RecordingError(
            f"{recording.path}: neither answers nor statuses in it: expected the recording of a flight, made by"
            " `uav-edge run` or `uav-edge record`; or judge the model on it: `uav-edge replay --exact`"
        )
    config = _deployment(recording)
    terms = _terms(recording, config)
    judge = Judge(terms, _troubles(recording, config, faults))
    pardons = [gap.end_ns for gap in recording.gaps() if gap.end_ns is not None]
    for done, stored in enumerate(recording.stored(_JUDGED), 1):
        at_ns = stored.log_time_ns - stored.channel.utc_offset_ns
        while pardons and pardons[0] <= at_ns:
            judge.pardon(pardons.pop(0))
        _tell(judge, stored, at_ns)
        watch(done)
    return judge.judgement()


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


def _deployment(recording: Recording) -> FlightConfig | None:
    """Return what flew, where the recording says so in terms that this version understands."""
    data = recording.attachments.get(DEPLOYMENT)
    if data is None:
        return None
    try:
        return parse_yaml(data, FlightConfig, f"{recording.path}: {DEPLOYMENT}")
    except ConfigError as error:
        log.warning("the limits that flew are not known, the defaults are taken: %s", error)
        return None


def _terms(recording: Recording, config: FlightConfig | None) -> Terms:
    pipeline = config.pipeline if config is not None else PipelineConfig()
    if config is not None:
        rates_hz = [stream.rate_hz for stream in config.streams.values()]
    else:
        rates_hz = [stream.rate_hz for stream in recording.streams.values() if stream.modality]
    slowest_hz = max(min(rates_hz, default=1.0), 0.1)
    return Terms(
        begin_ns=recording.start_ns,
        max_age_ms=pipeline.max_age_ms,
        quiet_ns=quiet_ns(slowest_hz, pipeline.silent_after_periods),
    )


def _troubles(recording: Recording, config: FlightConfig | None, faults: Sequence[Fault]) -> list[Trouble]:
    """Return the troubles that are named, and the silences of other streams."""
    answer = recording.last_message(Kind.CLASSIFICATION)
    if not isinstance(answer, Classification):
        return []
    fed = {name: stream.modality for name, stream in recording.streams.items() if stream.modality}
    if config is not None:
        fed = {name: stream.modality for name, stream in config.streams.items()}
    known = {modality.name for modality in answer.modalities}
    streams = {name: modality for name, modality in fed.items() if modality in known}
    found = troubles_of(faults, streams, recording.start_ns)
    for name in streams:
        if name in recording.streams and not any(fault.befalls(name) for fault in faults):
            period_ns = 1e9 / max(recording.streams[name].rate_hz, 0.1)
            longest_ns = max(SHORTEST_SILENCE_NS, round(SILENT_PERIODS * period_ns))
            arrivals = ((at_ns - recording.utc_offset_ns, n) for at_ns, n in recording.arrivals(name).tolist())
            found += gaps_of(name, streams, arrivals, longest_ns)
    return found
