"""Holds answers and statuses to what is promised of every flight, one after the other, in constant memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge.judging.trouble import NOMINAL_WITHIN_NS, NS_PER_S, SEEN_WITHIN_NS, Trouble
from edge.judging.verdict import NOT_RECORDED, PROMISES, Judgement, Verdict
from edge.transport.messages import Classification, PipelineStatus, StreamAccounting

SUM_TOLERANCE = 1e-4
AGE_TOLERANCE_MS = 0.01
"""Ages are rounded."""
TOLERANCE_NS = 250_000_000
"""That a message may be late itself."""
STATUS_GAP_NS = 2_500_000_000
STATUS_PERIOD_NS = NS_PER_S
"""The last status before a pipeline is killed may be as old."""
RESTART_NS = 3 * NS_PER_S
"""In which a pipeline that was killed answers again."""
START_NS = 200_000_000
"""No pipeline starts within less: numbers that fall sooner are out of order."""
_COUNTS = ("received", "processed", "superseded", "dropped_late", "gathered", "shed", "lost_transport")


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What a flight is held to."""

    begin_ns: int
    """Of the flight, in the time of its messages."""
    max_age_ms: float
    quiet_ns: int
    """Longest time without an answer; at least that of NO_DATA, longer where streams are slow."""


def quiet_ns(slowest_hz: float, patience: float) -> int:
    """Return the longest time without an answer.

    Args:
        slowest_hz: of all streams.
        patience: periods after which a stream no longer paces the answers.
    """
    return round(max(1.0, patience / slowest_hz) * NS_PER_S)


class Judge:
    """Judges one flight. Tell it everything in the order of time, then ask for the judgement."""

    def __init__(self, terms: Terms, troubles: Sequence[Trouble] = ()) -> None:
        self._terms = terms
        self._troubles = troubles
        self._verdicts = {name: Verdict(promise=text) for name, text in PROMISES.items()}
        for name, why in NOT_RECORDED.items():
            self._verdicts[name].not_judged = why
        self._answer: Classification | None = None
        self._status: PipelineStatus | None = None
        self._pardoned_ns = -1
        self._last_ns = terms.begin_ns

    def pardon(self, until_ns: int) -> None:
        """Let nothing have to be said until a time: what happened before was not looked at."""
        self._pardoned_ns = max(self._pardoned_ns, until_ns)

    def note_unreadable(self, at_ns: int, why: str) -> None:
        """Take an answer or a status that is none."""
        self._violate("I2", at_ns, f"not readable: {why}")

    def note_answer(self, answer: Classification) -> None:
        """Take an answer."""
        now_ns = answer.answer_ns
        self._last_ns = max(self._last_ns, now_ns)
        self._verdicts["I2"].judged += 1
        for text in faults_of(answer, self._terms.max_age_ms):
            self._violate("I2", now_ns, text)
        for modality in answer.modalities:
            if bool(modality.reason) == (modality.mask > 0):
                text = f"{modality.name} has mask {modality.mask:g} and the reason {modality.reason!r}"
                self._violate("I3", now_ns, text)
        before, self._answer = self._answer, answer
        if before is not None:
            has_restarted = answer.sequence < before.sequence and now_ns - before.answer_ns >= START_NS
            if answer.sequence <= before.sequence and not has_restarted:
                self._violate("I1", now_ns, f"answer {answer.sequence} comes after answer {before.sequence}")
            limit_ns = RESTART_NS if has_restarted else self._terms.quiet_ns
            self._judge_pause("answer", before.answer_ns, now_ns, limit_ns)
        for trouble in self._troubles:
            trouble.note_answer(answer)

    def note_status(self, status: PipelineStatus) -> None:
        """Take a status."""
        now_ns = status.time_ns
        self._last_ns = max(self._last_ns, now_ns)
        self._verdicts["I1"].judged += 1
        before, self._status = self._status, status
        has_restarted = before is not None and status.results < before.results
        for name, stream in status.streams.items():
            if not stream.balanced:
                self._violate("I1", now_ns, f"{name}: {stream.received} received, but {_fates(stream)}")
            past = before.streams.get(name) if before is not None and not has_restarted else None
            for count in _COUNTS if past is not None else ():
                was, came = getattr(past, count), getattr(stream, count)
                if came < was:
                    self._violate("I1", now_ns, f"{name}: {count} fell from {was} to {came}")
        if before is not None:
            limit_ns = RESTART_NS + STATUS_PERIOD_NS if has_restarted else STATUS_GAP_NS
            self._judge_pause("status", before.time_ns, now_ns, limit_ns)
        for trouble in self._troubles:
            trouble.note_status(status)

    def judgement(self) -> Judgement:
        """Return what was found; a trouble that the flight's end cut short is not judged."""
        for trouble in self._troubles:
            if trouble.is_shown and self._last_ns - trouble.start_ns > SEEN_WITHIN_NS + TOLERANCE_NS:
                self._judge_seen(trouble)
            if trouble.is_over and self._last_ns - trouble.end_ns > NOMINAL_WITHIN_NS + TOLERANCE_NS:
                self._judge_used(trouble)
        whys = {
            "I1": "no status",
            "I2": "no answer",
            "I3": "neither two answers nor two statuses",
            "I4": "no fault was named or is to be seen that ends 2 s before the flight's end",
        }
        for name, why in whys.items():
            self._verdicts[name].not_judged = "" if self._verdicts[name].judged else why
        return Judgement(self._verdicts)

    def _judge_seen(self, trouble: Trouble) -> None:
        self._verdicts["I3"].judged += 1
        if trouble.is_seen_in_time(self._last_ns):
            return
        at_ns = trouble.hidden_ns or trouble.start_ns + SEEN_WITHIN_NS
        used = f"{trouble.stream} is used" if trouble.hidden_ns else "neither answer nor status says so"
        self._violate("I3", at_ns, f"{trouble.what}: {used} more than 1 s after its beginning")

    def _judge_used(self, trouble: Trouble) -> None:
        self._verdicts["I4"].judged += 1
        if not trouble.is_used_in_time():
            at_ns = round(trouble.end_ns) + NOMINAL_WITHIN_NS
            self._violate("I4", at_ns, f"{trouble.what}: {trouble.stream} is not used 2 s after its end")

    def _judge_pause(self, what: str, before_ns: int, now_ns: int, limit_ns: int) -> None:
        self._verdicts["I3"].judged += 1
        begin_ns = max(before_ns, self._pardoned_ns)
        if now_ns - begin_ns > limit_ns + TOLERANCE_NS:
            self._violate("I3", begin_ns + limit_ns, f"no {what} for {(now_ns - begin_ns) / NS_PER_S:.2f} s")

    def _violate(self, name: str, at_ns: int, text: str) -> None:
        verdict = self._verdicts[name]
        verdict.judged = max(verdict.judged, 1)
        verdict.violate((at_ns - self._terms.begin_ns) / NS_PER_S, text)


def faults_of(answer: Classification, max_age_ms: float) -> list[str]:
    """Return what is wrong with an answer by itself."""
    present = [modality for modality in answer.modalities if modality.mask > 0]
    found = [
        f"{modality.name} is {modality.age_ms:.1f} ms old, at most {max_age_ms:g} are allowed"
        for modality in present
        if not modality.age_ms <= max_age_ms + AGE_TOLERANCE_MS
    ]
    weights = sum(modality.weight for modality in present)
    if present and not abs(weights - 1.0) <= SUM_TOLERANCE:
        found.append(f"the weights sum to {weights:.6f}")
    found += [
        f"{modality.name}: entropy {modality.entropy}"
        for modality in present
        if not -SUM_TOLERANCE <= modality.entropy <= 1 + SUM_TOLERANCE
    ]
    return found + (_faults_of_probs(answer) if answer.has_answer else _faults_of_no_data(answer, bool(present)))


def _faults_of_probs(answer: Classification) -> list[str]:
    found = []
    if not all(math.isfinite(p) and 0.0 <= p <= 1.0 for p in answer.probs):
        found.append(f"probabilities {answer.probs}")
    elif not abs(sum(answer.probs) - 1.0) <= SUM_TOLERANCE:
        found.append(f"the probabilities sum to {sum(answer.probs):.6f}")
    elif answer.class_id >= len(answer.probs) or answer.probs[answer.class_id] != answer.confidence:
        found.append(f"confidence {answer.confidence} is not the probability of class {answer.class_id}")
    return found


def _faults_of_no_data(answer: Classification, has_any: bool) -> list[str]:
    return ["NO_DATA with an input or probabilities"] if has_any or answer.probs or answer.confidence else []


def _fates(stream: StreamAccounting) -> str:
    counts = {name: getattr(stream, name) for name in _COUNTS[1:-1]}
    counts |= {"rejected": sum(stream.rejected.values()), "in flight": stream.in_flight}
    return " + ".join(f"{count} {name}" for name, count in counts.items())
