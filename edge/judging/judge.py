"""Holds answers and statuses to what is promised of every flight, one after the other, in constant memory."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge.faults.fault import PROCESS_KILL, Fault
from edge.judging.trouble import (
    NS_PER_S,
    SEEN_WITHIN_NS,
    STATUS_LATE_NS,
    Trouble,
    as_far_as_seen,
)
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
KILL_LATE_NS = NS_PER_S
"""So much later than planned a busy machine may kill."""
START_NS = 200_000_000
"""No pipeline starts within less: numbers that fall sooner are out of order."""
_ANSWER, _STATUS = "answer", "status"
_COUNTS = ("received", "processed", "superseded", "dropped_late", "gathered", "shed", "lost_transport")


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What a flight is held to."""

    begin_ns: int
    """Of the flight, in the time of its messages."""
    max_age_ms: float
    quiet_ns: int
    """Longest time without an answer; at least that of NO_DATA, longer where streams are slow."""
    status_late_ns: int = STATUS_LATE_NS
    """How much later than 1 s a status may tell of a stream that is not live any more."""
    kills_ns: tuple[int, ...] = ()
    """When the pipeline was killed on purpose. Whenever else it is started again, it has failed."""


def quiet_ns(slowest_hz: float, patience: float) -> int:
    """Return the longest time without an answer.

    Args:
        slowest_hz: of all streams.
        patience: periods after which a stream no longer paces the answers.
    """
    return round(max(1.0, patience / slowest_hz) * NS_PER_S)


def kills_of(faults: Sequence[Fault], begin_ns: int, rate: float = 1.0) -> tuple[int, ...]:
    """Return when faults kill the pipeline of a flight that begins at `begin_ns` and is played at a rate."""
    return tuple(sorted(fault.window_ns(begin_ns, rate)[0] for fault in faults if fault.name == PROCESS_KILL))


class Judge:
    """Judges one flight. Tell it everything in the order of time, then ask for the judgement."""

    def __init__(self, terms: Terms, troubles: Sequence[Trouble] = ()) -> None:
        without = [(kill_ns, kill_ns + KILL_LATE_NS + RESTART_NS) for kill_ns in terms.kills_ns]
        self._terms = terms
        self._troubles = [as_far_as_seen(trouble, without) for trouble in troubles]
        self._verdicts = {name: Verdict(promise=text) for name, text in PROMISES.items()}
        for name, why in NOT_RECORDED.items():
            self._verdicts[name].not_judged = why
        self._answer: Classification | None = None
        self._status: PipelineStatus | None = None
        self._mute_ns: int | None = None
        """Since when a pipeline has told of itself, and of no answer yet."""
        self._kills = {what: list(terms.kills_ns) for what in (_ANSWER, _STATUS)}
        """Those that have not yet been seen in answers, and in statuses."""
        self._pardoned_ns = -1

    def pardon(self, until_ns: int) -> None:
        """Let nothing have to be said until a time: what happened before was not looked at."""
        self._pardoned_ns = max(self._pardoned_ns, until_ns)

    def put_off(self, since_ns: int, by_ns: int) -> None:
        """Expect faults later, where the flight was slowed down: those that were to happen after `since_ns`."""
        for trouble in self._troubles:
            trouble.put_off(since_ns, by_ns)
        for what, kills_ns in self._kills.items():
            self._kills[what] = [kill_ns + by_ns if kill_ns > since_ns else kill_ns for kill_ns in kills_ns]

    def note_unreadable(self, at_ns: int, why: str) -> None:
        """Take an answer or a status that is none."""
        self._violate("I2", at_ns, f"not readable: {why}")

    def note_answer(self, answer: Classification) -> None:
        """Take an answer."""
        now_ns = answer.answer_ns
        self._verdicts["I2"].judged += 1
        for text in faults_of(answer, self._terms.max_age_ms):
            self._violate("I2", now_ns, text)
        for modality in answer.modalities:
            if bool(modality.reason) == (modality.mask > 0):
                text = f"{modality.name} has mask {modality.mask:g} and the reason {modality.reason!r}"
                self._violate("I3", now_ns, text)
        before, self._answer = self._answer, answer
        if before is not None:
            self._judge_pause(_ANSWER, before.answer_ns, now_ns)
            has_paused = now_ns - before.answer_ns >= START_NS
            if answer.sequence < before.sequence and has_paused:
                self._judge_restart(_ANSWER, before.answer_ns, now_ns)
            elif answer.sequence <= before.sequence:
                self._violate("I1", now_ns, f"answer {answer.sequence} comes after answer {before.sequence}")
        for trouble in self._troubles:
            trouble.note_answer(answer)

    def note_status(self, status: PipelineStatus) -> None:
        """Take a status."""
        now_ns = status.time_ns
        self._verdicts["I1"].judged += 1
        before, self._status = self._status, status
        if status.results:
            self._mute_ns = None
        elif self._mute_ns is None:
            self._mute_ns = now_ns
        for name, stream in status.streams.items():
            if not stream.balanced:
                self._violate("I1", now_ns, f"{name}: {stream.received} received, but {_fates(stream)}")
        if before is not None:
            self._judge_pause(_STATUS, before.time_ns, now_ns)
            self._judge_counts(before, status)
        for trouble in self._troubles:
            trouble.note_status(status)

    def judgement(self, end_ns: int) -> Judgement:
        """Return what was found; a trouble that the flight's end cut short is not judged.

        Args:
            end_ns: of the flight, in the time of its messages: until then answers and statuses must have come.
        """
        judge = copy.copy(self)
        judge._verdicts = copy.deepcopy(self._verdicts)
        return judge._ended(end_ns)

    def _ended(self, end_ns: int) -> Judgement:
        answered_ns = self._answer.answer_ns if self._answer is not None else self._mute_ns
        if answered_ns is not None:
            self._judge_pause(_ANSWER, answered_ns, end_ns, ", to the end of the flight")
        if self._status is not None:
            self._judge_pause(_STATUS, self._status.time_ns, end_ns, ", to the end of the flight")
        for trouble in self._troubles:
            if trouble.must_be_seen(end_ns, self._terms.status_late_ns):
                self._judge_seen(trouble, end_ns)
            if trouble.is_over and end_ns > trouble.used_by_ns + TOLERANCE_NS:
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

    def _judge_counts(self, before: PipelineStatus, status: PipelineStatus) -> None:
        """Hold a status's counts against those of the one before: none falls, unless the pipeline began anew."""
        fallen = [
            (name, count, getattr(past, count), getattr(stream, count))
            for name, stream in status.streams.items()
            if (past := before.streams.get(name)) is not None
            for count in _COUNTS
            if getattr(stream, count) < getattr(past, count)
        ]
        is_killed = self._kill_between(_STATUS, before.time_ns, status.time_ns) is not None
        if status.results < before.results or (fallen and is_killed):
            self._judge_restart(_STATUS, before.time_ns, status.time_ns)
            return
        for name, count, was, came in fallen:
            self._violate("I1", status.time_ns, f"{name}: {count} fell from {was} to {came}")

    def _judge_restart(self, what: str, before_ns: int, now_ns: int) -> None:
        """Take the pipeline's new beginning, which somebody must have made on purpose, or nobody have seen."""
        self._verdicts["I3"].judged += 1
        kill_ns = self._kill_between(what, before_ns, now_ns)
        if kill_ns is not None:
            self._kills[what].remove(kill_ns)
        elif self._pardoned_ns < before_ns:
            text = f"the pipeline was started again, {(now_ns - before_ns) / NS_PER_S:.2f} s after its last {what}"
            self._violate("I3", before_ns, f"{text}, and nobody had killed it on purpose")

    def _kill_between(self, what: str, before_ns: int, now_ns: int) -> int | None:
        """Return when the pipeline was killed on purpose between two answers or statuses; None where it was not."""
        return next((kill for kill in self._kills[what] if before_ns - KILL_LATE_NS <= kill <= now_ns), None)

    def _judge_seen(self, trouble: Trouble, end_ns: int) -> None:
        self._verdicts["I3"].judged += 1
        if trouble.is_seen_in_time(end_ns, self._terms.status_late_ns):
            return
        at_ns = trouble.hidden_ns or trouble.start_ns + SEEN_WITHIN_NS
        used = f"{trouble.stream} is used" if trouble.hidden_ns else "neither answer nor status says so"
        self._violate("I3", at_ns, f"{trouble.what}: {used} more than 1 s after its beginning")

    def _judge_used(self, trouble: Trouble) -> None:
        self._verdicts["I4"].judged += 1
        if not trouble.is_used_in_time():
            at_ns = round(trouble.used_by_ns)
            self._violate("I4", at_ns, f"{trouble.what}: {trouble.stream} is not used 2 s after its end")

    def _judge_pause(self, what: str, before_ns: int, now_ns: int, until: str = "") -> None:
        self._verdicts["I3"].judged += 1
        is_killed = self._kill_between(what, before_ns, now_ns) is not None
        if what == _STATUS:
            limit_ns = RESTART_NS + STATUS_PERIOD_NS if is_killed else STATUS_GAP_NS
        else:
            limit_ns = RESTART_NS if is_killed else self._terms.quiet_ns
        begin_ns = max(before_ns, self._pardoned_ns)
        if now_ns - begin_ns > limit_ns + TOLERANCE_NS:
            self._violate("I3", begin_ns + limit_ns, f"no {what} for {(now_ns - begin_ns) / NS_PER_S:.2f} s{until}")

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
