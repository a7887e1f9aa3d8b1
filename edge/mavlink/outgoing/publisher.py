"""What goes out over MAVLink, and when: answers and status of the pipeline in, messages out.

The HEARTBEAT goes on while the pipeline is gone, because this process lives and says so. Its system_status:
    BOOT       no answer yet, for at most 30 s
    ACTIVE     every modality takes part in the answers
    STANDBY    as ACTIVE, but somebody on a link has stopped or paused the publishing
    CRITICAL   a modality is missing, or status comes without answers, for 2 s or three periods of the slowest stream
    POWEROFF   the pipeline was told to stop, and has, at most 30 s ago
    EMERGENCY  nothing heard of the pipeline for more than 2 s, or FUS_HB_TMO
"""

import logging
import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from pymavlink.dialects.v20 import common

from edge.mavlink.deployment import MavlinkConfig
from edge.mavlink.network.peers import News
from edge.mavlink.outgoing.outlet import RESULT, STATUS
from edge.mavlink.outgoing.publishing import Publishing, mode_of
from edge.mavlink.outgoing.telling import Telling
from edge.mavlink.pace import NS_PER_S, Allowance, Period
from edge.mavlink.place.whereabouts import Whereabouts
from edge.mavlink.wire import codec, standard
from edge.transport.messages import Classification, Kind, PipelineStatus, Pose, RecorderStatus, unpack
from edge.transport.wire import FLAG_REPLAY, Reason, decode_message
from models.errors import InputError

log = logging.getLogger(__name__)

SILENT_NS = 2 * NS_PER_S
START_NS = 30 * NS_PER_S
HEARTBEAT_NS = NS_PER_S
NAMED_VALUES_NS = NS_PER_S // 2
CLASS_INFOS_NS = 30 * NS_PER_S
CLASS_INFOS_AT_ONCE = 4
MAX_CLASS_INFOS = 1000
BURST_S = 0.2
"""Answers come unevenly: so much of a second's share may go out at once."""
MAX_LATENCIES = 4096
"""Kept for the percentiles of one FUSION_STATUS."""
MAX_LATENCY_MS = 3_600_000.0
RATED_NS = NS_PER_S // 2
"""Rates over less say more of when a status came."""
MAX_RECORDS = 4096
"""Answers kept for the flight's memory, until they are taken."""


class Publisher:
    """Decides what to send. Knows no socket and no clock: times come in as arguments, messages come out of `tick`.

    Args:
        config: of MAVLink.
        modality_of: modality that each stream of the status feeds.
        max_age_ms: an input older than this is reported as stale.
        now_ns: the time.
        answer_s: without an answer for so long something is wrong, at least 2; longer where streams are slow.
    """

    def __init__(
        self,
        config: MavlinkConfig,
        modality_of: dict[str, str],
        max_age_ms: float,
        now_ns: int,
        answer_s: float = 0.0,
    ) -> None:
        self.rejected: Counter[str] = Counter()
        """What came over the results socket and was no message of the pipeline, by reason."""
        self.results_dropped = 0
        """Answers that were not sent, to keep to `max_rate_hz`."""
        self.whereabouts = Whereabouts(config.system_id, config.camera, config.radio_radius_m)
        self._modality_of = modality_of
        self._max_age_ms = max_age_ms
        self._start_ns = now_ns
        self._heard_ns: int | None = None
        self._answer: Classification | None = None
        self._answer_ns = now_ns
        self._silent_ns = SILENT_NS
        self._answerless_ns = max(SILENT_NS, round(answer_s * NS_PER_S))
        self._status: PipelineStatus | None = None
        self._rated: PipelineStatus | None = None
        """The status at which rates were measured."""
        self._input_hz: dict[str, float] = dict.fromkeys(modality_of.values(), 0.0)
        self._output_hz = 0.0
        self._model_id = 0
        self._sent: tuple[int, int] | None = None
        self._rate_hz = config.max_rate_hz
        self._allowance = Allowance(self._rate_hz, BURST_S)
        self._latencies_ms: deque[float] = deque(maxlen=MAX_LATENCIES)
        self._telling = Telling()
        self._heartbeat = Period(HEARTBEAT_NS)
        self._named_values: Period | None = Period(NAMED_VALUES_NS)
        self._class_infos = Period(CLASS_INFOS_NS)
        self._named_sequence: int | None = None
        self._classes_to_name: deque[int] = deque()
        self._outbox: list[Any] = []
        self._records: deque[Any] = deque(maxlen=MAX_RECORDS)
        self._publishing = Publishing.ON

    def on_message(self, parts: Sequence[bytes | memoryview], now_ns: int) -> None:
        """Take what came over the results socket; what is not a message of the pipeline is counted."""
        decoded = decode_message(parts)
        if isinstance(decoded, Reason):
            self.rejected[decoded.value] += 1
            return
        header, payload = decoded
        try:
            if header.kind == Kind.CLASSIFICATION:
                self.on_classification(unpack(payload, Classification), now_ns, bool(header.flags & FLAG_REPLAY))
            elif header.kind == Kind.STATUS:
                self.on_status(unpack(payload, PipelineStatus), now_ns)
            elif header.kind == Kind.RECORDER:
                self.on_recorder(unpack(payload, RecorderStatus), now_ns)
            elif header.kind == Kind.POSE:
                self.whereabouts.on_pose(unpack(payload, Pose))
        except InputError as error:
            self.rejected[Reason.DECODE.value] += 1
            log.debug("results: %s", error)

    def on_classification(self, answer: Classification, now_ns: int, is_replay: bool = False) -> None:
        """Take an answer of the pipeline."""
        self._heard_ns = self._answer_ns = now_ns
        self._answer = answer
        if 0 <= answer.latency_ms.get("total", -1.0) <= MAX_LATENCY_MS:
            self._latencies_ms.append(answer.latency_ms["total"])
        self._telling.on_modalities(answer, now_ns)
        report = codec.report_of(
            answer, model_id=self._model_id, now_ns=now_ns, max_age_ms=self._max_age_ms, is_replay=is_replay
        )
        if self._status is not None and self._status.injected.faults:
            report = msgspec.structs.replace(report, flags=report.flags | codec.Flag.TEST)
        message = codec.classification_message(self.whereabouts.complete(report, answer, now_ns))
        self._records.append(message)
        if self._publishing != Publishing.ON:
            return
        self._telling.on_class(answer, now_ns)
        key = (answer.class_id, report.present)
        if key != self._sent or self._allowance.take(now_ns):
            self._sent = key
            self._outbox.append(message)
        else:
            self.results_dropped += 1

    def on_status(self, status: PipelineStatus, now_ns: int) -> None:
        """Take the pipeline's status: one FUSION_STATUS each."""
        before, self._status = self._status, status
        self._heard_ns = now_ns
        self._model_id = codec.model_id_of(status.bundle_sha256)
        self._measure(status)
        if before is None or (before.bundle_sha256, before.labels) != (status.bundle_sha256, status.labels):
            self._class_infos = Period(CLASS_INFOS_NS)
        if self._publishing != Publishing.STOPPED:
            self._outbox.append(codec.status_message(self._summary(status, now_ns)))
        self._latencies_ms.clear()
        self._telling.on_status(status, now_ns)

    def on_recorder(self, status: RecorderStatus, now_ns: int) -> None:
        """Take the recorder's status."""
        self._telling.on_recorder(status, now_ns)

    def on_news(self, news: News, now_ns: int) -> None:
        """Take what a link or a command has to tell the ground, once."""
        if news.is_arrival:
            is_answering = self._publishing == Publishing.ON and now_ns - self._answer_ns <= self._answerless_ns
            self._telling.on_arrival(is_answering=is_answering)
        else:
            self._telling.on_news(news, now_ns)

    @property
    def publishing(self) -> Publishing:
        """How much is sent of what the pipeline answers."""
        return self._publishing

    @publishing.setter
    def publishing(self, publishing: Publishing) -> None:
        if self._publishing == Publishing.STOPPED:
            self._class_infos = Period(CLASS_INFOS_NS)
        if publishing != Publishing.ON:
            unwanted = {RESULT} if publishing == Publishing.PAUSED else {RESULT, STATUS}
            self._outbox = [message for message in self._outbox if message.get_type() not in unwanted]
            self._telling.forget_class()
        self._publishing = publishing

    def apply(self, parameters: Mapping[str, float]) -> None:
        """Let the parameters count from now on, see docs/mavlink.md."""
        if parameters["FUS_RATE_HZ"] != self._rate_hz:
            self._rate_hz = parameters["FUS_RATE_HZ"]
            self._allowance = Allowance(self._rate_hz, BURST_S)
        named_hz = parameters["FUS_NVAL_HZ"]
        self._named_values = Period(round(NS_PER_S / named_hz)) if named_hz else None
        self._telling.is_on = bool(parameters["FUS_TEXT"])
        self._telling.least_confidence = parameters["FUS_MIN_CONF"]
        self._max_age_ms = parameters["FUS_STALE_MS"]
        self._silent_ns = round(parameters["FUS_HB_TMO"] * NS_PER_S)

    def class_info(self, class_id: int) -> Any | None:
        """Return the name of a class, None where there is no such class, or its model is not known yet."""
        labels = self._status.labels if self._status is not None else ()
        return codec.class_info_message(self._model_id, class_id, labels) if 0 <= class_id < len(labels) else None

    def tick(self, now_ns: int) -> list[Any]:
        """Return the messages to send now."""
        messages, self._outbox = self._outbox, []
        state = self.state(now_ns)
        self._telling.on_tick(is_silent=state == common.MAV_STATE_EMERGENCY, now_ns=now_ns)
        if self._heartbeat.is_due(now_ns):
            messages.append(standard.heartbeat(state, mode_of(self._publishing, self._status)))
        if (text := self._telling.take(now_ns)) is not None:
            messages.append(standard.status_text(*text))
        messages += self._name_values(now_ns)
        messages += self._name_classes(now_ns)
        return messages

    def take_records(self) -> list[Any]:
        """Return FUSION_CLASSIFICATION of every answer since the last call, sent or not."""
        records = list(self._records)
        self._records.clear()
        return records

    def state(self, now_ns: int) -> int:
        """Return the MAV_STATE of the fusion as a whole."""
        last_ns = self._start_ns if self._heard_ns is None else self._heard_ns
        is_over = self._status is not None and bool(self._status.is_last)
        patience_ns = START_NS if self._heard_ns is None or is_over else self._silent_ns
        if now_ns - last_ns > patience_ns:
            return int(common.MAV_STATE_EMERGENCY)
        if is_over:
            return int(common.MAV_STATE_POWEROFF)
        if self._answer is None and now_ns - self._start_ns <= max(START_NS, self._answerless_ns):
            return int(common.MAV_STATE_BOOT)
        if self._answer is None:
            return int(common.MAV_STATE_CRITICAL)
        is_missing = any(not modality.mask > 0 for modality in self._answer.modalities)
        if is_missing or not self._answer.has_answer or now_ns - self._answer_ns > self._answerless_ns:
            return int(common.MAV_STATE_CRITICAL)
        return int(common.MAV_STATE_ACTIVE if self._publishing == Publishing.ON else common.MAV_STATE_STANDBY)

    def _summary(self, status: PipelineStatus, now_ns: int) -> codec.StatusReport:
        streams = status.streams.values()
        latencies_us = sorted(round(latency_ms * 1000) for latency_ms in self._latencies_ms)
        return codec.StatusReport(
            time_us=self.whereabouts.time_of(status.time_ns, now_ns).time_us,
            model_id=self._model_id,
            frames_processed=sum(stream.processed for stream in streams),
            frames_dropped=sum(
                stream.superseded
                + stream.dropped_late
                + stream.shed
                + sum(stream.rejected.values())
                + stream.lost_transport
                for stream in streams
            ),
            results_dropped=self.results_dropped,
            latency_p50_us=_percentile(latencies_us, 0.50),
            latency_p99_us=_percentile(latencies_us, 0.99),
            input_rates_hz=self._input_rates(),
            output_rate_hz=self._output_hz,
            state=self.state(now_ns),
            present=codec.present_of(self._answer) if self._answer is not None else 0,
            clock_offset_us=self.whereabouts.clock_offset_us(now_ns),
        )

    def _input_rates(self) -> tuple[float, ...]:
        """Return the messages a second of each modality, in the order of the answers."""
        named = self._answer.modalities if self._answer is not None else ()
        return tuple(self._input_hz.get(modality.name, 0.0) for modality in named) or tuple(self._input_hz.values())

    def _measure(self, status: PipelineStatus) -> None:
        """Measure rates anew, but over no less than RATED_NS: a status may come early."""
        before = self._rated
        if before is not None and 0 <= status.time_ns - before.time_ns < RATED_NS:
            return
        self._rated = status
        self._output_hz = 0.0 if before is None else _rate(before, status, before.results, status.results)
        self._input_hz = dict.fromkeys(self._modality_of.values(), 0.0)
        for name, stream in status.streams.items():
            modality = self._modality_of.get(name, "")
            if before is not None and name in before.streams and modality in self._input_hz:
                self._input_hz[modality] += _rate(before, status, before.streams[name].received, stream.received)

    def _name_values(self, now_ns: int) -> list[Any]:
        """Return the newest answer for people who watch numbers, if there is a new one and it is time."""
        answer, period = self._answer, self._named_values
        if answer is None or answer.sequence == self._named_sequence or self._publishing != Publishing.ON:
            return []
        if period is None or not period.is_due(now_ns):
            return []
        self._named_sequence = answer.sequence
        values = {"FUS_CLS": float(answer.class_id), "FUS_CONF": answer.confidence}
        if "total" in answer.latency_ms:
            values["FUS_LAT"] = answer.latency_ms["total"]
        if (entropy := codec.entropy_of(answer.probs)) is not None:
            values["FUS_ENT"] = entropy
        return [standard.named_value(name, value, now_ns) for name, value in values.items()]

    def _name_classes(self, now_ns: int) -> list[Any]:
        """Return the names of the next few classes, while a round of them is under way."""
        if self._status is None or self._publishing == Publishing.STOPPED:
            return []
        if self._class_infos.is_due(now_ns):
            self._classes_to_name = deque(range(min(len(self._status.labels), MAX_CLASS_INFOS)))
        count = min(CLASS_INFOS_AT_ONCE, len(self._classes_to_name))
        class_ids = [self._classes_to_name.popleft() for _ in range(count)]
        labels = self._status.labels
        return [codec.class_info_message(self._model_id, n, labels) for n in class_ids if n < len(labels)]


def _rate(before: PipelineStatus, after: PipelineStatus, count_before: int, count_after: int) -> float:
    """Return counts a second; 0 where the pipeline started anew in between."""
    elapsed_ns = after.time_ns - before.time_ns
    return (
        (count_after - count_before) * NS_PER_S / elapsed_ns if elapsed_ns > 0 and count_after >= count_before else 0.0
    )


def _percentile(ordered: Sequence[int], share: float) -> int | None:
    """Return the smallest value that at least `share` of all do not exceed, None of nothing."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else None
