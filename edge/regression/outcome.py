"""What came of one flight flown with one model: what is compared, kept and saved."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from edge.operations.flown import Flown
from edge.operations.score import latency_summary
from edge.transport.messages import Classification, StreamAccounting

FUSED = ""
"""Key of the fused answer among the modalities."""


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """One answer, as far as it is compared."""

    after_us: int
    """Capture time since the beginning of the flight."""
    label: str
    confidence: float
    truth: str = ""
    """Label of what was there; empty where nobody knows."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A flight, flown."""

    flight: str
    """Name under which it is shown."""
    flight_sha256: str
    """Of the file."""
    model: str
    """Bundle title."""
    bundle_sha256: str
    classes: tuple[str, ...]
    answers: tuple[Answer, ...]
    right: dict[str, int]
    """Right answers by modality, the fused ones under an empty name; empty where the truth is unknown."""
    scored: dict[str, int]
    """Answers whose truth is known, by the same names."""
    latency_ms: dict[str, dict[str, float]]
    """p50 and p99 of virtual time from message to answer, by the sensors that went in."""
    masked: dict[str, dict[str, int]]
    """Answers that a modality was absent from, by reason."""
    streams: dict[str, StreamAccounting]
    broken: dict[str, int]
    """How often a promise was broken, for each that was judged."""
    precisions: dict[str, str] = {}
    """Of the graph that flew for each role; empty where nobody noted it."""
    damage: str = ""
    """What could not be read of the file; empty where it is sound."""
    wall_s: float = 0.0
    """That the replay took; 0 where it does not matter, as in what is saved."""

    def without_answers(self) -> "Outcome":
        """Return all but the answers, which are most of it."""
        return msgspec.structs.replace(self, answers=())

    def accuracy(self, name: str) -> float | None:
        """Return the share of right answers of a modality, or of the fused ones; None where none was scored."""
        scored = self.scored.get(name, 0)
        return self.right[name] / scored if scored else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where an outcome comes from."""

    flight: str
    flight_sha256: str
    bundle_sha256: str
    begin_ns: int
    """Of the flight, in the time of its answers."""
    damage: str
    wall_s: float


def outcome_of(flown: Flown, origin: Origin) -> Outcome:
    """Return what is compared of a flight that is over; answers are right where their labels are the truth's."""
    truths = [_truth_label(flown, answer.capture_ns) for answer in flown.answers]
    right, scored = _score(flown.answers, truths, flown.labels)
    verdicts = flown.judgement.verdicts if flown.judgement is not None else {}
    return Outcome(
        flight=origin.flight,
        flight_sha256=origin.flight_sha256,
        model=flown.model,
        bundle_sha256=origin.bundle_sha256,
        classes=flown.labels,
        answers=tuple(
            Answer((answer.capture_ns - origin.begin_ns) // 1000, answer.label, round(answer.confidence, 6), truth)
            for answer, truth in zip(flown.answers, truths, strict=True)
        ),
        right=right,
        scored=scored,
        latency_ms=latency_summary(flown.answers),
        masked=_masked(flown.answers),
        streams=flown.streams,
        broken={name: verdict.violations for name, verdict in verdicts.items() if verdict.judged},
        precisions=dict(flown.precisions),
        damage=origin.damage,
        wall_s=origin.wall_s,
    )


def _truth_label(flown: Flown, capture_ns: int) -> str:
    truth = flown.truths.at(capture_ns)
    if truth is None:
        return ""
    is_known = 0 <= truth.class_id < len(flown.labels)
    return truth.label or (flown.labels[truth.class_id] if is_known else f"class {truth.class_id}")


def _score(
    answers: Sequence[Classification], truths: Sequence[str], labels: Sequence[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """Count right and scored answers; NO_DATA is wrong, a modality alone is scored where it took part."""
    right: Counter[str] = Counter()
    scored: Counter[str] = Counter()
    for answer, truth in zip(answers, truths, strict=True):
        if not truth:
            continue
        said = {one.name: labels[one.class_id] for one in answer.modalities if 0 <= one.class_id < len(labels)}
        for name, label in {FUSED: answer.label, **said}.items():
            scored[name] += 1
            right[name] += label == truth
    return dict(right), dict(scored)


def _masked(answers: Sequence[Classification]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for answer in answers:
        for modality in answer.modalities:
            reasons = counts.setdefault(modality.name, Counter())
            if modality.mask <= 0:
                reasons[modality.reason or "absent"] += 1
    return {name: dict(reasons) for name, reasons in counts.items()}
