"""Two lists of answers to the same flight, side by side."""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from edge.regression.outcome import Answer
from edge.transport.messages import NO_DATA


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """An answer that became another one."""

    after_s: float
    """Capture time since the beginning of the flight."""
    old: str
    new: str
    old_confidence: float
    new_confidence: float
    truth: str
    """Empty where nobody knows."""

    @property
    def effect(self) -> str:
        """Say what became of it: `fixed`, `broken`, or empty where it was and is wrong, or nobody knows."""
        if not self.truth:
            return ""
        return "fixed" if self.new == self.truth else "broken" if self.old == self.truth else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What differs between the answers to one flight."""

    old_count: int
    new_count: int
    paired: int
    """Answers that were given both times, to the same data."""
    changes: tuple[Change, ...]
    largest_shift: float = 0.0
    """Of the confidence, among answers that stayed the same."""
    shift_after_s: float = 0.0
    """When that was."""
    old_no_data: int = 0
    """Answers that were none."""
    new_no_data: int = 0

    @property
    def gone(self) -> int:
        """Return how many answers are given no more."""
        return self.old_count - self.paired

    @property
    def came(self) -> int:
        """Return how many answers were not given before."""
        return self.new_count - self.paired

    def effects(self, effect: str) -> int:
        """Return how many changes had an effect, see `Change.effect`."""
        return sum(change.effect == effect for change in self.changes)


def compare(old: Sequence[Answer], new: Sequence[Answer]) -> Comparison:
    """Hold the answers to a flight against those of before.

    Answers belong together that were caused by data captured at the same time; several of one time pair up in order.
    """
    paired, largest, where_s = 0, 0.0, 0.0
    changes = []
    for before, now in _pairs(old, new):
        paired += 1
        if before.label != now.label:
            changes.append(_change(before, now))
        elif abs(now.confidence - before.confidence) > largest:
            largest, where_s = abs(now.confidence - before.confidence), now.after_us / 1e6
    return Comparison(
        old_count=len(old),
        new_count=len(new),
        paired=paired,
        changes=tuple(changes),
        largest_shift=largest,
        shift_after_s=where_s,
        old_no_data=sum(one.label == NO_DATA for one in old),
        new_no_data=sum(one.label == NO_DATA for one in new),
    )


def _pairs(old: Sequence[Answer], new: Sequence[Answer]) -> Iterator[tuple[Answer, Answer]]:
    before = dict(_named(old))
    for name, answer in _named(new):
        if name in before:
            yield before[name], answer


def _named(answers: Sequence[Answer]) -> Iterator[tuple[Hashable, Answer]]:
    seen: Counter[int] = Counter()
    for answer in answers:
        seen[answer.after_us] += 1
        yield (answer.after_us, seen[answer.after_us]), answer


def _change(old: Answer, new: Answer) -> Change:
    return Change(
        after_s=new.after_us / 1e6,
        old=old.label,
        new=new.label,
        old_confidence=old.confidence,
        new_confidence=new.confidence,
        truth=new.truth or old.truth,
    )
