"""What goes out over MAVLink, and when: answers and status of the pipeline in, messages out.

The HEARTBEAT goes on while the pipeline is gone, because this process lives and says so. Its system_status:
    BOOT       no answer yet; with nothing heard at all, for at most 30 s
    ACTIVE     every modality takes part in the answers
    CRITICAL   a modality is missing, or status comes without answers
    EMERGENCY  nothing heard of the pipeline for more than 2 s
"""

import logging
import math
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from pymavlink.dialects.v20 import common

from edge.mavlink import codec, standard
from edge.mavlink.deployment import MavlinkConfig
from edge.mavlink.pace import NS_PER_S, Allowance, Period
from edge.mavlink.peers import News
from edge.mavlink.status_text import StatusTexts
from edge.mavlink.whereabouts import Whereabouts
from edge.transport.messages import Classification, Injected, Kind, Load, PipelineStatus, Pose, RecorderStatus, unpack
from edge.transport.wire import FLAG_REPLAY, Reason, decode_message
from models.errors import InputError

log = logging.getLogger(__name__)

NS_PER_MS = 1_000_000
SILENT_NS = 2 * NS_PER_S
RECORDER_SILENT_NS = 5 * NS_PER_S
"""It speaks once a second, but waits for its disk."""
START_NS = 30 * NS_PER_S
HEARTBEAT_NS = NS_PER_S
NAMED_VALUES_NS = NS_PER_S // 2
CLASS_INFOS_NS = 30 * NS_PER_S
CLASS_INFOS_AT_ONCE = 4
MAX_CLASS_INFOS = 1000
BURST_S = 0.2
"""Answers come unevenly: so much of a second's share may go out at once."""
HOLD_NS = 300 * NS_PER_MS
"""A modality that is back sooner was not missing, as far as people are told."""
TEST_FLIGHT_NS = 30 * NS_PER_S
"""That faults are injected is said as often."""
MAX_LATENCIES = 4096
"""Kept for the percentiles of one FUSION_STATUS."""
MAX_LATENCY_MS = 3_600_000.0
MAX_RECORDS = 4096
"""Answers kept for the flight's memory, until they are taken."""


class Publisher:
    """Decides what to send. Knows no socket and no clock: times come in as arguments, messages come out of `tick`.

    Args:
        config: of MAVLink.
        modality_of: modality that each stream of the status feeds.
        max_age_ms: an input older than this is reported as stale.
        now_ns: the time.
    """

    def __init__(self, config: MavlinkConfig, modality_of: dict[str, str], max_age_ms: float, now_ns: int) -> None:
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
        self._status: PipelineStatus | None = None
        self._model_id = 0
        self._sent: tuple[int, int] | None = None
        self._allowance = Allowance(config.max_rate_hz, BURST_S)
        self._latencies_ms: deque[float] = deque(maxlen=MAX_LATENCIES)
        self._texts = StatusTexts()
        self._texts.assume("pipeline", "live")
        self._heartbeat = Period(HEARTBEAT_NS)
        self._named_values = Period(NAMED_VALUES_NS)
        self._class_infos = Period(CLASS_INFOS_NS)
        self._named_sequence: int | None = None
        self._classes_to_name: deque[int] = deque()
        self._outbox: list[Any] = []
        self._records: deque[Any] = deque(maxlen=MAX_RECORDS)
        self._recorder_ns: int | None = None
        self._is_recorder_paused = False

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
        self._note_class(answer, now_ns)
        self._note_modalities(answer, now_ns)
        report = codec.report_of(
            answer, model_id=self._model_id, now_ns=now_ns, max_age_ms=self._max_age_ms, is_replay=is_replay
        )
        message = codec.classification_message(self.whereabouts.complete(report, answer, now_ns))
        self._records.append(message)
        key = (answer.class_id, _present(answer))
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
        if before is None or (before.bundle_sha256, before.labels) != (status.bundle_sha256, status.labels):
            self._class_infos = Period(CLASS_INFOS_NS)
        self._outbox.append(codec.status_message(self._summary(before, status, now_ns)))
        self._latencies_ms.clear()
        self._note_backend(status.backend, now_ns)
        self._note_load(status.load, now_ns)
        self._note_injected(status.injected, now_ns)

    def on_recorder(self, status: RecorderStatus, now_ns: int) -> None:
        """Take the recorder's status."""
        self._recorder_ns = now_ns
        self._is_recorder_paused = bool(status.pause)

    def on_news(self, news: News, now_ns: int) -> None:
        """Take what a link has to tell the ground, once."""
        self._texts.note(news.subject, news.status_text, common.MAV_SEVERITY_WARNING, news.status_text, now_ns=now_ns)

    def tick(self, now_ns: int) -> list[Any]:
        """Return the messages to send now."""
        messages, self._outbox = self._outbox, []
        state = self.state(now_ns)
        self._note_pipeline(state, now_ns)
        self._note_recorder(now_ns)
        if self._heartbeat.is_due(now_ns):
            messages.append(standard.heartbeat(state))
        if (text := self._texts.take(now_ns)) is not None:
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
        patience_ns = START_NS if self._heard_ns is None else SILENT_NS
        if now_ns - last_ns > patience_ns:
            return int(common.MAV_STATE_EMERGENCY)
        if self._answer is None:
            return int(common.MAV_STATE_BOOT)
        is_missing = any(not modality.mask > 0 for modality in self._answer.modalities)
        if is_missing or not self._answer.has_answer or now_ns - self._answer_ns > SILENT_NS:
            return int(common.MAV_STATE_CRITICAL)
        return int(common.MAV_STATE_ACTIVE)

    def _summary(self, before: PipelineStatus | None, status: PipelineStatus, now_ns: int) -> codec.StatusReport:
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
            input_rates_hz=self._input_rates(before, status),
            output_rate_hz=0.0 if before is None else _rate(before, status, before.results, status.results),
            state=self.state(now_ns),
            present=_present(self._answer) if self._answer is not None else 0,
            clock_offset_us=self.whereabouts.clock_offset_us(now_ns),
        )

    def _input_rates(self, before: PipelineStatus | None, status: PipelineStatus) -> tuple[float, ...]:
        """Return the messages a second of each modality, in the order of the answers."""
        named = self._answer.modalities if self._answer is not None else ()
        rates_hz = {modality.name: 0.0 for modality in named} or dict.fromkeys(self._modality_of.values(), 0.0)
        for name, stream in status.streams.items():
            modality = self._modality_of.get(name, "")
            if before is not None and name in before.streams and modality in rates_hz:
                rates_hz[modality] += _rate(before, status, before.streams[name].received, stream.received)
        return tuple(rates_hz.values())

    def _note_class(self, answer: Classification, now_ns: int) -> None:
        if answer.has_answer:
            text = f"FUSION: {answer.label} {100 * answer.confidence:.0f}%"
            self._texts.note("class", answer.label, common.MAV_SEVERITY_INFO, text, now_ns=now_ns)
        else:
            self._texts.note("class", "", common.MAV_SEVERITY_WARNING, "FUSION: no data", now_ns=now_ns)

    def _note_modalities(self, answer: Classification, now_ns: int) -> None:
        for n, modality in enumerate(answer.modalities[: codec.MASK_BITS]):
            subject = f"modality {n}"
            self._texts.assume(subject, "present")
            if modality.mask > 0:
                news = ("present", common.MAV_SEVERITY_NOTICE, f"FUSION: {modality.name} is back")
            else:
                reason = modality.reason or "no reason given"
                news = ("missing", common.MAV_SEVERITY_WARNING, f"FUSION: {modality.name} missing: {reason}")
            self._texts.note(subject, *news, now_ns=now_ns, hold_ns=HOLD_NS)

    def _note_backend(self, backend: str, now_ns: int) -> None:
        """Say when other engines fly than before; a flight begins on ONNX Runtime."""
        self._texts.assume("backend", backend)
        severity = common.MAV_SEVERITY_WARNING if backend == "onnxruntime" else common.MAV_SEVERITY_NOTICE
        self._texts.note("backend", backend, severity, f"FUSION: now on {backend}", now_ns=now_ns)

    def _note_load(self, load: Load, now_ns: int) -> None:
        """Say what is left out, and when nothing is any more."""
        self._texts.assume("load", "")
        if load.level:
            news = (load.name, common.MAV_SEVERITY_WARNING, f"FUSION: shed: {load.name}")
        else:
            news = ("", common.MAV_SEVERITY_NOTICE, "FUSION: nothing shed any more")
        self._texts.note("load", *news, now_ns=now_ns)

    def _note_injected(self, injected: Injected, now_ns: int) -> None:
        """Say again and again that nobody must believe what is answered, as faults are injected into this flight."""
        if injected.faults:
            names = ", ".join(text.partition("@")[0] for text in injected.faults)
            again = str(now_ns // TEST_FLIGHT_NS)
            self._texts.note(
                "injected", again, common.MAV_SEVERITY_WARNING, f"FUSION: TEST, injected: {names}", now_ns=now_ns
            )

    def _note_pipeline(self, state: int, now_ns: int) -> None:
        if state == common.MAV_STATE_EMERGENCY:
            news = ("silent", common.MAV_SEVERITY_CRITICAL, "FUSION: pipeline is silent")
        else:
            news = ("live", common.MAV_SEVERITY_NOTICE, "FUSION: pipeline is back")
        self._texts.note("pipeline", *news, now_ns=now_ns)

    def _note_recorder(self, now_ns: int) -> None:
        """Say when the flight is not recorded any more, and when it is again; nothing where there is no recorder."""
        if self._recorder_ns is None:
            return
        self._texts.assume("recorder", "records")
        if now_ns - self._recorder_ns > RECORDER_SILENT_NS:
            news = ("silent", common.MAV_SEVERITY_WARNING, "FUSION: recorder is silent")
        elif self._is_recorder_paused:
            news = ("paused", common.MAV_SEVERITY_WARNING, "FUSION: recording paused: disk full")
        else:
            news = ("records", common.MAV_SEVERITY_NOTICE, "FUSION: recording again")
        self._texts.note("recorder", *news, now_ns=now_ns)

    def _name_values(self, now_ns: int) -> list[Any]:
        """Return the newest answer for people who watch numbers, if there is a new one and it is time."""
        answer = self._answer
        if answer is None or answer.sequence == self._named_sequence or not self._named_values.is_due(now_ns):
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
        if self._status is None:
            return []
        if self._class_infos.is_due(now_ns):
            self._classes_to_name = deque(range(min(len(self._status.labels), MAX_CLASS_INFOS)))
        count = min(CLASS_INFOS_AT_ONCE, len(self._classes_to_name))
        class_ids = [self._classes_to_name.popleft() for _ in range(count)]
        labels = self._status.labels
        return [codec.class_info_message(self._model_id, n, labels) for n in class_ids if n < len(labels)]


def _present(answer: Classification) -> int:
    return sum(1 << n for n, modality in enumerate(answer.modalities[: codec.MASK_BITS]) if modality.mask > 0)


def _rate(before: PipelineStatus, after: PipelineStatus, count_before: int, count_after: int) -> float:
    """Return counts a second; 0 where the pipeline started anew in between."""
    elapsed_ns = after.time_ns - before.time_ns
    return (
        (count_after - count_before) * NS_PER_S / elapsed_ns if elapsed_ns > 0 and count_after >= count_before else 0.0
    )


def _percentile(ordered: Sequence[int], share: float) -> int | None:
    """Return the smallest value that at least `share` of all do not exceed, None of nothing."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else None
