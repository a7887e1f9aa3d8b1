"""Between the pipeline's answers and the messages of our dialect: pure functions, both ways.

Nothing here raises on a strange value: what does not fit its field is cut to the field's range, and what is not known,
not finite or not a place on earth becomes the field's "unknown" value.

Position: lat, lon and alt are those of the vehicle at capture time, when its pose is known, and GEO_VALID is clear; of
the thing itself only where `placed` says so.
"""

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from edge.mavlink.wire import dialect
from edge.transport.messages import Classification, ModalityAnswer, Pose

INT32_MAX = 2**31 - 1
UINT8_MAX = 2**8 - 1
UINT16_MAX = 2**16 - 1
UINT32_MAX = 2**32 - 1
UINT64_MAX = 2**64 - 1
SHARES = 10_000
"""Probabilities, entropies and weights travel in steps of 1/10000."""
RANKS = 4
"""Classes in a message, and modalities with entropy and weight."""
MASK_BITS = 8
HIGHEST_M = 1_000_000
NS_PER_US, NS_PER_MS = 1_000, 1_000_000


class Flag(enum.IntFlag):
    """How far a classification can be trusted: FUSION_FLAGS of fusion.xml."""

    MODALITY_MISSING = dialect.FUSION_FLAGS_MODALITY_MISSING
    ABSTAIN = dialect.FUSION_FLAGS_ABSTAIN
    STALE_INPUT = dialect.FUSION_FLAGS_STALE_INPUT
    TIME_UNSYNCED = dialect.FUSION_FLAGS_TIME_UNSYNCED
    GEO_VALID = dialect.FUSION_FLAGS_GEO_VALID
    AGGREGATED = dialect.FUSION_FLAGS_AGGREGATED
    REPLAY = dialect.FUSION_FLAGS_REPLAY
    BACKFILL = dialect.FUSION_FLAGS_BACKFILL
    TEST = dialect.FUSION_FLAGS_TEST


class RankedClass(NamedTuple):
    """One of the most probable classes."""

    class_id: int
    confidence: float | None
    """0 to 1; None where unknown."""


class Position(NamedTuple):
    """A place on earth."""

    latitude_deg: float
    longitude_deg: float
    altitude_m: float | None
    """Above mean sea level; None where unknown."""


class ClassificationReport(msgspec.Struct, frozen=True, kw_only=True):
    """A classification as far as FUSION_CLASSIFICATION carries it; no dataclass, as each answer makes several."""

    time_us: int
    """Capture time of the newest input; by the onboard computer's clock where TIME_UNSYNCED is set."""
    sequence: int
    model_id: int
    latency_us: int
    """From capture to sending."""
    classes: tuple[RankedClass, ...]
    """The answer first, at most four; empty when there is none."""
    entropies: tuple[float | None, ...]
    """Of the first four modalities, 0 certain to 1; None where absent."""
    weights: tuple[float, ...]
    """Share of the same modalities in the answer."""
    entropy_fused: float | None
    flags: Flag
    present: int
    """Bit n: modality n took part."""
    expected: int
    """Bit n: the model has a modality n."""
    position: Position | None
    """Of the thing where GEO_VALID is set, else of the vehicle."""
    label: str
    h_acc_m: float | None = None
    """Radius about the position within which the thing is, in 68 % of all cases; None where unknown."""

    @property
    def class_id(self) -> int:
        """The answer; -1 when there is none."""
        return self.classes[0].class_id if self.classes else -1


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusReport:
    """What FUSION_STATUS says."""

    time_us: int
    model_id: int
    frames_processed: int
    frames_dropped: int
    results_dropped: int
    latency_p50_us: int | None
    latency_p99_us: int | None
    input_rates_hz: tuple[float, ...]
    """Of the first four modalities."""
    output_rate_hz: float
    state: int
    """MAV_STATE."""
    present: int
    clock_offset_us: int | None = None
    """The autopilot's time minus ours; None where unknown."""


def model_id_of(bundle_sha256: str) -> int:
    """Return the model's id on the link, the first four bytes of its bundle's SHA-256; 0 where that is none."""
    try:
        return int.from_bytes(bytes.fromhex(bundle_sha256)[:4], "big")
    except ValueError:
        return 0


def present_of(answer: Classification) -> int:
    """Return which modalities took part: bit n for modality n."""
    return sum([1 << n for n, modality in enumerate(answer.modalities[:MASK_BITS]) if modality.mask > 0])


def entropy_of(probs: Sequence[float]) -> float | None:
    """Return the entropy of a distribution over log(classes), None where it has none."""
    if len(probs) < 2 or not all(0 <= prob <= 1 for prob in probs):
        return None
    return -sum(prob * math.log(prob) for prob in probs if prob > 0) / math.log(len(probs))


def report_of(
    answer: Classification, *, model_id: int, now_ns: int, max_age_ms: float, is_replay: bool
) -> ClassificationReport:
    """Return what to report of an answer that is sent now.

    Args:
        answer: of the pipeline.
        model_id: see `model_id_of`.
        now_ns: time of sending, in the time base of the capture times.
        max_age_ms: an input older than this sets STALE_INPUT.
        is_replay: whether the inputs come from a recording.
    """
    named = answer.modalities[:RANKS]
    captured_ns = [modality.capture_ns for modality in answer.modalities if modality.mask > 0]
    flags = Flag.TIME_UNSYNCED
    if len(captured_ns) < len(answer.modalities):
        flags |= Flag.MODALITY_MISSING
    if not answer.has_answer:
        flags |= Flag.ABSTAIN
    if now_ns - min(captured_ns, default=now_ns) > max_age_ms * NS_PER_MS:
        flags |= Flag.STALE_INPUT
    if is_replay:
        flags |= Flag.REPLAY
    return ClassificationReport(
        time_us=answer.capture_ns // NS_PER_US,
        sequence=answer.sequence,
        model_id=model_id,
        latency_us=(now_ns - answer.capture_ns) // NS_PER_US,
        classes=_ranked(answer),
        entropies=tuple([modality.entropy if modality.mask > 0 else None for modality in named]),
        weights=_weights(named),
        entropy_fused=entropy_of(answer.probs),
        flags=flags,
        present=present_of(answer),
        expected=(1 << min(len(answer.modalities), MASK_BITS)) - 1,
        position=_position(answer.pose),
        label=answer.label,
    )


def placed(report: ClassificationReport, position: Position, h_acc_m: float) -> ClassificationReport:
    """Return a report that says where the thing itself is."""
    flags = report.flags | Flag.GEO_VALID
    return msgspec.structs.replace(report, position=position, h_acc_m=h_acc_m, flags=flags)


def classification_message(report: ClassificationReport) -> dialect.MAVLink_fusion_classification_message:
    """Return FUSION_CLASSIFICATION."""
    latitude, longitude, altitude = _coordinates(report.position)
    return dialect.MAVLink_fusion_classification_message(
        time_usec=_unsigned(report.time_us, UINT64_MAX),
        sequence=report.sequence & UINT32_MAX,
        model_id=_unsigned(report.model_id, UINT32_MAX),
        lat=latitude,
        lon=longitude,
        alt=altitude,
        latency=_unsigned(report.latency_us, UINT32_MAX),
        class_id=_four([_unsigned(class_id, UINT16_MAX) for class_id, _ in report.classes], UINT16_MAX),
        confidence=_four([_share(confidence) for _, confidence in report.classes], UINT16_MAX),
        entropy=_four([_share(entropy) for entropy in report.entropies], UINT16_MAX),
        weight=_four([_share(weight, unknown=0) for weight in report.weights], 0),
        entropy_fused=_share(report.entropy_fused),
        h_acc=_decimetres(report.h_acc_m),
        flags=int(report.flags) & UINT16_MAX,
        modality_present=report.present & UINT8_MAX,
        modality_expected=report.expected & UINT8_MAX,
        label=_text(report.label, 16),
        target_id=0,
        roi=[0, 0, 0, 0],
    )


def classification_report(message: dialect.MAVLink_fusion_classification_message) -> ClassificationReport:
    """Return what a received FUSION_CLASSIFICATION says."""
    named = min(int(message.modality_expected).bit_length(), RANKS)
    ranks = zip(message.class_id, message.confidence, strict=True)
    return ClassificationReport(
        time_us=message.time_usec,
        sequence=message.sequence,
        model_id=message.model_id,
        latency_us=message.latency,
        classes=tuple(
            RankedClass(class_id, _fraction(confidence)) for class_id, confidence in ranks if class_id != UINT16_MAX
        ),
        entropies=tuple(_fraction(entropy) for entropy in message.entropy[:named]),
        weights=tuple(weight / SHARES for weight in message.weight[:named]),
        entropy_fused=_fraction(message.entropy_fused),
        flags=Flag(message.flags),
        present=message.modality_present,
        expected=message.modality_expected,
        position=_place(message.lat, message.lon, message.alt),
        h_acc_m=None if message.h_acc == UINT16_MAX else message.h_acc / 10,
        label=_read_text(message._label_raw),
    )


def class_info_message(
    model_id: int, class_id: int, labels: Sequence[str]
) -> dialect.MAVLink_fusion_class_info_message:
    """Return FUSION_CLASS_INFO of one class of the model."""
    return dialect.MAVLink_fusion_class_info_message(
        model_id=_unsigned(model_id, UINT32_MAX),
        class_id=_unsigned(class_id, UINT16_MAX),
        class_count=_unsigned(len(labels), UINT16_MAX),
        label=_text(labels[class_id], 48),
    )


def class_label(message: dialect.MAVLink_fusion_class_info_message) -> str:
    """Return the name that a received FUSION_CLASS_INFO gives."""
    return _read_text(message._label_raw)


def status_message(report: StatusReport) -> dialect.MAVLink_fusion_status_message:
    """Return FUSION_STATUS. Nothing waits to be sent."""
    offset_us = report.clock_offset_us
    return dialect.MAVLink_fusion_status_message(
        time_usec=_unsigned(report.time_us, UINT64_MAX),
        model_id=_unsigned(report.model_id, UINT32_MAX),
        frames_processed=_unsigned(report.frames_processed, UINT32_MAX),
        frames_dropped=_unsigned(report.frames_dropped, UINT32_MAX),
        results_queued=0,
        results_dropped=_unsigned(report.results_dropped, UINT32_MAX),
        latency_p50=UINT32_MAX if report.latency_p50_us is None else _unsigned(report.latency_p50_us, UINT32_MAX),
        latency_p99=UINT32_MAX if report.latency_p99_us is None else _unsigned(report.latency_p99_us, UINT32_MAX),
        clock_offset=INT32_MAX if offset_us is None or abs(offset_us) >= INT32_MAX else offset_us,
        input_rate=_four([_centihertz(rate_hz) for rate_hz in report.input_rates_hz], 0),
        output_rate=_centihertz(report.output_rate_hz),
        state=_unsigned(report.state, UINT8_MAX),
        modality_present=report.present & UINT8_MAX,
    )


def _ranked(answer: Classification) -> tuple[RankedClass, ...]:
    if not answer.has_answer:
        return ()
    comparable = [prob if math.isfinite(prob) else -math.inf for prob in answer.probs]
    best = sorted(range(len(comparable)), key=comparable.__getitem__, reverse=True)[:RANKS]
    runners_up = [RankedClass(class_id, answer.probs[class_id]) for class_id in best if class_id != answer.class_id]
    return (RankedClass(answer.class_id, answer.confidence), *runners_up[: RANKS - 1])


def _weights(modalities: Sequence[ModalityAnswer]) -> tuple[float, ...]:
    """Return the weights in whole steps; what rounding lost goes to the greatest, so that they still sum to 1."""
    steps = [_share(modality.weight, unknown=0) if modality.mask > 0 else 0 for modality in modalities]
    lost = SHARES - sum(steps)
    if steps and abs(lost) < len(steps):
        steps[steps.index(max(steps))] += lost
    return tuple([step / SHARES for step in steps])


def _position(pose: Pose | None) -> Position | None:
    return Position(pose.latitude_deg, pose.longitude_deg, pose.altitude_m) if pose is not None else None


def _coordinates(position: Position | None) -> tuple[int, int, int]:
    if position is None or not (abs(position.latitude_deg) <= 90 and abs(position.longitude_deg) <= 180):
        return INT32_MAX, INT32_MAX, INT32_MAX
    altitude_m = position.altitude_m
    altitude = INT32_MAX
    if altitude_m is not None and abs(altitude_m) <= HIGHEST_M:
        altitude = round(altitude_m * 1000)
    return round(position.latitude_deg * 1e7), round(position.longitude_deg * 1e7), altitude


def _place(latitude: int, longitude: int, altitude: int) -> Position | None:
    if INT32_MAX in (latitude, longitude):
        return None
    return Position(latitude / 1e7, longitude / 1e7, None if altitude == INT32_MAX else altitude / 1000)


def _unsigned(value: int, maximum: int) -> int:
    return value if 0 <= value <= maximum else maximum if value > maximum else 0


def _share(value: float | None, unknown: int = UINT16_MAX) -> int:
    if value is not None and 0.0 <= value <= 1.0:
        return round(value * SHARES)
    if value is None or not math.isfinite(value):
        return unknown
    return SHARES if value > 1.0 else 0


def _decimetres(metres: float | None) -> int:
    """Return metres rounded up, at most as far as the field goes."""
    if metres is None or not math.isfinite(metres) or metres < 0:
        return UINT16_MAX
    return min(math.ceil(round(min(metres, UINT16_MAX) * 10, 3)), UINT16_MAX - 1)


def _fraction(share: int) -> float | None:
    return None if share == UINT16_MAX else share / SHARES


def _centihertz(rate_hz: float) -> int:
    return round(min(max(rate_hz, 0.0), 655.35) * 100) if math.isfinite(rate_hz) else 0


def _four(values: list[int], filler: int) -> list[int]:
    return values[:RANKS] + [filler] * (RANKS - len(values))


def _text(text: str, size: int) -> bytes:
    """Return UTF-8 of at most `size` bytes, cut between characters."""
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore").encode()


def _read_text(raw: bytes) -> str:
    return bytes(raw).split(b"\0", 1)[0].decode("utf-8", "replace")
